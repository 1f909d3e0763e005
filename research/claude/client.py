"""One question to the Messages API: bounded in time, attempts, size and patience; every attempt is in the ledger.

The SDK's own retries are off, and its parsing of the answer is not used: on a mismatch it raises and loses the
usage that was paid for. The body is read as bytes under a deadline and a cap, kept as it came, and read here.

    Attempt
    ├── reply               the model answered (end_turn); what it said is the caller's to validate
    ├── counted             how many tokens a prompt has, asked before it is sent
    ├── refused             stop_reason refusal, with its category: another model may be asked
    ├── retry               429, 5xx, 529, timeout, lost connection: asked again, at most ``attempts`` times
    └── final               401, 400, 413, spend limit, truncated, unreadable: a sentence, and no second try
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import anthropic
import httpx2  # the SDK's transport: errors while a body is read come from it, unwrapped
from anthropic.types import JSONOutputFormatParam
from pydantic import BaseModel, ConfigDict, ValidationError

from research.claude.prices import price
from research.claude.prompt import Prompt
from research.drafts import Usage

MAX_BODY_BYTES = 4 * 2**20  # 20,000 tokens are some 100 kB; more than this is not an answer
COUNT_S = 30.0
SHORTEST_S = 0.05  # an attempt that has less time left is not worth its request
MAX_TOKENS = 20_000  # thinking included; above some 21,000 the API wants streaming


class OverdueError(Exception):
    """The body was still arriving when the deadline passed."""


class TooLargeError(Exception):
    """The body exceeds MAX_BODY_BYTES."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model said, and the body it came in."""

    text: str
    model: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One HTTP attempt: its cost, and either a reply or a problem in one sentence."""

    usage: Usage
    reply: Reply | None = None
    problem: str = ""
    refused: bool = False
    retry: bool = False
    account: bool = False  # key, limit or model: asking again is in vain until a person has acted
    retry_after_s: float | None = None
    body: str = ""
    counted: int | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The last attempt, and the usages and bodies of all of them."""

    last: Attempt
    usages: tuple[Usage, ...]
    bodies: tuple[str, ...]


