"""Parses ``Retry-After`` and ``retry-after-ms``: how long a server asks its clients to wait. Pure.

RFC 9110 knows whole seconds and dates. Anthropic, Discord and others send fractions, some an ISO date or a unit, and
a proxy may repeat the header. Anything else counts as no header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

DAY_S = 86_400.0
_NUMBER = re.compile(r"\s*(\d*\.?\d+(?:e\d{1,3})?|\d+\.)\s*(?:s|secs?|seconds?)?\s*;?\s*", re.IGNORECASE | re.ASCII)


def retry_after_s(headers: Mapping[str, str], *, at_most_s: float = DAY_S) -> float | None:
    """Seconds from 0 to ``at_most_s``; None without such a header, or with none that can be read.

    ``headers`` is a mapping that ignores case, as the clients' own are. A date counts from the server's ``Date``, so
    that a wrong clock, here or there, makes no wait of hours.
    """
    asked = _number(headers.get("retry-after-ms") or "")
    seconds = None if asked is None else asked / 1_000
    if seconds is None:
        seconds = _number(headers.get("retry-after") or "")
    if seconds is None:
        seconds = _until(headers.get("retry-after") or "", headers.get("date") or "")
    return None if seconds is None else min(seconds, at_most_s)


def _number(said: str) -> float | None:
    """The largest number of a repeated header; None when one part is no number. Negative numbers are no numbers."""
    parts = [_NUMBER.fullmatch(part) for part in said.split(", ")]
    found = [float(part[1]) for part in parts if part is not None]
    return max(found) if len(found) == len(parts) else None


def _until(said: str, server_date: str) -> float | None:
    at = _instant(said)
    if at is None:
        return None
    return max(0.0, (at - (_instant(server_date) or datetime.now(UTC))).total_seconds())


def _instant(said: str) -> datetime | None:
    """A date in one of HTTP's three forms or in ISO's; UTC where it names no zone."""
    if said.replace(",", "").replace(".", "").isalnum():  # no date is one word, and a reader would make one of it
        return None
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        with suppress(ValueError, OverflowError):  # OverflowError: beyond the year 9999 in UTC
            at = read(said.strip())
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return None
