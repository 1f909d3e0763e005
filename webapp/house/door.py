"""Limits on request bodies, before Django: no body is larger or slower than its address can need.

Django spools a whole body before any view, so before it knows whether there is such a page and who is signed in.
Here a declared length is refused before a byte is read; without one, bytes are counted as they come. A body has
SLACK_S and must then keep up LEAST_BYTES_S: a whole megabyte within 42 s, and silence ends it after ten.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

from webapp.api import v1, worker

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]  # an ASGI application

SLACK_S = 10.0
LEAST_BYTES_S = 32 * 2**10
LINGER_S = 1.0  # a refused sender is listened to for so long: a connection that is reset would lose it our words
PASSWORD_BYTES = 16 * 2**10
USUAL_BYTES = 2**20
LONGEST: list[tuple[re.Pattern[str], int]] = [
    (re.compile(r"/api/worker/"), worker.MAX_BODY),
    (re.compile(r"/api/v1/"), v1.MAX_BODY),
    (re.compile(r"/(admin/)?login/|/logout/"), PASSWORD_BYTES),
    (re.compile(r"/campaigns/[^/]+/history/"), settings.DATA_UPLOAD_MAX_MEMORY_SIZE),  # a results.tsv, twice
    (re.compile(r"/proposals/[0-9]+/edit/|/campaigns/[^/]+/propose/"), settings.DATA_UPLOAD_MAX_MEMORY_SIZE),  # patches
]


def longest(path: str) -> int:
    """Most bytes of a body for ``path``, whether or not there is such a page."""
    return next((limit for pattern, limit in LONGEST if pattern.match(path)), USUAL_BYTES)


class Door:
    """Wraps an ASGI application and limits the bodies of its requests. HTTP only."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        most = longest(scope["path"])
        if (told := _length(scope)) is not None and told > most:
            return await _refuse(scope, receive, send, 413, _too_long(most))
        body = _Body(receive, send, most)
        await self.application(scope, body.receive, body.send)
        if body.problem is not None and not body.answered:
            await _refuse(scope, receive, send, *body.problem)
        return None


class _Body:
    """One request's body on its way in. When it breaks a limit, Django is told that the client disconnected."""

    def __init__(self, receive: Receive, send: Send, most: int) -> None:
        self._receive, self._send, self._most = receive, send, most
        self._num_bytes, self._whole = 0, False
        self._began_at = time.monotonic()
        self.problem: tuple[int, str] | None = None
        self.answered = False

    async def receive(self) -> Message:
        if self.problem is not None:
            return {"type": "http.disconnect"}
        if self._whole:
            return await self._receive()  # waits until the other side leaves, however long
        try:
            left_s = self._began_at + SLACK_S + self._num_bytes / LEAST_BYTES_S - time.monotonic()
            message = await asyncio.wait_for(self._receive(), max(left_s, 0.001))
        except TimeoutError:
            return self._stop(408, "body: it came too slowly, so nothing of it was read; send it again")
        self._num_bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        return message if self._num_bytes <= self._most else self._stop(413, _too_long(self._most))

    def _stop(self, code: int, sentence: str) -> Message:
        self.problem = (code, sentence)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.answered = True
        await self._send(message)


def _too_long(most: int) -> str:
    return f"body: it is too long; at most {most:,} bytes are read at this address"


def _length(scope: Any) -> int | None:
    """The declared length; the server has refused one that is no number."""
    told = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(told[0][:18]) if told else None


async def _refuse(scope: Any, receive: Receive, send: Send, code: int, sentence: str) -> None:
    """Answer with one sentence, as JSON under /api/, and end the connection."""
    asked_by_a_program = scope["path"].startswith("/api/")
    words = json.dumps({"error": sentence}) if asked_by_a_program else f"{sentence[0].upper()}{sentence[1:]}.\n"
    kind = b"application/json" if asked_by_a_program else b"text/plain; charset=utf-8"
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(words)).encode()),
        (b"connection", b"close"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode(), "more_body": True})
    await _linger(receive)
    await send({"type": "http.response.body", "body": b""})


async def _linger(receive: Receive) -> None:
    """Read on for a moment and discard it, so that the answer arrives."""
    try:
        async with asyncio.timeout(LINGER_S):
            while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                pass
    except TimeoutError:
        pass
