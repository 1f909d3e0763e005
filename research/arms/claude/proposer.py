"""The Claude proposer: asks Claude, validates the answer, and accounts for every attempt."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal

from research.arms.claude import batches, prices, reply
from research.arms.claude import prompt as prompts
from research.arms.claude.attempt import Asked, Attempt, cost_at_most
from research.arms.claude.client import MAX_TOKENS, Client
from research.arms.claude.pending import Pending
from research.arms.claude.prompt import Prompt
from research.arms.claude.reply import Read
from research.change.drafts import Allowance, Answer, Brief, Draft, Origin, Usage

DEFAULT_MODEL = "claude-opus-5-5"
TRANSIENT_S = 60.0  # overload, timeout, lost connection, unless the server names a time
ACCOUNT_S = 3_600.0  # a wrong key or a reached limit: a person has to act first
NO_PRICE = (
    "{model} has no price in research/arms/claude/prices.toml, so what it would spend cannot be kept below a cap and it"
    " is not asked; add its price, or choose another model."
)


@dataclass(frozen=True, kw_only=True)
class Quote:
    """The size of a request before it is sent, and the most that it can cost."""

    model: str
    num_tokens: int | None = None
    usd_at_most: Decimal | None = None
    problem: str = ""
    counting: Attempt | None = None  # where that is what failed


class ClaudeProposer:
    """A Proposer. A failure is a ``problem`` in one sentence, never an exception; usages are always kept."""

    arm = "claude"

    def __init__(
        self,
        *,
        api_key: str = "",
        model: str = DEFAULT_MODEL,
        fallback_model: str | None = None,
        allowance: Allowance | None = None,
        timeout_s: float = 600.0,
        total_s: float = 780.0,
        sending: Callable[[Usage], int | None] = lambda usage: None,
        heard: Callable[[Usage], object] = lambda usage: None,
    ) -> None:
        """``api_key`` defaults to ANTHROPIC_API_KEY; ``fallback_model`` is asked when ``model`` declines.

        A request that could cost more than ``allowance`` (default: $2 a call) is not sent, nor one of unknown price.

        One attempt takes at most ``timeout_s``, all attempts of a call together ``total_s``. ``sending`` is called
        before each attempt, ``heard`` after it (see ``Client``). Raises ValueError without a key.
        """
        key = (api_key or os.environ.get("ANTHROPIC_API_KEY", "")).strip()
        if not key:
            raise ValueError("ANTHROPIC_API_KEY: empty; set it, or use the offline proposer")
        self.model = model
        self.fallback_model = fallback_model
        self.allowance = allowance or Allowance(usd_per_call=Decimal(2), usd_left=Decimal(2))
        self.total_s = total_s
        self.client = Client(api_key=key, timeout_s=timeout_s, sending=sending, heard=heard)

    def draft(self, brief: Brief) -> Answer:
        """Up to ``brief.num_wanted`` drafts; ``problem`` also says why others were dropped."""
        return self._answer(brief, prompts.propose(brief), brief.num_wanted)

    def revise(self, brief: Brief, previous: Draft, comment: str) -> Answer:
        """One draft that answers ``comment``."""
        return self._answer(brief, prompts.revise(brief, previous, comment), 1)

    def submit(self, brief: Brief, keep: Callable[[Pending], None]) -> tuple[Pending | None, Answer]:
        """Submit the request as a batch at half price; or an Answer that says why not.

        ``keep`` is called just before it is sent, so that its cost is on record if this process dies before its id is
        known.
        """
        prompt = prompts.propose(brief)
        quote = self.quote(self.model, prompt)
        if quote.usd_at_most is None or quote.problem:
            return None, _unsent(quote, [])
        usd_at_most = quote.usd_at_most * batches.SHARE
        pending = Pending(
            id="",
            model=self.model,
            prompt_sha256=prompt.sha256(),
            templates_sha256=prompts.templates_sha256(),
            num_wanted=brief.num_wanted,
            usd_at_most=str(usd_at_most),
            at=datetime.now(UTC).isoformat(),
        )
        keep(pending)
        batch_id, attempt = batches.create(self.client, self.model, prompt, reply.schema())
        if batch_id:
            return replace(pending, id=batch_id), Answer()
        usage = attempt.usage if attempt.usage.usd is not None else replace(attempt.usage, usd_at_most=usd_at_most)
        asked = [Asked(last=attempt, usages=(usage,))]
        return None, _read(asked, brief, _origin(self.model, prompt), brief.num_wanted)

    def collect(self, brief: Brief, pending: Pending) -> Answer | None:
        """The drafts of a batch, checked against the recipe as it is now.

        None while it is worked on; while it cannot be reached, an Answer that ``is_late`` and says why.
        """
        attempt = batches.collect(self.client, pending) if pending.id else batches.lost(pending)
        if attempt.retry:
            late = Answer(problem=attempt.problem, retry_after_s=attempt.retry_after_s, is_late=True)
            return late if attempt.problem else None
        asked = [Asked(last=attempt, usages=(attempt.usage,))]
        return _read(asked, brief, pending.origin, pending.num_wanted)

    def quote(self, model: str, prompt: Prompt, spent: Decimal = Decimal(0)) -> Quote:
        """Count ``prompt``'s tokens and price them; ``problem`` says why it must not be sent to ``model``."""
        if prices.at_most(model, on=_today(), input_tokens=0, output_tokens=0) is None:
            return Quote(model=model, problem=NO_PRICE.format(model=model))
        counting = self.client.count(model, prompt, reply.schema())
        if counting.counted is None:
            return Quote(model=model, problem=counting.problem, counting=counting)
        usd = prices.at_most(model, on=_today(), input_tokens=counting.counted, output_tokens=MAX_TOKENS)
        assert usd is not None
        problem = _too_dear(usd, self.allowance, spent)
        return Quote(model=model, num_tokens=counting.counted, usd_at_most=usd, problem=problem)

    def _answer(self, brief: Brief, prompt: Prompt, num_wanted: int) -> Answer:
        until = time.monotonic() + self.total_s
        asked: list[Asked] = []
        for model in filter(None, (self.model, self.fallback_model)):
            spent = cost_at_most(_usages(asked))
            quote = self.quote(model, prompt, spent)
            if quote.usd_at_most is None or quote.problem:
                return _unsent(quote, asked)
            left = self.allowance.usd_left - spent
            asked.append(
                self.client.ask(model, prompt, reply.schema(), until=until, usd_each=quote.usd_at_most, usd_left=left)
            )
            if not asked[-1].last.refused:
                break
        return _read(asked, brief, _origin(self.model, prompt), num_wanted)


