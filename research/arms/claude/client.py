"""One request to the Messages API: bounded in time, attempts, size and cost; every attempt is entered in the ledger.

The SDK's own retries are off, and its parsing of the answer is not used: on a mismatch it raises and loses the
usage that was paid for. The body is read as bytes under a deadline and a cap, kept as it came, and read by ``message``.

    Attempt
    ├── reply               the model answered (end_turn); the caller validates the answer
    ├── counted             how many tokens a prompt has, asked before it is sent
    ├── refused             stop_reason refusal, with its category: another model may be asked
    ├── retry               408, 409, 429, 5xx, 529, timeout, lost connection: asked again, at most ``attempts`` times
    └── final               3xx, 401, 400, 413, spend limit, truncated, unreadable, a page that is not the API's:
                            a sentence, and no second try
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import anthropic
import httpx2  # the SDK's transport: errors while a body is read come from it, unwrapped
from anthropic.types import JSONOutputFormatParam

from gpu_runner.contract import retry_after_s
from research.arms.claude.attempt import Asked, Attempt, as_text, cost_at_most, no_tokens, short
from research.arms.claude.message import read_count, read_message
from research.arms.claude.prompt import Prompt
from research.arms.claude.wire import (
    GRACE_S,
    MAX_ERROR_BYTES,
    Came,
    ElsewhereError,
    OverdueError,
    Response,
    TooLargeError,
    TurnedAwayError,
    http_client,
    refuse_page,
    within,
)
from research.change.drafts import OverCap, Usage

MAX_BODY_BYTES = 4 * 2**20  # 20,000 tokens are some 100 kB; more than this is not an answer
COUNT_S = 30.0
MAX_ID = 100
MAX_PART_OF_KEY = 6  # characters of it that may be shown: every key begins with as many that all have
SHORTEST_S = 0.05  # an attempt that has less time left is not worth its request
MAX_TOKENS = 20_000  # thinking included; above some 21,000 the API wants streaming


@dataclass
class Client:
    """Sends one request at a time. ``sleep`` and ``attempts`` are for tests and for callers that cannot wait.

    ``sending`` is called before every attempt of ``ask``, and returns the id of its ledger row; it raises OverCap to
    forbid it. ``heard`` gets the usage right after the attempt.
    """

    api_key: str = field(repr=False)
    timeout_s: float = 600.0
    attempts: int = 3
    patience_s: float = 30.0  # longest pause before another attempt; a longer Retry-After is left to the caller
    sleep: Callable[[float], None] = time.sleep
    sending: Callable[[Usage], int | None] = lambda usage: None
    heard: Callable[[Usage], object] = lambda usage: None
    sdk: anthropic.Anthropic = field(init=False, repr=False)

    def __post_init__(self) -> None:
        assert self.attempts >= 1
        assert self.timeout_s > 0
        self.sdk = anthropic.Anthropic(api_key=self.api_key, max_retries=0, http_client=http_client())

    def count(self, model: str, prompt: Prompt, schema: dict[str, Any]) -> Attempt:
        """How many tokens ``prompt`` has: ``counted``, or the problem. Costs nothing."""
        started = time.monotonic()

        def ask(came: Came) -> Attempt:
            with self.sdk.messages.with_streaming_response.count_tokens(
                model=model,
                system=prompt.system,
                messages=prompt.messages,
                output_config={"format": {"type": "json_schema", "schema": schema}},
                timeout=COUNT_S,
            ) as response:
                body = self.body_of(response, came, started + COUNT_S)
            return read_count(body, model, time.monotonic() - started)

        return self.told(ask, model, COUNT_S, wanted="a count of tokens")

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
            try:
                row = self.sending(replace(no_tokens(model, 0.0, "sent", None), usd_at_most=usd_each))
            except OverCap as cap:
                return _asked(made, model, problem=str(cap))
            left = max(SHORTEST_S, until - time.monotonic())
            attempt = self._attempt(model, prompt, schema, min(self.timeout_s, left))
            made.append(_bounded(attempt, usd_each, row))
            self.heard(made[-1].usage)
            pause = _pause(made[-1], number)
            in_time = time.monotonic() + pause + SHORTEST_S <= until
            affordable = cost_at_most(a.usage for a in made) + usd_each <= usd_left
            again = made[-1].retry and made[-1].at_once and number < self.attempts
            if not (again and pause <= self.patience_s and in_time and affordable):
                break
            self.sleep(pause)
        return _asked(made, model)

    def _attempt(self, model: str, prompt: Prompt, schema: dict[str, Any], timeout_s: float) -> Attempt:
        started = time.monotonic()

        def ask(came: Came) -> Attempt:
            body = self._post(model, prompt, schema, timeout_s, came)
            return read_message(body, model, time.monotonic() - started)

        return self.told(ask, model, timeout_s)

    def _post(self, model: str, prompt: Prompt, schema: dict[str, Any], timeout_s: float, came: Came) -> bytes:
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
            return self.body_of(response, came, deadline)

    def body_of(self, response: Response, came: Came, deadline: float) -> bytes:
        """The whole body of a response, without our key; ``came`` has what arrived so far.

        Raises what ``Came.take`` does, and ElsewhereError where the answer is not the API's.
        """
        came.take(response, deadline=deadline, most=MAX_BODY_BYTES)
        body = self._without_key(came.body)
        refuse_page(response, body)
        return body

    def told(
        self, ask: Callable[[Came], Attempt], model: str, timeout_s: float, *, wanted: str = "a message of the API"
    ) -> Attempt:
        """The attempt that ``ask`` returns, or one for what the API or the network raised; with the body that came."""
        came = Came()
        attempt = self._told(lambda: ask(came), came, model, timeout_s, wanted)
        request_id = self._without_key(came.headers.get("request-id", "").encode(errors="replace"))
        return _kept(attempt, self._without_key(came.body), request_id)

    def _told(self, ask: Callable[[], Attempt], came: Came, model: str, timeout_s: float, wanted: str) -> Attempt:
        started = time.monotonic()
        try:
            return within(timeout_s + GRACE_S, ask)
        except TurnedAwayError as error:
            came.headers, came.body = error.headers, bytearray(error.body)
            return _turned_away(error, self._without_key(error.body), model, time.monotonic() - started)
        except (anthropic.APITimeoutError, httpx2.TimeoutException, OverdueError):
            return _failed(model, started, "timeout", f"Claude did not answer within {timeout_s:.3g} s.", retry=True)
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            why = self._without_key(str(error.__cause__ or error).encode(errors="replace")).decode()
            return _failed(model, started, "connection", f"The connection to Claude failed: {short(why)}", retry=True)
        except ElsewhereError as error:
            return _failed(model, started, "unreadable", f"Claude's answer is not {wanted}. {error}")
        except TooLargeError:
            del came.body[MAX_ERROR_BYTES:]  # enough to see what it was
            sentence = f"Claude's answer is larger than {MAX_BODY_BYTES // 2**20} MiB; it was not read to the end."
            return _failed(model, started, "too_large", sentence)

    def _without_key(self, said: bytes | bytearray) -> bytes:
        """``said`` without our key, before it is cut to a sentence, where a part of the key would not be recognised.

        A body that broke off may end in the beginning of the key.
        """
        key = self.api_key.encode()
        bare = bytes(said).replace(key, b"(the key)")
        ends = (n for n in range(len(key) - 1, MAX_PART_OF_KEY, -1) if bare.endswith(key[:n]))
        return bare[: -next(ends, 0) or None]


def _asked(made: list[Attempt], model: str, problem: str = "") -> Asked:
    """All attempts; ``problem`` is why none was made. The last attempt tells more, where there is one."""
    last = (
        made[-1] if made else Attempt(usage=no_tokens(model, 0.0, "not_sent", Decimal(0)), problem=problem, retry=True)
    )
    return Asked(last=last, usages=tuple(a.usage for a in made))


def _kept(attempt: Attempt, body: bytes, request_id: bytes) -> Attempt:
    """``attempt`` with the body as it came, and the request id, which Anthropic's support asks for."""
    name = short(as_text(request_id), MAX_ID)
    return replace(attempt, usage=replace(attempt.usage, body=as_text(body), request_id=name))


