"""Readers of what a trainer prints: each takes a line and gives the records that it completes. All of it is hostile.

A record is {the trainer's own name: number}; NaN and infinities come through, since "it printed nan" is worth knowing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Protocol

from gpu_runner.contract import Metrics

Record = dict[str, float]
MAX_CHARS = 300  # of a line that a regular expression reads
MAX_JSON_CHARS = 20_000
MAX_KEYS = 200  # of one record
_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_ ./%()-]{0,79}?)\s*:\s*(\S{1,60})\s*")
_NUMBER = re.compile(
    r"[+-]?(?:[0-9][0-9_,]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?|[+-]?(?:nan|inf|infinity)", re.I
)


class Reader(Protocol):
    def take(self, line: str) -> Iterator[Record]: ...
    def close(self) -> Iterator[Record]: ...


def reader_of(metrics: Metrics) -> Reader:
    """The reader of lines that ``metrics`` names. TensorBoard's files are no lines."""
    if metrics.reader == "json_lines":
        return JsonLines()
    return Expressions(metrics.pattern) if metrics.reader == "regex" else Block()


def number_in(text: str) -> float | None:
    """The number that ``text`` is, with thousands set apart or not; None where it is none."""
    if _NUMBER.fullmatch(text) is None:
        return None
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return None


class JsonLines:
    """One JSON object a line; other lines are none of its business. A table in a table is told by its path: a.b."""

    def take(self, line: str) -> Iterator[Record]:
        if not line.startswith("{") or len(line) > MAX_JSON_CHARS:
            return
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return
        if record := dict(_numbers(said, "")):
            yield record

    def close(self) -> Iterator[Record]:
        return iter(())


def _numbers(said: object, within: str) -> Iterator[tuple[str, float]]:
    if not isinstance(said, dict) or within.count(".") > 3:
        return
    for name, value in list(said.items())[:MAX_KEYS]:
        if isinstance(value, dict):
            yield from _numbers(value, f"{within}{name}.")
        elif not isinstance(value, bool) and (isinstance(value, float) or (isinstance(value, int) and _fits(value))):
            yield f"{within}{name}", float(value)


def _fits(value: int) -> bool:
    return abs(value) < 10**300  # float raises at more


class Expressions:
    """Regular expressions with named groups; the first that is found in a line gives its record."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def take(self, line: str) -> Iterator[Record]:
        for pattern in self._patterns:
            if (found := pattern.search(line[:MAX_CHARS])) is not None:
                groups = ((name, number_in(text.strip())) for name, text in found.groupdict().items() if text)
                if record := {name: number for name, number in groups if number is not None}:
                    yield record
                    return

    def close(self) -> Iterator[Record]:
        return iter(())


class Block:
    """After a line ``---``, lines of ``key: value`` up to the first that is none: nanochat's and autoresearch's."""

    def __init__(self) -> None:
        self._record: Record | None = None  # None: outside of a block

    def take(self, line: str) -> Iterator[Record]:
        if line.strip() == "---":
            yield from self.close()
            self._record = {}
        elif self._record is not None:
            pair = _PAIR.fullmatch(line[:MAX_CHARS])
            if pair is None and line.strip():
                yield from self.close()
            elif pair is not None and len(self._record) < MAX_KEYS and (number := number_in(pair[2])) is not None:
                self._record[pair[1]] = number

    def close(self) -> Iterator[Record]:
        record, self._record = self._record, None
        if record:
            yield record
