"""The worker asks over HTTP: what each answer means to it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gpu_runner import contract
from gpu_runner.worker.client import Front, Refused, Superseded, Unreachable, Wire, WireError, checked_url

from .web import WORKER_TOKEN, Web
from .world import make_lease

CLAIM = contract.Claim(hardware_class="cpu-x86_64", sandbox_level="none", lock_sha256="")
HELLO = contract.Hello(name="gpu-1", hardware_class="cpu-x86_64", hardware={}, sandbox_level="none", lock_sha256="")
END = contract.RunEnd(fence=1, outcome="cancelled", device_s=1.0)


@contextmanager
def dripping(beginning: bytes, then: bytes = b"") -> Iterator[str]:
    """The address of one who sends ``beginning``, then ``then`` every 20 ms while anybody listens; or ends at once."""
    over = threading.Event()

    def answer(listener: socket.socket) -> None:
        caller, _ = listener.accept()
        with caller, suppress(OSError):
            caller.recv(65_536)
            caller.sendall(beginning)
            while then and not over.wait(timeout=0.02):
                caller.sendall(then)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join(timeout=10)


@pytest.fixture
def lease() -> contract.Lease:
    return make_lease("a" * 40, "1" * 64)


def test_nothing_to_do_is_no_lease(web: Web) -> None:
    assert Front(web.url, WORKER_TOKEN).claim(CLAIM) is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, Refused),
        (302, Refused),
        (409, Superseded),
        (429, Unreachable),
        (500, Unreachable),
        (503, Unreachable),
    ],
)
def test_every_answer_is_one_branch_of_the_tree(web: Web, code: int, kind: type[WireError]) -> None:
    web.answer["claim"] = (code, {"error": "bob disabled this worker"})
    with pytest.raises(kind, match="bob disabled this worker"):
        Front(web.url, WORKER_TOKEN).claim(CLAIM)


def test_an_answer_outside_the_contract_is_refused(web: Web) -> None:
    web.answer["claim"] = (200, {"spec": {"run_id": "seven"}, "token": "t"})
    with pytest.raises(Refused, match="no Lease of this version's contract"):
        Front(web.url, WORKER_TOKEN).claim(CLAIM)


@pytest.mark.parametrize(
    "said",
    [
        b'{"error": "Not Found", "status": 404, "path": "/api/worker/claim"}',  # a gateway's
        b'{"error": ' + b"1" * 5_000 + b"}",
        b'{"error": ' * 60_000,
        b'{"error": "\xff"}',
        b'{"error": null}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("code", [401, 404, 409, 503])
def test_what_looks_like_our_words_and_is_somebody_elses_ends_no_run(web: Web, code: int, said: bytes) -> None:
    web.answer["claim"], web.headers = (code, said), {"Content-Type": "application/json"}
    with pytest.raises(Unreachable, match=f"answered {code}.*a proxy stands between"):
        Front(web.url, WORKER_TOKEN).claim(CLAIM)


@pytest.mark.parametrize("code", [200, 302, 502])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_that_trickles_in_ends_in_time(code: int, chunked: bool) -> None:
    how = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000000"
    beginning = f"HTTP/1.1 {code} Well\r\nLocation: /\r\n{how}\r\n\r\n".encode()
    late = pytest.raises(Unreachable, match=r"POST .*/hello was not answered in time")
    with dripping(beginning, b"1\r\na\r\n" if chunked else b"a") as url, late:
        Wire(url, WORKER_TOKEN).post("/hello", HELLO, timeout_s=0.3)


def test_an_answer_that_breaks_off_is_none() -> None:
    torn = pytest.raises(Unreachable, match="does not answer")
    with dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}") as url, torn:
        Wire(url, WORKER_TOKEN).post("/hello", HELLO)


def test_no_answer_fills_the_workers_memory(web: Web, lease: contract.Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_runner.worker.client.MAX_ANSWER_BYTES", 1_000)
    monkeypatch.setattr("gpu_runner.worker.client.MAX_SOURCE_BYTES", 1_000)
    monkeypatch.setattr("gpu_runner.worker.client.MAX_ERROR_BYTES", 1_000)
    front = Front(web.url, WORKER_TOKEN)
    for what, ask in {"claim": lambda: front.claim(CLAIM), "source": front.line(lease).source}.items():
        web.answer[what] = (200, b"{" + b" " * 10_000_000)
        with pytest.raises(Refused, match="more than the 1,000 bytes that are allowed"):
            ask()
        web.answer[what] = (502, PAGE + b" " * 10_000_000)
        with pytest.raises(Unreachable, match="answered 502"):
            ask()


PAGE = b"<html><title>Sign in to Corp Proxy</title></html>"


@pytest.mark.parametrize("code", [200, 302, 400, 401, 403, 404, 407, 409, 502, 503])
@pytest.mark.parametrize("body", [PAGE, b"404 page not found\n", b"[]"])
@pytest.mark.parametrize("what", ["hello", "claim", "source", "report", "beat", "end"])
def test_what_a_proxy_says_in_its_place_is_no_word_of_the_web_sides(
    web: Web, lease: contract.Lease, code: int, body: bytes, what: str
) -> None:
    """Else a proxy that restarts ends every run, or passes for the ear that a run's end was told to."""
    web.answer[what], web.headers = (code, body), {"Content-Type": "text/html"}
    front = Front(web.url, WORKER_TOKEN)
    line = front.line(lease)
    ask: dict[str, Callable[[], object]] = {
        "hello": lambda: front.hello(HELLO),
        "claim": lambda: front.claim(CLAIM),
        "source": line.source,
        "report": lambda: line.report(contract.Report(fence=1, seq=1, phase="training")),
        "beat": lambda: line.beat(contract.Beat(fence=1)),
        "end": lambda: line.end(END),
    }
    with pytest.raises(Unreachable, match=f"answered {code}.*a proxy stands between"):
        ask[what]()


@pytest.mark.parametrize(("said", "seconds"), [("43.323", 43.323), ("0", 0.0), ("9999", 60.0), ("nan", 0.0), ("", 0.0)])
def test_a_proxy_may_ask_for_time_and_gets_a_minute_at_most(web: Web, said: str, seconds: float) -> None:
    web.answer["claim"], web.headers = (503, PAGE), {"Retry-After": said}
    with pytest.raises(Unreachable) as caught:
        Front(web.url, WORKER_TOKEN).claim(CLAIM)
    assert caught.value.retry_after_s == seconds


def test_a_web_side_that_is_away_is_unreachable(web: Web) -> None:
    web.go_away()
    with pytest.raises(Unreachable, match="does not answer"):
        Front(web.url, WORKER_TOKEN).claim(CLAIM)


def test_neither_netrc_nor_proxy_comes_between(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login charlie password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    Front(web.url, WORKER_TOKEN).claim(CLAIM)
    assert web.tokens == [("claim", f"Bearer {WORKER_TOKEN}")]


def test_an_address_without_a_scheme_is_named() -> None:
    with pytest.raises(ValueError, match=r"COUNTERSIGN_URL: 'gpu\.lab\.example' is not a web address"):
        checked_url("gpu.lab.example")
