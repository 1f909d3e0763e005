"""Servers say how long to wait in many ways; whoever waits reads them all alike, and never for longer than a day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.contract import retry_after_s

AT = datetime(2026, 11, 29, 2, 7, 0, tzinfo=UTC)
NOW = format_datetime(AT, usegmt=True)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("43.323", 43.323),
        ("0.5", 0.5),
        (".5", 0.5),
        ("0", 0.0),
        ("0.0", 0.0),
        (" 7 ", 7.0),
        ("30s", 30.0),
        ("30 seconds", 30.0),
        ("120;", 120.0),
        ("5, 10", 10.0),  # a proxy said it, too
        ("1e3", 1_000.0),
        ("31536000", 86_400.0),
        ("1e15", 86_400.0),
        ("1e999", 86_400.0),
        ("9" * 400, 86_400.0),
        ("Sun, 29 Nov 2026 02:07:45 GMT", 45.0),
        ("Sunday, 29-Nov-26 02:07:45 GMT", 45.0),
        ("Sun Nov 29 02:07:45 2026", 45.0),  # C's asctime, without a zone
        ("Sun, 29 Nov 2026 03:07:45 +0100", 45.0),
        ("2026-11-29T02:07:45Z", 45.0),
        ("2026-11-29T02:07:45.5", 45.5),
        ("Sun, 29 Nov 2026 02:06:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("-5", None),
        ("-0.5", None),
        ("inf", None),
        ("Infinity", None),
        ("nan", None),
        ("", None),
        (" ", None),
        ("soon", None),
        ("43,323", None),
        ("1_000", None),
        ("0x10", None),
        ("٤٣", None),
        ("Sun, 99 Nov 2026 02:07:45 GMT", None),
    ],
)
def test_every_spelling_is_read(said: str, seconds: float | None) -> None:
    headers = {"retry-after": said, "date": NOW}
    assert retry_after_s(headers) == seconds
    assert retry_after_s(requests.structures.CaseInsensitiveDict({"Retry-After": said, "Date": NOW})) == seconds
    if said.isascii():
        assert retry_after_s(httpx2.Headers({"Retry-After": said, "Date": NOW})) == seconds


def test_a_wrong_clock_makes_no_wait_of_hours() -> None:
    """The server is three hours ahead of us, and means a minute."""
    theirs = datetime.now(UTC) + timedelta(hours=3)
    headers = {"retry-after": format_datetime(theirs + timedelta(minutes=1), usegmt=True)}
    assert retry_after_s(headers | {"date": format_datetime(theirs, usegmt=True)}) == 60.0
    assert 10_000 < (retry_after_s(headers) or 0.0) < 11_000, "without its date there is only ours"


@pytest.mark.parametrize("milliseconds", ["", " ", "nan", "-1", "soon"])
def test_milliseconds_that_cannot_be_read_hide_no_seconds(milliseconds: str) -> None:
    assert retry_after_s({"retry-after-ms": "1500.5", "retry-after": "30"}) == 1.5005
    assert retry_after_s({"retry-after-ms": milliseconds, "retry-after": "30"}) == 30.0


def test_nobody_waits_for_longer_than_allowed() -> None:
    assert retry_after_s({"retry-after": "43.323"}, at_most_s=10.0) == 10.0


@given(st.text(max_size=40) | st.floats().map(str) | st.datetimes().map(str), st.text(max_size=30))
def test_whatever_is_said_is_a_bounded_wait_or_none(said: str, date: str) -> None:
    for name in ("retry-after", "retry-after-ms"):
        seconds = retry_after_s({name: said, "date": date})
        assert seconds is None or 0.0 <= seconds <= 86_400.0