def _bounded(attempt: Attempt, usd_each: Decimal, row: int | None) -> Attempt:
    usd_at_most = usd_each if attempt.usage.usd is None else None
    return replace(attempt, usage=replace(attempt.usage, usd_at_most=usd_at_most, row=row))


def _pause(attempt: Attempt, number: int) -> float:
    """Seconds before attempt ``number + 1``: what the server asked for, else 1, 2, 4 ... with a quarter of jitter."""
    if attempt.retry_after_s is not None:
        return attempt.retry_after_s
    return 2.0 ** (number - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - spreads callers, guards nothing


# --- attempts without an answer -----------------------------------------------------------------


def _failed(model: str, started: float, stop_reason: str, problem: str, *, retry: bool = False) -> Attempt:
    """An attempt without an answer. Nobody knows whether it is billed, so its price is unknown."""
    usage = no_tokens(model, time.monotonic() - started, stop_reason, None)
    return Attempt(usage=usage, problem=problem, retry=retry)


def _turned_away(error: TurnedAwayError, body: bytes, model: str, seconds: float) -> Attempt:
    """An attempt with an error status: not billed where the model never ran (3xx, 4xx, 529), unknown for other 5xx."""
    code, text = error.code, body.decode("utf-8", errors="replace")
    not_billed = code < 500 or code == 529
    said, error_code = _said(text)
    should_retry = error.headers.get("x-should-retry", "").strip().lower()
    spend_limit = error_code.endswith("spend_limit_reached")
    return Attempt(
        usage=no_tokens(model, seconds, f"http_{code}", Decimal(0) if not_billed else None),
        problem=_sentence(code, short(said or text or _phrase(code)), spend_limit),
        retry=not spend_limit and (code in (408, 409, 429) or code >= 500 or should_retry == "true"),
        at_once=should_retry != "false",
        account=spend_limit or code < 400 or code in (401, 402, 403, 404, 407),
        retry_after_s=None if spend_limit else retry_after_s(error.headers),
    )


def _said(text: str) -> tuple[str, str]:
    """The error's message and its code; "" for one that is missing or not text."""
    try:
        error = json.loads(text)["error"]
        details = error.get("details")
        found = error.get("message"), details.get("error_code") if isinstance(details, dict) else None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""
    message, code = (value if isinstance(value, str) else "" for value in found)
    return message, code


def _sentence(code: int, said: str, spend_limit: bool) -> str:
    if spend_limit:
        return f"The spend limit of this Anthropic account is reached; raise it or wait for its reset. ({said})"
    known = {
        401: "Claude refused the API key; set a valid ANTHROPIC_API_KEY.",
        404: "Claude does not know this model; check its name.",
        407: "A proxy on the way to Claude wants a name and a password; put them into HTTPS_PROXY.",
        413: "The prompt is larger than the API accepts; shorten the program or the recipe.",
        429: "Claude's rate limit is reached; the next wave has to wait.",
        529: "Claude is overloaded; the next wave has to wait.",
    }
    elsewhere = "Claude's address points to another, which is not followed; check ANTHROPIC_BASE_URL."
    return f"{elsewhere if code < 400 else known.get(code, 'Claude could not answer.')} ({code}: {said})"


def _phrase(code: int) -> str:
    return HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else "no message"
