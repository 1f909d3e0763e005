"""A real HTTP server on 127.0.0.1 that speaks the Messages API, one scripted answer per request."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import Any

Script = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers with ``scripts`` in turn, the last one again and again; keeps what it was asked."""

    daemon_threads = True

    def __init__(self, *scripts: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scripts = scripts
        self.asked: list[dict[str, Any]] = []
        self.counted: list[dict[str, Any]] = []
        self.gets: dict[str, Script] = {}  # by the end of the path, for what is looked at and not asked
        self.count: Script = send(b'{"input_tokens": 15000}')
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is what some tests are about; anything else is a fault of the script."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # the stubs want a socket


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/count_tokens"):  # beside the scripts: it is asked before every message
            self.server.counted.append(body)
            self.server.count(self)
            return
        self.server.asked.append({"path": self.path, "authorization": self.headers["authorization"], **body})
        scripts = self.server.scripts
        scripts[min(len(self.server.asked), len(scripts)) - 1](self)

    def do_GET(self) -> None:
        found = [script for end, script in self.server.gets.items() if self.path.endswith(end)]
        (found[0] if found else error(404, "not_found_error", f"no {self.path}"))(self)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Silent: pytest shows what failed."""


@contextmanager
def serving(*scripts: Script) -> Iterator[Server]:
    server = Server(*scripts)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def send(body: bytes, code: int = 200, **headers: str) -> Script:
    def script(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"content-type": "application/json", **said}.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return script


def message(*content: dict[str, Any], stop_reason: str | None = "end_turn", **over: Any) -> Script:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 1_000,
            "output_tokens": 500,
            "cache_creation_input_tokens": 4_000,
            "cache_read_input_tokens": 10_000,
            "cache_creation": {"ephemeral_5m_input_tokens": 1_000, "ephemeral_1h_input_tokens": 3_000},
        },
    }
    return send(json.dumps(body | over).encode())


class PromptCache:
    """The API's prompt cache, as documented: whole blocks from the front, written where the request marks it, found
    again at a mark or at most ``LOOK_BACK`` blocks before one, and nothing under ``LEAST`` tokens. Nothing expires."""

    LEAST = 1_024
    LOOK_BACK = 20
    CHARS_PER_TOKEN = 3.5

    def __init__(self) -> None:
        self.written: set[str] = set()
        self.usages: list[dict[str, int]] = []

    def answer(self, said: object) -> Script:
        """``said``, with the usage that the request makes."""

        def script(handler: BaseHTTPRequestHandler) -> None:
            assert isinstance(handler.server, Server)
            self.usages.append(self.usage_of(handler.server.asked[-1]))
            message(text(said), usage=self.usages[-1] | {"output_tokens": 500})(handler)

        return script

    def usage_of(self, asked: dict[str, Any]) -> dict[str, int]:
        blocks = [*asked["system"], *(block for turn in asked["messages"] for block in turn["content"])]
        ends = list(accumulate(len(block["text"]) / self.CHARS_PER_TOKEN for block in blocks))
        keys = list(accumulate((hash(block["text"]) for block in blocks), lambda one, other: hash((one, other))))
        marks = [i for i, block in enumerate(blocks) if "cache_control" in block and ends[i] >= self.LEAST]
        assert len(marks) <= 4, "the API takes no more"
        seen = {j for i in marks for j in range(max(0, i - self.LOOK_BACK), i + 1) if str(keys[j]) in self.written}
        read = ends[max(seen)] if seen else 0.0
        write = max(0.0, ends[marks[-1]] - read) if marks else 0.0
        self.written |= {str(keys[i]) for i in marks}
        return {
            "input_tokens": round(ends[-1] - read - write),
            "cache_read_input_tokens": round(read),
            "cache_creation_input_tokens": round(write),
        }


def text(said: object) -> dict[str, Any]:
    return {"type": "text", "text": said if isinstance(said, str) else json.dumps(said)}


def error(code: int, kind: str, sentence: str, error_code: str | None = None, **headers: str) -> Script:
    body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": sentence}}
    if error_code:
        body["error"]["details"] = {"error_code": error_code}
    return send(json.dumps(body).encode(), code, **headers)


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Accept, and never answer while the test runs."""
    server = handler.server
    assert isinstance(server, Server)
    server.closing.wait(timeout=60)
    handler.close_connection = True


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """A byte every 20 ms, so that no single read ever times out."""
    server = handler.server
    assert isinstance(server, Server)
    handler.send_response(200)
    handler.send_header("content-length", "1000000")
    handler.end_headers()
    while not server.closing.wait(timeout=0.02):
        try:
            handler.wfile.write(b" ")
        except OSError:  # the client gave up, as it should
            break
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Promise more than is sent, and close."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"id": "msg')
    handler.close_connection = True
