"""How long each stage between an idea and its verdict took, from the moves in the record. Pure: no Django.

Stages that are still under way are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

ENOUGH = 5  # stays; under it a 90th percentile would be another word for the longest


@dataclass(frozen=True, kw_only=True)
class Stay:
    """A proposal came into ``state``. Rows of one proposal are in the order of its moves."""

    proposal: int
    state: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The finished stays in one stage, in seconds, shortest first."""

    name: str
    seconds: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.seconds)

    @property
    def median_s(self) -> float | None:
        return quantile(self.seconds, 0.5) if self.seconds else None

    @property
    def p90_s(self) -> float | None:
        """The 90th percentile; None under ``ENOUGH`` stays."""
        return quantile(self.seconds, 0.9) if self.n >= ENOUGH else None


# name: (the states that are the stage, the states that end it; anything else breaks it off)
STAGES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "In the gates": (frozenset({"drafted", "checking"}), frozenset({"pending_review", "blocked"})),
    "Waiting for a person": (
        frozenset({"pending_review"}),
        frozenset({"approved", "rejected", "changes_requested", "drafted"}),
    ),
    "Being revised": (frozenset({"changes_requested"}), frozenset({"drafted"})),
    "Waiting for a GPU": (frozenset({"approved"}), frozenset({"running"})),
    "Running": (frozenset({"running"}), frozenset({"judged"})),
}
ASKING, ALL = "Asking the proposer", "From proposal to verdict"


def stages(stays: Iterable[Stay], asked_s: Iterable[float] = ()) -> list[Stage]:
    """Every stage in the order of the loop, and last the whole way. ``asked_s``: how long each request took.

    A revised proposal is in the gates and with a person several times, and each counts.
    """
    by_proposal: dict[int, list[Stay]] = {}
    for stay in stays:
        by_proposal.setdefault(stay.proposal, []).append(stay)
    found: dict[str, list[float]] = {ASKING: [s for s in asked_s if s > 0], **{name: [] for name in STAGES}, ALL: []}
    for moves in by_proposal.values():
        for name, (within, ends) in STAGES.items():
            found[name] += _times(moves, within, ends)
        if moves[0].state == "drafted" and moves[-1].state == "judged":
            found[ALL].append(_between(moves[0], moves[-1]))
    return [Stage(name=name, seconds=tuple(sorted(seconds))) for name, seconds in found.items()]


def _times(moves: Sequence[Stay], within: frozenset[str], ends: frozenset[str]) -> list[float]:
    """Seconds from coming into ``within`` to coming into one of ``ends``."""
    times: list[float] = []
    began: Stay | None = None
    for move in moves:
        if move.state in within:
            began = began or move
            continue
        if began is not None and move.state in ends:
            times.append(_between(began, move))
        began = None
    return times


def _between(one: Stay, other: Stay) -> float:
    return max(0.0, (other.at - one.at).total_seconds())  # a clock that was set back


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the two nearest values (R's type 7). ``ordered`` is sorted and not empty."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
