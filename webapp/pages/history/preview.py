"""What a preview shows of a table before anything is imported."""

from __future__ import annotations

from collections import Counter
from functools import cached_property

from research.history.past import Column, Experiment, Reading, Refused
from research.models import Campaign
from research.propose import histories
from webapp.pages.history.upload import CHOICES, DIRECTIONS

MAX_ROWS = 12
MAX_REFUSED = 50


class Preview:
    def __init__(self, campaign: Campaign, reading: Reading) -> None:
        self.campaign, self.reading = campaign, reading

    @cached_property
    def known(self) -> dict[int, int]:
        """Line -> H-number of the rows that an earlier import has brought."""
        return histories.known_of(self.campaign, self.reading)

    @property
    def num_new(self) -> int:
        return len(self.reading.experiments) - len(self.known)

    @property
    def outcomes(self) -> dict[str, int]:
        return Counter(one.outcome for one in self.reading.experiments)

    @property
    def columns(self) -> list[tuple[str, Column]]:
        return [(f"column-{place}", column) for place, column in enumerate(self.reading.columns)]

    @property
    def choices(self) -> list[tuple[str, str]]:
        return list(CHOICES.items())

    @property
    def directions(self) -> list[tuple[str, str]]:
        return DIRECTIONS

    @property
    def first(self) -> tuple[Experiment, ...]:
        return self.reading.experiments[:MAX_ROWS]

    @property
    def refused(self) -> tuple[Refused, ...]:
        return self.reading.refused[:MAX_REFUSED]

    @property
    def num_more_refused(self) -> int:
        return max(0, len(self.reading.refused) - MAX_REFUSED)

    @property
    def is_another_metric(self) -> bool:
        return bool(self.reading.metric) and self.reading.metric != self.campaign.metric
