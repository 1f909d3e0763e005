"""The proposer with a key: asks Claude, holds the answer to the contract, and accounts for every attempt."""

from __future__ import annotations

import os
import time

from research.claude import prompt as prompts
from research.claude import reply
from research.claude.client import Asked, Attempt, Client
from research.claude.prompt import Prompt
from research.drafts import Answer, Brief, Draft

DEFAULT_MODEL = "claude-opus-5-5"
TRANSIENT_S = 60.0  # overload, timeout, lost connection, unless the server names a time
ACCOUNT_S = 3_600.0  # a wrong key or a reached limit: a person has to act first


class ClaudeProposer:
    """A Proposer. What goes wrong on the way is a ``problem`` in one sentence, never an exception; usages are kept.

    ``Answer.extra`` holds ``model``, ``prompt_sha256`` and ``bodies``: the raw response of every attempt that had one.
    """

    arm = "claude"

    def __init__(
        self,
        *,
        api_key: str = "",
        model: str = DEFAULT_MODEL,
        fallback_model: str | None = None,
        timeout_s: float = 600.0,
        total_s: float = 780.0,
    ) -> None:
        """``api_key`` defaults to ANTHROPIC_API_KEY; ``fallback_model`` is asked when ``model`` declines.

        One attempt takes at most ``timeout_s``, all attempts of a call together ``total_s``. Raises ValueError
        without a key.
        """
        key = api_key or os.environ.get("ANTHROPIC_API_KEY", "")
        if not key:
            raise ValueError("ANTHROPIC_API_KEY: empty; set it, or use the offline proposer")
        self.model = model
        self.fallback_model = fallback_model
        self.total_s = total_s
        self.client = Client(api_key=key, timeout_s=timeout_s)

    def draft(self, brief: Brief) -> Answer:
        """Up to ``brief.num_wanted`` drafts; ``problem`` also says why others were dropped."""
        return self._answer(brief, prompts.propose(brief), brief.num_wanted)

    def revise(self, brief: Brief, previous: Draft, comment: str) -> Answer:
        """One draft that answers ``comment``."""
        return self._answer(brief, prompts.revise(brief, previous, comment), 1)

    def _answer(self, brief: Brief, prompt: Prompt, num_wanted: int) -> Answer:
        until = time.monotonic() + self.total_s
        asked = [self.client.ask(self.model, prompt, reply.SCHEMA, until=until)]
        if asked[-1].last.refused and self.fallback_model:
            asked.append(self.client.ask(self.fallback_model, prompt, reply.SCHEMA, until=until))
        last = asked[-1].last
        drafts: tuple[Draft, ...] = ()
        problem, model = last.problem, self.model
        if last.reply is not None:
            model = last.reply.model
            source = f"{model}, prompt {prompt.sha256()[:12]}"
            drafts, problem = reply.read(last.reply.text, brief, source, num_wanted)
        return Answer(
            drafts=drafts,
            usages=tuple(usage for a in asked for usage in a.usages),
            problem=problem,
            retry_after_s=_ask_again_after_s(last),
            extra=_record(asked, model, prompt),
        )


def _ask_again_after_s(last: Attempt) -> float | None:
    """When the same question may be worth asking again; None when the answer, not the service, was at fault."""
    if last.retry:
        return TRANSIENT_S if last.retry_after_s is None else last.retry_after_s
    return ACCOUNT_S if last.account else None


def _record(asked: list[Asked], model: str, prompt: Prompt) -> dict[str, object]:
    return {
        "model": model,
        "prompt_sha256": prompt.sha256(),
        "bodies": [body for a in asked for body in a.bodies],
    }
