"""The figure of a disputed score: how far challenges' answers are from the committed ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_runner.contract import Place
from webapp.drawing.figures import Scale, Tick, plain


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    says: str
    cut: bool  # other text stood behind it


@dataclass(frozen=True)
class DisagreementFigure:
    width: int
    height: int
    left: float
    right: float
    bottom: float
    middle: float
    yticks: list[Tick]
    xticks: list[Tick]
    tolerance_y: float
    tolerance: str
    dots: list[Dot]
    says: str


def disagreement_figure(places: Sequence[Place], tolerance_nats: float, *, width: int) -> DisagreementFigure:
    """Difference of the two answers by position, on a log axis with the tolerance. ``places`` must not be empty."""
    left, right, top, bottom = 58, width - 14, 14, 166
    sizes = [math.log10(max(place.nats, 1e-12)) for place in places]
    limit = math.log10(max(tolerance_nats, 1e-12))
    low, high = math.floor(min([limit, *sizes]) - 0.3), math.ceil(max([limit, *sizes]) + 0.1)
    last = max(place.position for place in places)
    x, y = Scale(-0.5, last + 0.5, left, right), Scale(low, high, bottom, top)
    stride = max(1, math.ceil((high - low) / 5))
    return DisagreementFigure(
        width=width,
        height=204,
        left=left,
        right=right,
        bottom=bottom,
        middle=round((left + right) / 2, 1),
        yticks=[Tick(y(power), f"1e{power}") for power in range(low, high + 1, stride)],
        xticks=[tick for tick in x.ticks(5, plain) if "." not in tick.label],
        tolerance_y=y(limit),
        tolerance=f"{tolerance_nats:.3g}",
        dots=[
            Dot(x(p.position), y(s), f"Row {p.row}, position {p.position}: {p.nats:.3g} nats", p.cut is not None)
            for p, s in zip(places, sizes, strict=True)
        ],
        says=f"{len(places)} places whose two answers differ by up to {max(p.nats for p in places):.3g} nats;"
        f" {tolerance_nats:.3g} are tolerated.",
    )
