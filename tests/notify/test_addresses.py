"""Where a webhook never goes: inwards, through somebody's proxy, or to what is no address."""

from __future__ import annotations

from typing import Any

import pytest

from tests.notify.conftest import Receiver
from webapp.notify import post
from webapp.notify.models import Endpoint

INWARDS = [
    "https://127.0.0.1/",
    "https://localhost/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://127.1/",
    "https://0.0.0.0/",
    "https://10.1.2.3/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.64.0.1/",
    "https://[fe80::1]/",
    "https://[fd00::1]/",
    "https://[64:ff9b::7f00:1]/",
]


@pytest.mark.parametrize("url", INWARDS)
def test_nothing_is_sent_inwards(url: str) -> None:
    answer = post.post(url, "{}", {})
    assert (answer.code, answer.problem) == (None, "The address is private or local, where webhooks are never sent.")


def test_the_development_flag_opens_loopback_and_nothing_else(settings: Any) -> None:
    settings.WEBHOOKS_ALLOW_LOOPBACK = True
    assert "private or local" in post.post("http://10.1.2.3/", "{}", {}).problem
    assert "private or local" in post.post("http://169.254.169.254/", "{}", {}).problem


def test_a_proxy_of_the_environment_is_not_asked(
    tracker: Endpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    assert post.post(tracker.url, "{}", {}).code == 204


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://tracker.example/", "must start with https://"),
        ("ftp://tracker.example/", "must start with https://"),
        ("https://", "names no host"),
        ("https://tracker.example:0/", "names no host and port"),
        ("https://tracker.example:99999/", "Port out of range"),
        ("https://alice:secret@tracker.example/", "must not hold a name or a password"),
    ],
)
def test_an_address_that_could_never_be_sent_to_is_refused_with_the_reason(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        post.check_url(url)
