"""The outermost door by itself, and what its settings make of an address."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from webapp import settings
from webapp.house import client_address, door, processes


class Sender:
    """Sends ``pieces`` of a body, each after ``pause_s``; then either the end or nothing more."""

    def __init__(self, pieces: list[bytes], pause_s: float = 0.0, *, ends: bool = True) -> None:
        self.pieces, self.pause_s, self.ends = pieces, pause_s, ends
        self.answers: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(self.pause_s)
        if not self.pieces and not self.ends:
            await asyncio.Event().wait()
        body = self.pieces.pop(0) if self.pieces else b""
        return {"type": "http.request", "body": body, "more_body": bool(self.pieces) or not self.ends}

    async def send(self, message: Any) -> None:
        self.answers.append(message)

    async def through(self, path: str = "/nowhere", **headers: str) -> tuple[int, bytes]:
        """Code, and what the application behind the door was given."""
        self.given = b""
        told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await door.Door(self._application)({"type": "http", "path": path, "headers": told}, self.receive, self.send)
        return self.answers[0]["status"], self.given

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            self.given += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "SLACK_S", 0.3)
    monkeypatch.setattr(door, "LEAST_BYTES_S", 1_000)
    monkeypatch.setattr(door, "LINGER_S", 0.05)


async def test_who_keeps_up_may_take_longer_than_the_slack(in_a_hurry: None) -> None:
    slow_but_steady = Sender([b"a" * 200] * 10, pause_s=0.05)  # 0.5 s at 4,000 bytes a second
    assert await slow_but_steady.through() == (200, b"a" * 2_000)


@pytest.mark.parametrize("ends", [True, False])
async def test_who_does_not_keep_up_is_cut_off_however_often_a_byte_comes(in_a_hurry: None, ends: bool) -> None:
    drip = Sender([b"a"] * 100, pause_s=0.05, ends=ends)
    code, given = await drip.through()
    assert code == 408
    assert len(given) < 20


async def test_a_body_may_be_as_long_as_its_address_says_and_not_a_byte_longer(in_a_hurry: None) -> None:
    most = door.longest("/login/")
    assert (await Sender([b"a" * most]).through("/login/", content_length=str(most)))[0] == 200
    assert (await Sender([b"a" * most]).through("/login/", content_length=str(most + 1))) == (413, b"")
    assert (await Sender([b"a" * most, b"a"]).through("/login/"))[0] == 413
    assert (await Sender([b"a"]).through("/login/", content_length="9" * 6000))[0] == 413


def test_no_form_and_no_report_is_longer_than_its_door() -> None:
    from webapp.api import v1, worker

    assert door.longest("/api/worker/runs/1/report") == worker.MAX_BODY
    assert door.longest("/api/v1/campaigns/first/proposals") == v1.MAX_BODY
    assert door.longest("/proposals/7/edit/") == door.longest("/campaigns/first/propose/") == 4 * 2**20
    assert door.longest("/admin/login/") == door.longest("/login/") == 16 * 2**10
    assert door.longest("/nowhere") == door.longest("/static/x.css") == 2**20


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, client_address.UNKNOWN),
        ("testserver, 10.0.0.1", client_address.UNKNOWN),
    ],
)
def test_what_an_address_is_counted_as(host: str | None, network: str) -> None:
    assert client_address.network_of(host) == network


def test_proxies_are_believed_where_they_are_named_and_beside_an_https_address(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    from webapp.settings import _proxies

    monkeypatch.delenv("COUNTERSIGN_PROXIES", raising=False)
    assert _proxies("http://127.0.0.1:8321") == []
    assert _proxies("https://lab.example") == ["127.0.0.1", "::1"]
    monkeypatch.setenv("COUNTERSIGN_PROXIES", "10.0.0.7, 10.1.0.0/16")
    settings.PROXIES = _proxies("http://lab.example")
    assert processes.proxies() == ["--forwarded-allow-ips", "10.0.0.7,10.1.0.0/16"]
    settings.PROXIES = []
    assert processes.proxies() == ["--no-proxy-headers"]
    monkeypatch.setenv("COUNTERSIGN_PROXIES", "*")
    with pytest.raises(ValueError) as refused:
        _proxies("http://lab.example")
    assert str(refused.value) == "COUNTERSIGN_PROXIES: '*' is no IP address or network, as 10.0.0.7 or 10.0.0.0/24"


@pytest.mark.parametrize(
    ("said", "origin"),
    [
        ("https://Lab.example/", "https://lab.example"),
        ("https://lab.example:443", "https://lab.example"),
        ("http://lab.example:8321", "http://lab.example:8321"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_the_public_address_is_written_as_browsers_write_an_origin(
    monkeypatch: pytest.MonkeyPatch, said: str, origin: str
) -> None:
    monkeypatch.setenv("COUNTERSIGN_URL", said)
    assert settings._public_url("http://127.0.0.1:8321") == origin


@pytest.mark.parametrize("said", ["lab.example", "ftp://lab.example", "https://lab.example/countersign", "https://"])
def test_a_public_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("COUNTERSIGN_URL", said)
    with pytest.raises(ValueError) as refused:
        settings._public_url("http://127.0.0.1:8321")
    assert str(refused.value).startswith("COUNTERSIGN_URL: must be http:// or https:// with a host and no path, not ")


@pytest.mark.parametrize(
    ("origin", "code"),
    [("http://testserver", 302), ("http://testserver:8080", 403), ("https://testserver", 403), ("null", 403)],
)
def test_a_form_is_taken_from_a_page_of_the_same_scheme_host_and_port_only(bob: User, origin: str, code: int) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(bob)
    browser.get("/review/")
    token = browser.cookies["countersign_csrf"].value
    sent = browser.post("/logout/", {"csrfmiddlewaretoken": token}, headers={"origin": origin})
    assert sent.status_code == code
