"""What stands in the log: a line for a refusal, a traceback for a fault, and nothing that opens a door."""

from __future__ import annotations

import logging

import pytest
from django.contrib.auth.models import User
from django.test import Client

from research.models import Campaign
from webapp.house import logs
from webapp.pages.accounts import links
from webapp.pages.campaigns import campaigns


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """As they stand in the log, each thing that happened with all of its lines."""
    return [logs.Line().format(record) for record in caplog.records]


def record(message: str, *args: object, level: int = logging.INFO) -> str:
    return logs.Line().format(logging.LogRecord("somebody", level, "file.py", 1, message, args, None))


def test_settings_write_every_line_so() -> None:
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    assert [type(handler.formatter) for handler in handlers] == [logs.Line]


def test_whoever_is_refused_leaves_one_line_with_the_reason(
    charlie: User, alice: User, campaign: Campaign, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Client()
    browser.force_login(charlie)
    browser.get("/campaigns/")
    browser.force_login(alice)
    browser.post(f"/campaigns/{campaign.slug}/state/", {"state": "paused"})
    browser.get("/admin/auth/user/")
    browser.get("/nowhere/")
    browser.get("/login/", headers={"host": "evil.example"})
    browser.post("/login/", {f"field{number}": "" for number in range(2_000)})
    Client(enforce_csrf_checks=True).post("/login/", {"username": "bob"})
    browser.get("/runs/1/stop/")
    browser.get("/api/v1/campaigns/first/brief")
    lines = lines_of(caplog)
    assert len(lines) == 9
    assert all("\n" not in line and " WARNING django." in line for line in lines)
    assert lines[0].endswith(
        "/campaigns/: Your account is not a member of this workspace. An administrator can add you."
    )
    assert "needs the right to steer it" in lines[1]
    assert "evil.example" in lines[4]


def test_a_fault_of_ours_keeps_its_traceback(
    bobs_browser: Client, campaign: Campaign, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("first\n2026-01-01 00:00:00,000 INFO root all is well\x1b[2J\u202e")

    monkeypatch.setattr(campaigns, "render", broken)
    bobs_browser.raise_request_exception = False
    assert bobs_browser.get("/campaigns/").status_code == 500
    number, fault = lines_of(caplog)
    assert " ERROR webapp.pages.errors error " in number
    assert "Traceback (most recent call last):" in fault
    assert fault.splitlines()[-2:] == [
        "  RuntimeError: first",
        "  2026-01-01 00:00:00,000 INFO root all is well<U+001B>[2J<U+202E>",
    ]


def test_a_login_link_is_never_in_the_log_whatever_becomes_of_it(
    bob: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = links.make_link(bob)
    browser = Client(raise_request_exception=False)
    for look in (browser.get, browser.head, browser.put, browser.post, browser.get):
        look(f"/login/{token}/")
    browser.get(f"/login/{token}")
    browser.get(f"/login/{token}/more/")
    browser.get(f"/login/{token}/", headers={"host": "evil.example"})
    Client(enforce_csrf_checks=True).post(f"/login/{token}/")
    monkeypatch.setattr(links, "holder", lambda token: 1 / 0)
    assert browser.get(f"/login/{token}/").status_code == 500
    written = "\n".join(lines_of(caplog))
    assert "Internal Server Error: /login/…/" in written
    assert token not in written


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ('127.0.0.1:1 - "GET /login/abcDEF-_123/?a=b HTTP/1.1" 200', '127.0.0.1:1 - "GET /login/…/?a=b HTTP/1.1" 200'),
        ("GET /login/?next=/review/", "GET /login/?next=/review/"),
        ("Authorization: Bearer abc.DEF-1", "Authorization: Bearer …"),
        ("signed with whsec_AAAA+bb=", "signed with whsec_…"),
        ("invalid x-api-key sk-ant-api03-abc_DEF", "invalid x-api-key sk-ant-…"),
        ("two\nlines\rand a turn\u202e", "two\n  lines<U+000D>and a turn<U+202E>"),
    ],
)
def test_what_opens_a_door_or_forges_a_line_is_written_otherwise(said: str, written: str) -> None:
    assert record("%s", said).endswith(f" INFO somebody {written}")


def test_uvicorns_own_handlers_write_our_lines() -> None:
    theirs = logging.getLogger("tests.uvicorn")
    theirs.addHandler(logging.StreamHandler())
    logs.write_as_we_do("tests.uvicorn", "tests.without")
    assert isinstance(theirs.handlers[0].formatter, logs.Line)
    assert not logging.getLogger("tests.without").handlers, "its access log stays off"
