"""Scores in doubt (disputed, quarantined, failed): what each means, what to do, and the evidence, for a person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from gpu_runner.contract import Evidence
from research.models import Run, Score
from research.record import self_reported
from webapp.drawing.disagreement import DisagreementFigure, disagreement_figure


@dataclass(frozen=True)
class _Words:
    title: str
    means: str
    todo: str


WORDS = {
    "disputed": _Words(
        "Disputed: the model does not stand by its own answers",
        "Every loss was committed first; then fresh processes were asked the same prefixes again. A model that only"
        " looks back answers the same. This one does not: its number does not measure what it learned, and is no gain.",
        "Differences with other text behind the place: look in the change for what reaches a later position, such as a"
        " missing mask, a normalisation over time or a shift to the left. Differences in other company only: look for"
        " what mixes rows, remembers calls or draws at random. Propose it again without that.",
    ),
    "quarantined": _Words(
        "Quarantined: better than can be believed unseen",
        "The answers agree with each other, but the number is better than text of this kind, or this campaign's"
        " history, lets anybody expect. Either something great was found, or the measurement was.",
        "Read the change with that question in mind: does training see held-out text, is the text known by heart, is it"
        " another model than the one that was approved? The number counts for nothing until a person has decided.",
    ),
    "failed": _Words(
        "No score: the checkpoint could not be measured",
        "The model's process crashed, stalled, or answered with something else than finite logits of the right shape. A"
        " number that is missing stays missing; it is never a zero.",
        "Run the scorer by hand on the kept run folder (COUNTERSIGN_KEEP_RUNS=1): python -m gpu_runner.scorer --recipe"
        " DIR --checkpoint DIR --dataset NAME. It ends with the same sentence as here.",
    ),
}


TOO_MUCH = _Words(
    "Disputed: it did more than answer",
    "Its answers agree with each other, but scoring it took more processor time, memory or checkpoint than a model that"
    " only answers is believed to need. A model that trains while it is scored looks like this: the others are measured"
    " by what they learned before the clock ended.",
    "Read in the change what build_model and forward do beside the model's own layers. Move training, searching and"
    " reading into train(), keep in the checkpoint what they gave, and propose it again. If it is honest and only slow,"
    " make loading or a forward pass cheaper: the sentence above says by how much.",
)
ACCEPTED = _Words(
    "Out of quarantine: a person accepted the number",
    "It was better than text of this kind, or this campaign's history, lets anybody expect. A reviewer looked at the"
    " change and at the evidence, and it counts like any other since.",
    "Nothing, unless you know better than the reason below.",
)


class Doubt:
    """A score in doubt, with its words."""

    def __init__(self, run: Run, score: Score) -> None:
        self.run, self.score = run, score
        self.words = ACCEPTED if score.outcome == "ok" else TOO_MUCH if self.is_too_much else WORDS[score.outcome]

    @property
    def is_open(self) -> bool:
        """Whether it waits for a person's decision."""
        return self.score.outcome == "quarantined" and self.run.purpose != "smoke"

    @property
    def is_too_much(self) -> bool:
        """Whether it is disputed for its effort alone."""
        effort, apart = self.score.effort, self.evidence.num_apart if self.evidence else 0
        return self.score.outcome == "disputed" and bool(effort and effort["over"]) and not apart

    @cached_property
    def evidence(self) -> Evidence | None:
        """The scorer's evidence; None where nothing was challenged, or by an older scorer."""
        return Evidence.model_validate(self.score.evidence) if self.score.evidence else None

    @cached_property
    def figures(self) -> list[DisagreementFigure]:
        """The figure of the places, for wide screens and for a phone; empty without places."""
        if self.evidence is None or not self.evidence.places:
            return []
        return [
            disagreement_figure(self.evidence.places, self.evidence.tolerance_nats, width=width) for width in (546, 330)
        ]


def doubts(runs: Iterable[Run]) -> list[Doubt]:
    """A Doubt for each run whose score is not ok, or was decided on in quarantine; none for what nobody measured."""
    scored = ((run, getattr(run, "score", None)) for run in runs)
    plain = ("ok", self_reported.OUTCOME)
    return [Doubt(r, s) for r, s in scored if s is not None and (s.outcome not in plain or s.settled_at is not None)]
