"""The web side, played by a real HTTP server in a thread: stores what it is told and answers by the contract."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gpu_runner import contract

WORKER_TOKEN = "worker-token-of-this-test"


class Web:
    """Not Django: a few lists behind a real socket. ``until`` waits for something to be true of them."""

    def __init__(self) -> None:
        self.news = threading.Condition()
        self.leases: list[contract.Lease] = []  # to be claimed
        self.bundle = b""
        self.answer: dict[str, tuple[int, dict[str, Any] | bytes]] = {}  # last part of the path -> the answer instead
        self.headers: dict[str, str] = {}  # of these answers
        self.order = "continue"
        self.hellos: list[contract.Hello] = []
        self.claims: list[contract.Claim] = []
        self.reports: list[contract.Report] = []  # each seq once
        self.num_received = 0  # repeated ones too
        self.beats: list[contract.Beat] = []
        self.ends: list[contract.RunEnd] = []
        self.tokens: list[tuple[str, str]] = []  # (what, bearer token)
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.come_back()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def come_back(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_for(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def go_away(self) -> None:
        """As when the web process is restarted: nobody listens on the port."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def stop(self) -> None:
        if self._server is not None:
            self.go_away()

    def until(self, is_true: Callable[[], object], within_s: float = 30.0) -> None:
        with self.news:
            assert self.news.wait_for(is_true, within_s), f"not within {within_s:g} s; ends: {self.ends}"

    # --- what came in -----------------------------------------------------------------------

    def steps(self) -> list[int]:
        return [step for report in self.reports if report.points for step in report.points.step]

    def column(self, name: str) -> list[float | None]:
        return [v for report in self.reports if report.points for v in report.points.metrics.get(name, [])]

    def log(self) -> list[str]:
        return [line.text for report in self.reports for line in report.log]

    def phases(self) -> list[str]:
        return list(dict.fromkeys(report.phase for report in self.reports))

    def end(self) -> contract.RunEnd:
        assert len(self.ends) == 1, self.ends
        return self.ends[0]

    # --- answering --------------------------------------------------------------------------

    def hear(self, path: str, body: bytes) -> tuple[int, bytes]:
        what = path.rsplit("/", 1)[-1]
        with self.news:
            self.news.notify_all()
            if what in self.answer:
                code, said = self.answer[what]
                return code, said if isinstance(said, bytes) else json.dumps(said).encode()
            if what == "source":
                return 200, self.bundle
            return getattr(self, f"hear_{what}")(body)  # type: ignore[no-any-return]

    def hear_hello(self, body: bytes) -> tuple[int, bytes]:
        self.hellos.append(contract.parse(contract.Hello, body))
        return 200, b'{"worker": 1, "datasets": {}}'

    def hear_claim(self, body: bytes) -> tuple[int, bytes]:
        self.claims.append(contract.parse(contract.Claim, body))
        return (200, self.leases.pop(0).model_dump_json().encode()) if self.leases else (204, b"")

    def hear_report(self, body: bytes) -> tuple[int, bytes]:
        report = contract.parse(contract.Report, body)
        self.num_received += 1
        if report.seq > self.last_seq():
            assert report.seq == self.last_seq() + 1, "a seq was left out"
            self.reports.append(report)
        return 200, self.ordered()

    def hear_beat(self, body: bytes) -> tuple[int, bytes]:
        self.beats.append(contract.parse(contract.Beat, body))
        return 200, self.ordered()

    def hear_end(self, body: bytes) -> tuple[int, bytes]:
        self.ends.append(contract.parse(contract.RunEnd, body))
        return 200, self.ordered()

    def last_seq(self) -> int:
        return self.reports[-1].seq if self.reports else 0

    def ordered(self) -> bytes:
        reason = "bob stopped it" if self.order == "stop" else ""
        return json.dumps({"order": self.order, "reason": reason, "acked_seq": self.last_seq()}).encode()


def _handler_for(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            web.tokens.append((self.path.rsplit("/", 1)[-1], self.headers.get("Authorization", "")))
            code, answer = web.hear(self.path, body)
            self.send_response(code)
            if 300 <= code < 400:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            for name, value in web.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST  # noqa: N815  http.server's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's name
            """Quiet."""

    return Handler


@contextmanager
def playing_web() -> Iterator[Web]:
    web = Web()
    try:
        yield web
    finally:
        web.stop()
