"""The price of a call, from ``prices.toml``, which has effective dates and bands by prompt length."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("prices.toml")
MILLION = Decimal(1_000_000)
_SNAPSHOT = re.compile(r"-\d{8}$")  # claude-haiku-4-5-20251001 costs what claude-haiku-4-5 costs


@dataclass(frozen=True, kw_only=True)
class Price:
    """US dollars per million tokens of one model, from a day on, above a prompt length."""

    model: str
    since: date
    above_tokens: int
    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal


@cache
def price_list() -> tuple[Price, ...]:
    """Every row of ``prices.toml``, in its order."""
    table = tomllib.loads(PATH.read_text(encoding="utf-8"), parse_float=Decimal)
    return tuple(
        Price(
            model=row["model"],
            since=row["from"],
            above_tokens=row["above_tokens"],
            input=Decimal(row["input"]),
            output=Decimal(row["output"]),
            cache_read=Decimal(row["cache_read"]),
            cache_write_5m=Decimal(row["input"]) * Decimal(table["cache_write_5m"]),
            cache_write_1h=Decimal(row["input"]) * Decimal(table["cache_write_1h"]),
        )
        for row in table["price"]
    )


def at_most(model: str, *, on: date, input_tokens: int, output_tokens: int) -> Decimal | None:
    """The most US dollars a call can cost: all of its input written to the dearest cache. None without a price."""
    return price(model, on=on, input_tokens=0, output_tokens=output_tokens, cache_write_1h_tokens=input_tokens)


def price(
    model: str,
    *,
    on: date,
    input_tokens: int,
    output_tokens: int,
    cache_read_tokens: int = 0,
    cache_write_5m_tokens: int = 0,
    cache_write_1h_tokens: int = 0,
) -> Decimal | None:
    """US dollars for one call, or None when no row holds for ``model`` on that day. ``on`` is a UTC day.

    ``input_tokens`` are the uncached ones, as the API counts them; the band goes by all input together.
    """
    prompt = input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens
    names = {model, _SNAPSHOT.sub("", model)}
    rows = [p for p in price_list() if p.model in names and p.since <= on and p.above_tokens <= max(prompt - 1, 0)]
    if not rows:
        return None
    row = max(rows, key=lambda p: (p.since, p.above_tokens))
    cost = (
        row.input * input_tokens
        + row.output * output_tokens
        + row.cache_read * cache_read_tokens
        + row.cache_write_5m * cache_write_5m_tokens
        + row.cache_write_1h * cache_write_1h_tokens
    )
    return cost / MILLION
