"""The way to the Messages API: to that host alone, and never for longer than was said.

The SDK would follow a redirect (a request sent twice unseen, another host's answer taken for Claude's), read the whole
body of an error, and wait for a name that does not resolve, or for headers that trickle in, as long as it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Thread
from typing import TypeVar

import anthropic
import httpx2  # the SDK's transport: errors while a body is read come from it, unwrapped

T = TypeVar("T")
MAX_ERROR_BYTES = 64 * 2**10
ERROR_S = 5.0
GRACE_S = 1.0  # what ends in time by itself says better what went wrong
RETRY_AFTER_AT_MOST_S = 86_400.0


class OverdueError(Exception):
    """It was still going on when the deadline passed."""


class TurnedAwayError(anthropic.AnthropicError):
    """An answer with a status of 300 or more. The SDK passes on unchanged what has its base class."""

    def __init__(self, code: int, headers: httpx2.Headers, body: bytes) -> None:
        super().__init__(f"status {code}")
        self.code, self.headers, self.body = code, headers, body


def http_client() -> httpx2.Client:
    # One or two requests in minutes: a connection that is kept would only be one more to close.
    limits = httpx2.Limits(max_keepalive_connections=0)
    hooks = {"response": [_turn_away]}
    return anthropic.DefaultHttpxClient(limits=limits, follow_redirects=False, event_hooks=hooks)


def _turn_away(response: httpx2.Response) -> None:
    if response.status_code >= 300:
        raise TurnedAwayError(response.status_code, response.headers, _beginning(response))


def _beginning(response: httpx2.Response) -> bytes:
    """As much of an error as comes in time and fits: the status says more than what is missing."""
    body, deadline = bytearray(), time.monotonic() + ERROR_S
    with suppress(httpx2.HTTPError):  # cut off: what came is enough
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) >= MAX_ERROR_BYTES or time.monotonic() > deadline:
                break
    return bytes(body[:MAX_ERROR_BYTES])


def within(seconds: float, ask: Callable[[], T]) -> T:
    """``ask()``, or OverdueError after ``seconds``; its thread is then left to the end of its socket."""
    done: Future[T] = Future()
    Thread(target=_fulfil, args=(done, ask), daemon=True).start()
    try:
        return done.result(timeout=seconds)
    except TimeoutError:
        raise OverdueError from None


def _fulfil(done: Future[T], ask: Callable[[], T]) -> None:
    try:
        done.set_result(ask())
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits for it
        done.set_exception(error)


def retry_after_s(headers: httpx2.Headers) -> float | None:
    """Seconds from ``retry-after-ms``, or ``retry-after`` as seconds or as a date; at most a day.

    None when absent or unreadable.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return min(seconds, RETRY_AFTER_AT_MOST_S) if 0 <= seconds < float("inf") else None
    try:
        at = parsedate_to_datetime(headers.get("retry-after", "")).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), RETRY_AFTER_AT_MOST_S)
