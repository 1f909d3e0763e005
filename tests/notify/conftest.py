"""A real receiver on loopback, and an endpoint that points to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from webapp.notify.models import KINDS, Delivery, Endpoint


class Got(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[BaseHTTPRequestHandler], None]


class Receiver(ThreadingHTTPServer):
    """Keeps what it got; answers 204, or what ``answers`` says next."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answers: list[Answer] = []
        self.gave_up = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/in"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        (self.server.answers.pop(0) if self.server.answers else say(204))(self)

    def log_message(self, *args: Any) -> None:
        """Nothing: the test says what it got."""


def say(code: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def trickle(request: BaseHTTPRequestHandler) -> None:
    """One byte at a time, for ever: no read ever times out. Ends when the other side hangs up."""
    assert isinstance(request.server, Receiver)
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    try:
        while True:
            request.wfile.write(b"x")
            time.sleep(0.02)
    except OSError:
        request.server.gave_up.set()


def hang(request: BaseHTTPRequestHandler) -> None:
    """No answer at all, until the other side hangs up."""
    assert isinstance(request.server, Receiver)
    request.connection.settimeout(20)
    request.rfile.read(1)
    request.server.gave_up.set()


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOKS_ALLOW_LOOPBACK = True
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.02,))
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join(timeout=5)


@pytest.fixture
def tracker(receiver: Receiver, db: None) -> Endpoint:
    """Alice's experiment tracker, which wants everything."""
    return Endpoint.objects.create(description="Experiment tracker", url=receiver.url, kinds=list(KINDS))


def make_due(endpoint: Endpoint) -> None:
    """As if the time until the next attempt had passed."""
    Endpoint.objects.filter(pk=endpoint.pk).update(busy_until=None)
    Delivery.objects.filter(endpoint=endpoint, state="pending").update(next_attempt_at=endpoint.created_at)