@dataclass
class Client:
    """Asks one question at a time. ``sleep`` and ``attempts`` are here for tests and for impatient callers."""

    api_key: str
    timeout_s: float = 600.0
    attempts: int = 3
    patience_s: float = 30.0  # longest pause before another attempt; a longer Retry-After is left to the caller
    sleep: Callable[[float], None] = time.sleep
    sdk: anthropic.Anthropic = field(init=False, repr=False)

    def __post_init__(self) -> None:
        assert self.attempts >= 1
        assert self.timeout_s > 0
        # One or two requests in minutes: a connection that is kept would only be one more to close.
        limits = httpx2.Limits(max_keepalive_connections=0)
        transport = anthropic.DefaultHttpxClient(limits=limits)
        self.sdk = anthropic.Anthropic(api_key=self.api_key, max_retries=0, http_client=transport)

    def count(self, model: str, prompt: Prompt, schema: dict[str, Any]) -> Attempt:
        """Ask how many tokens ``prompt`` has: ``counted``, or the problem. It costs nothing."""
        started = time.monotonic()

        def ask() -> Attempt:
            with self.sdk.messages.with_streaming_response.count_tokens(
                model=model,
                system=prompt.system,
                messages=prompt.messages,
                output_config={"format": {"type": "json_schema", "schema": schema}},
                timeout=COUNT_S,
            ) as response:
                body = body_of(response.iter_bytes(), started + COUNT_S)
            return _counted(body, model, time.monotonic() - started)

        return told(ask, model, COUNT_S)

    def ask(
        self,
        model: str,
        prompt: Prompt,
        schema: dict[str, Any],
        *,
        until: float,
        usd_each: Decimal,
        usd_left: Decimal,
    ) -> Asked:
        """Ask until there is an answer, a final problem, no attempt left, or ``time.monotonic()`` reaches ``until``.

        An attempt costs at most ``usd_each``; none is begun that could carry their sum above ``usd_left``.
        Never raises for what the API or the network does.
        """
        made: list[Attempt] = []
        for number in range(1, self.attempts + 1):
            left = max(SHORTEST_S, until - time.monotonic())
            made.append(_bounded(self._attempt(model, prompt, schema, min(self.timeout_s, left)), usd_each))
            pause = _pause(made[-1], number)
            in_time = time.monotonic() + pause + SHORTEST_S <= until
            affordable = cost_at_most(a.usage for a in made) + usd_each <= usd_left
            if not (made[-1].retry and number < self.attempts and pause <= self.patience_s and in_time and affordable):
                break
            self.sleep(pause)
        return Asked(last=made[-1], usages=tuple(a.usage for a in made), bodies=tuple(a.body for a in made if a.body))

    def _attempt(self, model: str, prompt: Prompt, schema: dict[str, Any], timeout_s: float) -> Attempt:
        started = time.monotonic()

        def ask() -> Attempt:
            body = self._post(model, prompt, schema, timeout_s)
            return read_message(body, model, time.monotonic() - started)

        return told(ask, model, timeout_s)

    def _post(self, model: str, prompt: Prompt, schema: dict[str, Any], timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        format_: JSONOutputFormatParam = {"type": "json_schema", "schema": schema}
        with self.sdk.messages.with_streaming_response.create(
            model=model,
            max_tokens=MAX_TOKENS,
            system=prompt.system,
            messages=prompt.messages,
            output_config={"format": format_},
            timeout=anthropic.Timeout(timeout_s, connect=min(10.0, timeout_s)),
        ) as response:
            return body_of(response.iter_bytes(), deadline)


def body_of(chunks: Iterable[bytes], deadline: float) -> bytes:
    """All of an answer. TooLargeError, or OverdueError: a socket's own timeout starts anew with every byte."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLargeError
        if time.monotonic() > deadline:
            raise OverdueError
    return bytes(body)


def cost_at_most(usages: Iterable[Usage]) -> Decimal:
    """US dollars; where the cost of one is unknown, what it can be at most."""
    return sum(((u.usd_at_most or Decimal(0)) if u.usd is None else u.usd for u in usages), Decimal(0))


def _bounded(attempt: Attempt, usd_each: Decimal) -> Attempt:
    if attempt.usage.usd is not None:
        return attempt
    return replace(attempt, usage=replace(attempt.usage, usd_at_most=usd_each))


def told(ask: Callable[[], Attempt], model: str, timeout_s: float) -> Attempt:
    """What ``ask`` gives, or what the API or the network did instead, as an attempt."""
    started = time.monotonic()
    try:
        return ask()
    except anthropic.APIStatusError as error:
        return _refused_by_api(error, model, time.monotonic() - started)
    except (anthropic.APITimeoutError, httpx2.TimeoutException, OverdueError):
        return _failed(model, started, "timeout", f"Claude did not answer within {timeout_s:.3g} s.", retry=True)
    except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
        sentence = f"The connection to Claude failed: {_brief(str(error.__cause__ or error))}"
        return _failed(model, started, "connection", sentence, retry=True)
    except TooLargeError:
        sentence = f"Claude's answer is larger than {MAX_BODY_BYTES // 2**20} MiB; it was not read to the end."
        return _failed(model, started, "too_large", sentence)


def _pause(attempt: Attempt, number: int) -> float:
    """Seconds before attempt ``number + 1``: what the server asked for, else 1, 2, 4 ... with a quarter of jitter."""
    if attempt.retry_after_s is not None:
        return attempt.retry_after_s
    return 2.0 ** (number - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads callers, guards nothing


# --- attempts without an answer -----------------------------------------------------------------


def _failed(model: str, started: float, stop_reason: str, problem: str, *, retry: bool = False) -> Attempt:
    """Nobody knows whether this one is billed, so its price is unknown."""
    usage = no_tokens(model, time.monotonic() - started, stop_reason, None)
    return Attempt(usage=usage, problem=problem, retry=retry)


def no_tokens(model: str, seconds: float, stop_reason: str, usd: Decimal | None) -> Usage:
    return Usage(
        model=model,
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
        usd=usd,
        seconds=seconds,
        stop_reason=stop_reason,
    )


def _refused_by_api(error: anthropic.APIStatusError, model: str, seconds: float) -> Attempt:
    """Turned away before the model ran (4xx, 529: not billed), or broken on the way (other 5xx: unknown)."""
    code = error.status_code
    not_billed = code < 500 or code == 529
    usage = no_tokens(model, seconds, f"http_{code}", Decimal(0) if not_billed else None)
    spend_limit = (error.error_code or "").endswith("spend_limit_reached")
    return Attempt(
        usage=usage,
        problem=_sentence(error, spend_limit),
        retry=not spend_limit and (code in (408, 429) or code >= 500),
        account=spend_limit or code in (401, 402, 403, 404),
        retry_after_s=None if spend_limit else _retry_after_s(error.response.headers),
        body=error.response.text[:MAX_BODY_BYTES],
    )


def _sentence(error: anthropic.APIStatusError, spend_limit: bool) -> str:
    said = _brief(error.api_message or error.response.text or _phrase(error.status_code))
    if spend_limit:
        return f"The spend limit of this Anthropic account is reached; raise it or wait for its reset. ({said})"
    known = {
        401: "Claude refused the API key; set a valid ANTHROPIC_API_KEY.",
        404: "Claude does not know this model; check its name.",
        413: "The prompt is larger than the API accepts; shorten the program or the recipe.",
        429: "Claude's rate limit is reached; the next wave has to wait.",
        529: "Claude is overloaded; the next wave has to wait.",
    }
    return f"{known.get(error.status_code, 'Claude could not answer.')} ({error.status_code}: {said})"


def _phrase(code: int) -> str:
    return HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else "no message"


def _brief(text: str) -> str:
    return " ".join(text.split())[:300]


def _retry_after_s(headers: httpx2.Headers) -> float | None:
    """Seconds from ``retry-after-ms``, or ``retry-after`` as seconds or as a date; None when absent or unreadable."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    return max(0.0, (at.astimezone(UTC) - datetime.now(UTC)).total_seconds())


# --- the body ---------------------------------------------------------------------------------------


class _Loose(BaseModel):
    """Fields that we do not know are somebody's new feature, not an error."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _CacheCreation(_Loose):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class _Tokens(_Loose):
    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None


class _StopDetails(_Loose):
    category: str | None = None


class _Count(_Loose):
    input_tokens: int


class _Message(_Loose):
    model: str
    content: list[dict[str, Any]]
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: _Tokens


def _counted(body: bytes, model: str, seconds: float) -> Attempt:
    usage = no_tokens(model, seconds, "counted", Decimal(0))
    try:
        return Attempt(usage=usage, counted=_Count.model_validate_json(body).input_tokens)
    except ValidationError:
        return Attempt(usage=usage, problem="Claude's answer is not a count of tokens.")


def read_message(body: bytes, model: str, seconds: float, *, share: Decimal = Decimal(1)) -> Attempt:
    """Usage and stop_reason first: whatever is wrong with the rest, it was paid for, at ``share`` of the price."""
    text = body.decode("utf-8", errors="replace")
    try:
        message = _Message.model_validate_json(body)
    except ValidationError as error:
        usage = no_tokens(model, seconds, "unreadable", None)
        problem = f"Claude's answer is not a message of the API ({_brief(str(error.errors()[0]['msg']))})."
        return Attempt(usage=usage, problem=problem, body=text)
    usage = _usage(message, seconds, share)
    problem = _stopped_early(message)
    if problem:
        return Attempt(usage=usage, problem=problem, refused=message.stop_reason == "refusal", body=text)
    said = "".join(block["text"] for block in message.content if _is_text(block))
    return Attempt(usage=usage, reply=Reply(text=said, model=message.model, body=text), body=text)


def _is_text(block: dict[str, Any]) -> bool:
    """Thinking, and block types not invented yet, may stand before, between and after."""
    return block.get("type") == "text" and isinstance(block.get("text"), str)


def _stopped_early(message: _Message) -> str:
    match message.stop_reason:
        case "end_turn":
            return ""
        case "refusal":
            category = message.stop_details.category if message.stop_details else None
            return f"Claude declined to answer (category {category or 'not given'}); the campaign goes on without it."
        case "max_tokens" | "model_context_window_exceeded" as reason:
            return f"Claude's answer was cut off ({reason} after {message.usage.output_tokens:,} tokens)."
        case other:
            return f"Claude stopped without finishing its answer (stop_reason {other})."


def _usage(message: _Message, seconds: float, share: Decimal) -> Usage:
    tokens = message.usage
    written = tokens.cache_creation_input_tokens or 0
    an_hour = tokens.cache_creation.ephemeral_1h_input_tokens if tokens.cache_creation else 0
    usd = price(
        message.model,
        on=datetime.now(UTC).date(),
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_input_tokens or 0,
        cache_write_5m_tokens=max(0, written - an_hour),
        cache_write_1h_tokens=an_hour,
    )
    return Usage(
        model=message.model,
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_tokens=tokens.cache_read_input_tokens or 0,
        cache_write_tokens=written,
        usd=None if usd is None else usd * share,
        seconds=seconds,
        stop_reason=message.stop_reason or "missing",
    )
