"""The figure of latency: how long each stage from an idea to its verdict takes, one bar a stage on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from research.judge import latency
from research.judge.latency import Stage
from research.models import Campaign, Event
from research.record import kinds
from webapp.drawing import figures
from webapp.templatetags.shown import DAY, HOUR, MINUTE, seconds

NEWEST = 300  # proposals: what happened a year ago says little of today
UNITS = ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s"))
ROW, NARROW_ROW = 30, 44


def stages_of(campaign: Campaign) -> list[Stage]:
    """Latencies of the newest proposals, and of the requests to Claude: three queries."""
    newest = campaign.proposals.order_by("-pk").values_list("pk", flat=True)[:NEWEST]
    oldest = min(newest, default=0)
    state_of: dict[str, str] = {kind: state for state, kind in kinds.PROPOSAL.items()}
    told = Event.objects.filter(campaign=campaign, proposal_id__gte=oldest, kind__in=state_of).order_by("pk")
    rows = told.filter(proposal__isnull=False).values_list("proposal__pk", "kind", "at")
    stays = [latency.Stay(proposal=n, state=state_of[kind], at=at) for n, kind, at in rows]
    asked = campaign.ledger.filter(kind="claude").order_by("-pk").values_list("usage", flat=True)[:NEWEST]
    return latency.stages(stays, [usage["seconds"] for usage in asked])


@dataclass(frozen=True)
class Bar:
    """The bar of one stage. ``median`` and ``p90`` are positions on the axis; None without enough stays."""

    name: str
    y: float
    label_y: float
    median: float | None
    p90: float | None
    words: str
    is_all: bool
    is_person: bool


@dataclass(frozen=True)
class LatencyFigure:
    width: int
    height: int
    left: float
    right: float
    bottom: float
    ticks: list[figures.Tick]
    bars: list[Bar]
    words_x: float
    says: str


def latency_figure(stages: Sequence[Stage], *, width: int) -> LatencyFigure | None:
    """None while no stage is over. Narrow, the names stand above their bars."""
    longest = max((s for stage in stages for s in (stage.median_s, stage.p90_s) if s is not None), default=0.0)
    if longest <= 0:
        return None
    narrow = width < 400
    row, left, right = (NARROW_ROW, 8.0, width - 8.0) if narrow else (ROW, 190.0, width - 176.0)
    unit, name = next((u for u in UNITS if longest >= 2 * u[0]), UNITS[-1])
    x = figures.Scale(0.0, longest / unit, left, right)
    bars = [_bar(stage, i, x, unit, row, narrow) for i, stage in enumerate(stages)]
    bottom = 8 + row * len(bars)
    return LatencyFigure(
        width=width,
        height=bottom + 26,
        left=left,
        right=right,
        bottom=bottom,
        ticks=x.ticks(3 if narrow else 5, lambda value, digits: f"{value:.{digits}f} {name}" if value else "0"),
        bars=bars,
        words_x=width - 8.0,
        says="; ".join(f"{bar.name}: {bar.words}" for bar in bars) + ".",
    )


def _bar(stage: Stage, i: int, x: figures.Scale, unit: int, row: int, narrow: bool) -> Bar:
    top = 8.0 + row * i
    return Bar(
        name=stage.name,
        y=top + (26 if narrow else 8),
        label_y=top + (17 if narrow else 19),
        median=None if stage.median_s is None else x(stage.median_s / unit),
        p90=None if stage.p90_s is None else x(stage.p90_s / unit),
        words=_in_words(stage),
        is_all=stage.name == latency.ALL,
        is_person=stage.name == "Waiting for a person",
    )


def _in_words(stage: Stage) -> str:
    if stage.median_s is None:
        return "none is over yet"
    median = seconds(stage.median_s)
    p90 = median if stage.p90_s is None else seconds(stage.p90_s)
    return f"{median if p90 == median else f'{median} to {p90}'}, n {stage.n}"
