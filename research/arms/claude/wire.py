"""The HTTP transport to the Messages API: to that host alone, and within its deadlines.

The SDK by itself would follow a redirect (a request sent twice unseen, another host's answer taken for Claude's), read
the whole body of an error, and wait without end for a name that does not resolve, or for headers that trickle in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from html import unescape
from threading import Thread
from typing import Protocol, TypeVar

import anthropic
import httpx2  # the SDK's transport: errors while a body is read come from it, unwrapped

from research.arms.claude.attempt import as_text, read_json, short

T = TypeVar("T")
MAX_ERROR_BYTES = 64 * 2**10
ERROR_S = 5.0
GRACE_S = 1.0  # what ends in time by itself says better what went wrong


class OverdueError(Exception):
    """The deadline passed while the request was going on."""


class TooLargeError(Exception):
    """The body is larger than any answer of the API."""


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
    """As much of an error's body as comes in time and fits; the status says more than the rest."""
    body, deadline = bytearray(), time.monotonic() + ERROR_S
    response.request.extensions["timeout"]["read"] = ERROR_S  # one that falls silent would hold us for all of ours
    with suppress(httpx2.HTTPError):  # cut off: what came is enough
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) >= MAX_ERROR_BYTES or time.monotonic() > deadline:
                break
    return bytes(body[:MAX_ERROR_BYTES])


class Response(Protocol):
    """The common interface of the SDK's responses and of its transport's."""

    @property
    def headers(self) -> httpx2.Headers: ...
    @property
    def status_code(self) -> int: ...
    def iter_bytes(self) -> Iterator[bytes]: ...


@dataclass
class Came:
    """What has come of an answer so far. Where it breaks off, this is all there is of what was paid for."""

    headers: httpx2.Headers = field(default_factory=httpx2.Headers)
    body: bytearray = field(default_factory=bytearray)

    def take(self, response: Response, *, deadline: float, most: int) -> None:
        """Read all of ``response``. Raises TooLargeError, OverdueError, or what the transport does.

        A socket's own timeout starts anew with every byte. A body that is a whole JSON object is complete, even where
        the connection broke before its end was announced.
        """
        self.headers, self.body = response.headers, bytearray()
        try:
            for chunk in response.iter_bytes():
                self.body += chunk
                if len(self.body) > most:
                    raise TooLargeError
                if time.monotonic() > deadline:
                    raise OverdueError
        except (httpx2.HTTPError, OverdueError):
            if not isinstance(read_json(bytes(self.body)), dict):
                raise


class ElsewhereError(Exception):
    """Something between here and the API answered in its place, with a status of success."""


def refuse_page(reply: Response, body: bytes) -> None:
    """ElsewhereError for a body that is not JSON and does not say that it is: a proxy's page, a sign-in page, nothing.

    The SDK would give such an answer to its caller as a str, where a Message was promised.
    """
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    said = body.lstrip(b" \t\r\n\xef\xbb\xbf")
    if said[:1] in (b"{", b"[") or (said and said[:1] != b"<" and ("json" in kind or not kind)):
        return
    what = f"{reply.status_code}, {short(kind, 100) or 'of no type'}: {_title(body) or 'empty'}"
    raise ElsewhereError(
        f"Something on the way to it has answered in its place ({what}); check ANTHROPIC_BASE_URL, and the proxy or the"
        " sign-in page of this network."
    )


def _title(page: bytes) -> str:
    text = as_text(page[:MAX_ERROR_BYTES])
    found = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    return short(unescape(found[1]) if found else text, 120)


def within(seconds: float, ask: Callable[[], T]) -> T:
    """The result of ``ask()``, or OverdueError after ``seconds``; its thread then goes on until its socket ends."""
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
