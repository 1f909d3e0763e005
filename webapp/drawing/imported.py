"""Geometry of an imported history: the best so far of what another loop kept, on the scales of ``figures``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from webapp.drawing import figures, progression


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One experiment, in the order of its source."""

    number: int
    title: str
    outcome: str  # kept, discarded, crashed, unsaid
    value: float | None
    best: float | None  # of all up to this one


@dataclass(frozen=True)
class ImportedFigure:
    width: int
    height: int
    left: float
    right: float
    bottom: float
    middle: float
    xticks: list[figures.Tick]
    yticks: list[figures.Tick]
    path: str
    kept: list[tuple[float, float, str]]
    others: list[tuple[float, float, str]]
    crashes: list[tuple[float, float, str]]
    says: str


def imported_figure(tried: Sequence[Tried], metric: str, *, width: int) -> ImportedFigure | None:
    """Best value by number of experiments; None where fewer than two have one."""
    known = [one.value for one in tried if one.value is not None]
    if len(known) < 2:
        return None
    left, right, top, bottom = 62, width - 20, 14, 222
    x = figures.Scale(0, max(len(tried), 4), left, right)
    y = figures.Scale(*figures.span([*_seen(known), tried[-1].best], pad=0.09), bottom, top)
    marked = [(x(i + 1), one) for i, one in enumerate(tried)]
    kept = [(at, y(one.value), name(one)) for at, one in marked if one.outcome == "kept" and one.value is not None]
    return ImportedFigure(
        width=width,
        height=264,
        left=left,
        right=right,
        bottom=bottom,
        middle=round((left + right) / 2, 1),
        xticks=progression.whole_ticks(x, 10 if width > 700 else 4),
        yticks=y.ticks(5, figures.plain),
        path=_path([(at, y(one.best)) for at, one in marked if one.best is not None], x(len(tried))),
        kept=kept,
        others=[
            (at, y(one.value), name(one))
            for at, one in marked
            if one.outcome in ("discarded", "unsaid") and one.value is not None
        ],
        crashes=[(at, bottom - 8, name(one)) for at, one in marked if one.outcome == "crashed"],
        says=_in_words(tried, metric),
    )


def name(one: Tried) -> str:
    return f"H-{one.number} {one.title}"


def _seen(values: Sequence[float]) -> list[float]:
    """The values that set the scale: a run that diverged, or a first one that was far off, presses not all others flat.

    What lies beyond is drawn at the frame.
    """
    ordered = sorted(values)
    room = 6 * (ordered[len(ordered) * 3 // 4] - ordered[len(ordered) // 4])
    middle = ordered[len(ordered) // 2]
    return [v for v in ordered if abs(v - middle) <= room] if room > 0 else ordered


def _path(points: Sequence[tuple[float, float]], end: float) -> str:
    """A step at every better value."""
    if not points:
        return ""
    rest = "".join(f"H{x}V{y}" for (x, y), before in zip(points[1:], points, strict=False) if y != before[1])
    return f"M{points[0][0]} {points[0][1]}{rest}H{end}"


def _in_words(tried: Sequence[Tried], metric: str) -> str:
    best = [one.best for one in tried if one.best is not None]
    kept = sum(one.outcome == "kept" for one in tried)
    first, last = (f"{value:g}" for value in (best[0], best[-1])) if best else ("none", "none")
    return f"Self-reported: {kept} of {len(tried)} experiments were kept; {metric} went from {first} to {last}."