def _today() -> date:
    return datetime.now(UTC).date()


def _too_dear(usd: Decimal, allowance: Allowance, spent: Decimal) -> str:
    if usd > allowance.usd_per_call:
        return (
            f"The request could cost ${usd:.2f}, above the cap of ${allowance.usd_per_call:.2f} a call"
            " (COUNTERSIGN_CLAUDE_USD_PER_CALL); it was not sent."
        )
    if spent + usd > allowance.usd_left:
        left = max(allowance.usd_left - spent, Decimal(0))
        return f"The request could cost ${usd:.2f}, and ${left:.2f} are left of the {allowance.name}; it was not sent."
    return ""


def _unsent(quote: Quote, asked: list[Asked]) -> Answer:
    """The Answer when a request was not sent; requests before it are still paid for."""
    return Answer(
        usages=_usages(asked),
        problem=quote.problem,
        retry_after_s=ACCOUNT_S if quote.counting is None else _ask_again_after_s(quote.counting),
    )


def _read(asked: list[Asked], brief: Brief, origin: Origin, num_wanted: int) -> Answer:
    """The Answer from all attempts. ``origin`` names the model that was asked; a fallback may have answered."""
    last = asked[-1].last
    said = Read(problem=last.problem)
    if last.reply is not None:
        origin = replace(origin, model=last.reply.model)
        said = reply.read(last.reply.text, brief, origin, num_wanted)
    return Answer(
        drafts=said.drafts,
        design=said.design,
        usages=_usages(asked),
        problem=said.problem,
        retry_after_s=_ask_again_after_s(last),
    )


def _usages(asked: list[Asked]) -> tuple[Usage, ...]:
    return tuple(usage for a in asked for usage in a.usages)


def _ask_again_after_s(last: Attempt) -> float | None:
    """Seconds until the same request may work; None when the answer, not the service, was at fault."""
    if last.retry:
        return TRANSIENT_S if last.retry_after_s is None else last.retry_after_s
    return ACCOUNT_S if last.account else None


def _origin(model: str, prompt: Prompt) -> Origin:
    return Origin(model=model, prompt_sha256=prompt.sha256(), templates_sha256=prompts.templates_sha256())
