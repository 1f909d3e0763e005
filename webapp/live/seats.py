"""Limits how many live sockets one person may hold in one web process.

Counted here and not in Redis, since the limit protects this process's own resources (descriptors, memory, the event
loop). The oldest socket is closed for a new one, so the page that was opened last is live.
"""

from __future__ import annotations

from typing import Protocol

SEATS = 64


class Sitter(Protocol):
    def give_way(self) -> None: ...


_taken: dict[int, dict[Sitter, None]] = {}  # by person, oldest first


def take(person: int, sitter: Sitter) -> None:
    """Take a seat for ``sitter``. Where all are taken, the person's oldest sitter is asked to give way."""
    taken = _taken.setdefault(person, {})
    taken[sitter] = None
    if len(taken) > SEATS:
        oldest = next(iter(taken))
        del taken[oldest]
        oldest.give_way()


def leave(person: int, sitter: Sitter) -> None:
    """Give the seat back. Nothing happens where that was done before."""
    taken = _taken.get(person, {})
    taken.pop(sitter, None)
    if not taken:
        _taken.pop(person, None)
