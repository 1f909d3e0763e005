"""One HTTP attempt at the Messages API, and its outcome. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from research.change.drafts import Usage
from research.change.visible import visible


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The model's answer."""

    text: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One HTTP attempt: its cost, and either a reply or a problem in one sentence."""

    usage: Usage
    reply: Reply | None = None
    problem: str = ""
    refused: bool = False
    retry: bool = False
    at_once: bool = True  # False: the server says not to ask again for now, whatever it was
    account: bool = False  # key, limit or model: asking again is in vain until a person has acted
    retry_after_s: float | None = None
    counted: int | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The last attempt, and the usages of all of them."""

    last: Attempt
    usages: tuple[Usage, ...]


def no_tokens(model: str, seconds: float, stop_reason: str, usd: Decimal | None) -> Usage:
    return Usage(
        model=model,
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
        usd=usd,
        seconds=seconds,
        stop_reason=stop_reason,
    )


def cost_at_most(usages: Iterable[Usage]) -> Decimal:
    """US dollars of all usages together; where a price is unknown, the most that it can be."""
    return sum(((u.usd_at_most or Decimal(0)) if u.usd is None else u.usd for u in usages), Decimal(0))


def read_json(body: bytes) -> object:
    """Parsed JSON, or None.

    Lenient to a byte order mark, a raw tab and a cut character, since the answer is paid for.
    """
    try:
        return json.loads(body.decode("utf-8-sig", errors="replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def as_text(body: bytes) -> str:
    """``body`` as text that can be stored and shown; databases take no NUL."""
    return body.decode("utf-8", errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def short(text: str, limit: int = 300) -> str:
    """Text of others, visible and on one line, short enough for our sentence."""
    return visible(" ".join(text[: 4 * limit].split()))[:limit]
