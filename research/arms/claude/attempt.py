"""One HTTP attempt at the Messages API, and what came of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from research.change.drafts import Usage
from research.change.visible import visible


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model said."""

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
    """US dollars; where the cost of one is unknown, what it can be at most."""
    return sum(((u.usd_at_most or Decimal(0)) if u.usd is None else u.usd for u in usages), Decimal(0))


def read_json(body: bytes) -> object:
    """None for what is no JSON. What was paid for is not lost over a byte order mark, a raw tab or half a letter."""
    try:
        return json.loads(body.decode("utf-8-sig", errors="replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def as_text(body: bytes) -> str:
    """``body`` as it can be kept and shown: no database takes a NUL."""
    return body.decode("utf-8", errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def short(text: str, limit: int = 300) -> str:
    """Words of somebody else, on one line among ours: no database refuses them and no page hides them."""
    return visible(" ".join(text[: 4 * limit].split()))[:limit]
