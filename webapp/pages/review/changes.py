"""What changed between two revisions of a proposal, for a reader who knows the first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gpu_runner.contract import KnobValue
from research.change import patches
from research.change.drafts import Edit
from research.models import Revision
from research.record import repository
from webapp.drawing import diffs, figures

WORDS = (
    ("hypothesis", "Hypothesis"),
    ("mechanism", "Mechanism"),
    ("refuted_if", "Counts as refuted if"),
    ("why_together", "Why together"),
)


@dataclass(frozen=True)
class Moved:
    """An override that was added, removed or changed; None is the incumbent's value."""

    key: str
    before: KnobValue | None
    after: KnobValue | None


@dataclass(frozen=True)
class Said:
    name: str
    before: str
    after: str


class Changes:
    """The changes from revision ``before`` to ``after``, computed lazily."""

    def __init__(self, before: Revision, after: Revision) -> None:
        self.before, self.after = before, after

    @cached_property
    def overrides(self) -> list[Moved]:
        old, new = self.before.knobs, self.after.knobs
        keys = [*old, *(key for key in new if key not in old)]
        return [Moved(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]

    @cached_property
    def prediction(self) -> list[Said]:
        pairs = [
            Said("Effect, bpb", _effect(self.before), _effect(self.after)),
            Said("Chance to win", _chance(self.before), _chance(self.after)),
            Said("Risk", _risk(self.before), _risk(self.after)),
            Said("Cost", _cost(self.before), _cost(self.after)),
        ]
        return [said for said in pairs if said.before != said.after]

    @cached_property
    def words(self) -> list[Said]:
        """Texts that changed, with their earlier versions."""
        pairs = [Said(name, getattr(self.before, field), getattr(self.after, field)) for field, name in WORDS]
        return [said for said in pairs if said.before != said.after]

    @property
    def is_other_incumbent(self) -> bool:
        return self.before.incumbent_id != self.after.incumbent_id

    @property
    def is_other_code(self) -> bool:
        return bool(self.before.edits != self.after.edits)

    @cached_property
    def files(self) -> list[diffs.FileDiff] | None:
        """The diff between both codes, on one incumbent; None where the first does not apply to it."""
        if not self.is_other_code:
            return []
        try:
            return diffs.parse(_code_between(self.before, self.after))
        except (OSError, ValueError):
            return None

    @property
    def is_nothing(self) -> bool:
        """Whether the experiment is unchanged."""
        return not (self.overrides or self.prediction or self.words or self.is_other_code)


def _code_between(before: Revision, after: Revision) -> str:
    incumbent = after.incumbent
    files = repository.files_at(incumbent.campaign, incumbent.commit)
    return patches.moved(files, [Edit(**e) for e in before.edits], [Edit(**e) for e in after.edits])


def _effect(revision: Revision) -> str:
    effect, low, high = (figures.signed(v, 4) for v in (revision.effect_bpb, revision.low_bpb, revision.high_bpb))
    return f"{effect} ({low} to {high})"


def _chance(revision: Revision) -> str:
    return f"{100 * revision.chance_to_win:.0f} %"


def _risk(revision: Revision) -> str:
    return revision.get_risk_display() or "not said"


def _cost(revision: Revision) -> str:
    if revision.time_factor is None or revision.memory_factor is None:
        return "not said"
    return f"{revision.time_factor:g} × time, {revision.memory_factor:g} × memory"
