"""Which earlier experiment each one stands on, and the line of those that were kept. Pure.

autoresearch keeps a commit or takes it back, so a row stands on the one that was kept last before it. Where the commits
are still there, git says it better: the nearest ancestor that is a kept row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from research.history.past import Direction, Experiment, is_better

MAX_STEPS = 500  # back along the first parents of one commit


def by_order(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Each stands on the last one that was kept before it."""
    last: int | None = None
    placed = []
    for one in experiments:
        placed.append(replace(one, parent=last))
        if one.outcome == "kept":
            last = one.line
    return placed


def by_git(experiments: Sequence[Experiment], full: Mapping[str, str], parents: Mapping[str, str]) -> list[Experiment]:
    """As ``by_order``, and by git where it knows better. ``full``: as written -> whole name; ``parents``: first ones.

    A commit that several rows name says nothing of which came of which: there the order stays.
    """
    rows: dict[str, list[Experiment]] = {}
    for one in experiments:
        if (name := full.get(one.commit)) is not None:
            rows.setdefault(name, []).append(one)
    return [_placed(one, full.get(one.commit), rows, parents) for one in experiments]


def _placed(
    one: Experiment, name: str | None, rows: Mapping[str, list[Experiment]], parents: Mapping[str, str]
) -> Experiment:
    """On its nearest ancestor that was not discarded: loops that revert leave those among the ancestors."""
    if name is None or len(rows[name]) > 1:
        return one
    for _ in range(MAX_STEPS):
        if (name := parents.get(name)) is None:
            return one  # its ancestors are no rows, or are gone
        lines = [e.line for e in rows.get(name, ()) if e.outcome in ("kept", "unsaid") and e.line < one.line]
        if lines:
            return replace(one, parent=max(lines), is_git_s=True)
    return one


class Ended(Protocol):
    """What an experiment came to, as it was read or as a row of the record."""

    @property
    def value(self) -> float | None: ...

    @property
    def outcome(self) -> str: ...


def best_so_far(experiments: Sequence[Ended], direction: Direction) -> list[float | None]:
    """After each experiment the best value of those that were kept; of all where the source keeps none."""
    only_kept = any(one.outcome == "kept" for one in experiments)
    best: float | None = None
    found: list[float | None] = []
    for one in experiments:
        if one.value is not None and (one.outcome == "kept" or not only_kept):
            best = one.value if best is None or is_better(one.value, best, direction) else best
        found.append(best)
    return found
