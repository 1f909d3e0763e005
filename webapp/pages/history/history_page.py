"""The data of a campaign's past experiments: what was imported, its progress, its gains against our noise."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from django.urls import reverse

from research.history import lineage
from research.history.past import Direction
from research.models import Campaign, Import, PastExperiment
from research.propose import histories
from research.record import learn, self_reported
from webapp.drawing import imported, progression
from webapp.templatetags.shown import gained

MAX_STEMS, MAX_BRANCHES = 6, 2
TWICE = 2.0  # standard deviations of a pair: about what one difference in twenty exceeds by luck alone


@dataclass(frozen=True)
class Row:
    experiment: PastExperiment
    gain: float | None


@dataclass(frozen=True)
class Floor:
    """How many of the imported keeps gained more than the noise of one of our pairs."""

    sd: float
    num_gains: int
    num_above: int
    num_clear: int

    @property
    def share(self) -> float:
        return self.num_above / self.num_gains

    @property
    def share_clear(self) -> float:
        return self.num_clear / self.num_gains


class HistoryPage:
    """All imports of one campaign; archived ones are listed, and counted nowhere."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign

    @cached_property
    def imports(self) -> list[Import]:
        return list(self.campaign.imports.select_related("by", "archived_by").order_by("-pk"))

    @cached_property
    def experiments(self) -> list[PastExperiment]:
        """In their order, without diffs, which nobody sees in a list."""
        rows = PastExperiment.objects.filter(imported__campaign=self.campaign, imported__archived_at=None)
        rows = rows.select_related("imported", "parent__imported").defer("patch", "message", "parent__patch")
        return list(rows.order_by("number"))

    @cached_property
    def rows(self) -> list[Row]:
        """The newest first."""
        return [Row(one, histories.gain_of(one)) for one in reversed(self.experiments)]

    @property
    def outcomes(self) -> dict[str, int]:
        return Counter(one.outcome for one in self.experiments)

    @property
    def num_live(self) -> int:
        return sum(one.archived_at is None for one in self.imports)

    # --- the newest import, which is drawn

    @cached_property
    def drawn(self) -> Import | None:
        return next((one for one in self.imports if one.archived_at is None), None)

    @cached_property
    def of_drawn(self) -> list[PastExperiment]:
        """What has the metric of the newest import, in its direction."""
        if (newest := self.drawn) is None:
            return []
        same = (newest.metric, newest.direction)
        return [one for one in self.experiments if (one.imported.metric, one.imported.direction) == same]

    @cached_property
    def tried(self) -> list[imported.Tried]:
        direction: Direction = "higher" if self.drawn and self.drawn.direction == "higher" else "lower"
        best = lineage.best_so_far(self.of_drawn, direction)
        return [
            imported.Tried(number=one.number, title=one.title, outcome=one.outcome, value=one.value, best=so_far)
            for one, so_far in zip(self.of_drawn, best, strict=True)
        ]

    @property
    def best(self) -> float | None:
        return self.tried[-1].best if self.tried else None

    @cached_property
    def curves(self) -> list[imported.ImportedFigure]:
        """For wide and for narrow pages; empty without numbers."""
        metric = self.drawn.metric if self.drawn else ""
        drawn = (imported.imported_figure(self.tried, metric, width=w) for w in (1120, 340))
        return [figure for figure in drawn if figure is not None]

    @cached_property
    def kept_line(self) -> progression.LineageFigure | None:
        """The last kept ones, with the newest of what was tried on each; None where nothing was kept."""
        kept = [one for one in self.of_drawn if one.outcome == "kept"][-MAX_STEMS:]
        if not kept:
            return None
        on: dict[int | None, list[progression.Branch]] = {}
        for one in reversed(self.of_drawn):
            branches = on.setdefault(one.parent_id, [])
            if one.outcome != "kept" and len(branches) < MAX_BRANCHES:
                branches.append(self._branch(one, "bad" if one.outcome == "crashed" else "discard"))
        return progression.lineage_figure([(self._branch(one, "told"), on.get(one.pk, [])) for one in kept])

    def _branch(self, one: PastExperiment, tone: str) -> progression.Branch:
        line = "crashed" if one.outcome == "crashed" else "no number"
        return progression.Branch(
            title=one.title,
            line=f"H-{one.number} " + (line if one.value is None else f"{one.value:.6g}"),
            url=reverse("history-experiment", args=[self.campaign.slug, one.number]),
            tone=tone,
        )

    # --- against our noise

    @property
    def is_our_metric(self) -> bool:
        return self.drawn is not None and self.drawn.metric == self.campaign.metric

    @cached_property
    def gains(self) -> list[float]:
        """Of the kept ones that stand on another one, where both have a number."""
        return [row.gain for row in self.rows if row.experiment.outcome == "kept" and row.gain is not None]

    @cached_property
    def floor(self) -> Floor | None:
        """None while the campaign's noise is not known, or nothing can be compared with it."""
        sd = _noise_sd(self.campaign)
        if sd is None or not self.gains or not self.is_our_metric:
            return None
        above, clear = (sum(gain > times * sd for gain in self.gains) for times in (1.0, TWICE))
        return Floor(sd, len(self.gains), above, clear)

    @property
    def biggest(self) -> str:
        return gained(max(self.gains)) if self.gains else ""


def _noise_sd(campaign: Campaign) -> float | None:
    """Standard deviation of one pair's difference, in the campaign's own metric; None until it is known."""
    if not campaign.is_self_reported:
        return learn.noise(campaign).sd_bpb
    sum_of_squares, degrees_of_freedom = self_reported.noise(campaign)
    return math.sqrt(sum_of_squares / degrees_of_freedom) if degrees_of_freedom > 1 else None
