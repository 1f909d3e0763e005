"""Geometry of a campaign's progress: best score so far, and the tree of proposals; on the scales of ``figures``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from webapp.drawing import figures

# --- the best so far -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One judged proposal, in the order of the verdicts."""

    number: int
    title: str
    outcome: str
    crashed: bool
    candidate_bpb: float | None
    low_bpb: float | None = None
    high_bpb: float | None = None


@dataclass(frozen=True)
class Stair:
    x: float
    y: float
    low: float | None
    high: float | None
    label: str
    number: int | None


@dataclass(frozen=True)
class StaircaseFigure:
    width: int
    height: int
    left: float
    right: float
    bottom: float
    middle: float
    xticks: list[figures.Tick]
    yticks: list[figures.Tick]
    path: str
    area: str
    stairs: list[Stair]
    discarded: list[tuple[float, float, str]]
    crashes: list[tuple[float, float, str]]
    target: tuple[float, str] | None
    says: str


def staircase_figure(
    base_bpb: float, judged: Sequence[Judged], target_bpb: float | None, *, width: int, labels: bool = True
) -> StaircaseFigure:
    """Best val_bpb by number of proposals judged: a step at every keep, the rest as faint dots."""
    left, right, top, bottom = 50, width - 20, 14, 262
    kept = [(i + 1, j) for i, j in enumerate(judged) if j.outcome == "keep" and j.candidate_bpb is not None]
    x = figures.Scale(0, max(len(judged), 4), left, right)
    y = figures.Scale(
        *figures.span([base_bpb, target_bpb, *(j.candidate_bpb for j in judged)], pad=0.09, least=0.004), bottom, top
    )
    stairs = [Stair(x(0), y(base_bpb), None, None, "base recipe", None)]
    stairs += [_stair(x(i), y, j) for i, j in kept]
    path = _steps(stairs, x(len(judged)))
    best = kept[-1][1].candidate_bpb if kept else base_bpb
    return StaircaseFigure(
        width=width,
        height=304,
        left=left,
        right=right,
        bottom=bottom,
        middle=round((left + right) / 2, 1),
        xticks=whole_ticks(x, 10 if width > 700 else 4),
        yticks=y.ticks(6, figures.plain),
        path=path,
        area=f"{path}V{bottom}H{left}Z",
        stairs=stairs if labels else [Stair(s.x, s.y, s.low, s.high, "", s.number) for s in stairs],
        discarded=[
            (x(i + 1), y(j.candidate_bpb), f"P-{j.number} {j.title}")
            for i, j in enumerate(judged)
            if j.outcome != "keep" and not j.crashed and j.candidate_bpb is not None
        ],
        crashes=[(x(i + 1), bottom - 8, f"P-{j.number} {j.title}") for i, j in enumerate(judged) if j.crashed],
        target=None if target_bpb is None else (y(target_bpb), f"{target_bpb:.4f}"),
        says=_staircase_in_words(base_bpb, best, len(kept), len(judged), target_bpb),
    )


def _stair(at: float, y: figures.Scale, judged: Judged) -> Stair:
    assert judged.candidate_bpb is not None
    low = None if judged.low_bpb is None else y(judged.low_bpb)
    high = None if judged.high_bpb is None else y(judged.high_bpb)
    title = judged.title if len(judged.title) <= 26 else judged.title[:25].rstrip() + "…"
    return Stair(at, y(judged.candidate_bpb), low, high, title, judged.number)


def _steps(stairs: Sequence[Stair], end: float) -> str:
    rest = "".join(f"H{s.x}V{s.y}" for s in stairs[1:])
    return f"M{stairs[0].x} {stairs[0].y}{rest}H{end}"


def whole_ticks(x: figures.Scale, about: int) -> list[figures.Tick]:
    step = max(1, round(figures.nice_step((x.high - x.low) / about)))
    return [figures.Tick(x(i), f"{i:,}") for i in range(0, int(x.high) + 1, step)]


def _staircase_in_words(base: float, best: float | None, kept: int, judged: int, target: float | None) -> str:
    ending = "" if target is None else f" The target is {target:.4f}."
    if not kept or best is None:
        return f"No proposal of {judged} judged was kept; the base recipe stands at {base:.4f}.{ending}"
    return f"{kept} of {judged} judged proposals were kept; val_bpb went from {base:.4f} to {best:.4f}.{ending}"


# --- lineage ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A box of the lineage: an incumbent, or a proposal that branched off it."""

    title: str
    line: str
    url: str
    tone: str  # kept, head, discard, bad, run, wait


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    branch: Branch
    lines: tuple[str, str]


@dataclass(frozen=True)
class Link:
    path: str
    kept: bool
    open: bool


@dataclass(frozen=True)
class LineageFigure:
    width: int
    height: int
    boxes: list[Box]
    links: list[Link]
    says: str
    box: tuple[int, int] = field(default=(124, 40))


def lineage_figure(chain: Sequence[tuple[Branch, Sequence[Branch]]]) -> LineageFigure:
    """Incumbents from left to right; what branched off each stands above and below the next column."""
    wide, high, step, row = 124, 40, 152, 54
    most = max(len(branches) for _, branches in chain)
    middle = 8 + row * math.ceil(most / 2)
    boxes: list[Box] = []
    links: list[Link] = []
    for i, (stem, branches) in enumerate(chain):
        x = 8 + step * i
        boxes.append(_box(x, middle, stem))
        if i + 1 < len(chain):
            links.append(Link(_curve(x + wide, middle + high / 2, x + step, middle + high / 2), True, False))
        slots = _slots(len(branches), middle, row, taken=i + 1 < len(chain))
        for y, branch in zip(slots, branches, strict=True):
            boxes.append(_box(x + step, y, branch))
            links.append(
                Link(_curve(x + wide, middle + high / 2, x + step, y + high / 2), False, branch.tone in ("run", "wait"))
            )
    bottom = max(box.y for box in boxes) + high + 8
    right = max(box.x for box in boxes) + wide + 8
    return LineageFigure(int(right), int(bottom), boxes, links, f"{len(chain)} incumbents, newest last.", (wide, high))


def _box(x: float, y: float, branch: Branch) -> Box:
    title = branch.title if len(branch.title) <= 17 else branch.title[:16].rstrip() + "…"
    return Box(x, y, branch, (title, branch.line))


def _slots(count: int, middle: float, row: float, *, taken: bool) -> list[float]:
    """y of ``count`` boxes, alternating above and below ``middle``, where the next incumbent stands if ``taken``."""
    offsets = [sign * k for k in range(1, count + 1) for sign in (-1, 1)]
    chosen = (offsets if taken else [0, *offsets])[:count]
    return [middle + row * offset for offset in sorted(chosen)]


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x1 + x2) / 2
    return f"M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}"
