"""How many live sockets one person may hold in one web process.

Counted here and not in Redis: what is spared (descriptors, memory, the event loop) is this process's own, and a count
in memory is right at every moment and needs nobody. The oldest gives way, so the page that was opened last is live.
"""

from __future__ import annotations

from typing import Protocol

SEATS = 64


class Sitter(Protocol):
    def give_way(self) -> None: ...


_taken: dict[int, dict[Sitter, None]] = {}  # by person, oldest first


def take(person: int, sitter: Sitter) -> None:
    """A seat for ``sitter``; where there is none left, the oldest of this person's is asked to give way."""
    taken = _taken.setdefault(person, {})
    taken[sitter] = None
    if len(taken) > SEATS:
        oldest = next(iter(taken))
        del taken[oldest]
        oldest.give_way()


def leave(person: int, sitter: Sitter) -> None:
    """Again, or after it gave way, changes nothing."""
    taken = _taken.get(person, {})
    taken.pop(sitter, None)
    if not taken:
        _taken.pop(person, None)
