"""The wave of a proposal: what its members are to find out together, and the state of each."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import F, Max

from research.models import Proposal, Revision
from webapp.drawing import figures


@dataclass(frozen=True, kw_only=True)
class Member:
    """One proposal of a wave at its newest revision."""

    revision: Revision
    mini: figures.MiniFigure
    is_this: bool

    @property
    def state(self) -> str:
        """Its verdict's outcome, else its state."""
        verdict = getattr(self.revision, "verdict", None)
        if verdict is None:
            return self.revision.proposal.state
        return "crashed" if verdict.crashed else str(verdict.outcome)


@dataclass(frozen=True, kw_only=True)
class Wave:
    """The members of a wave, in the order in which they were written."""

    design: str
    members: list[Member]

    @property
    def place(self) -> int:
        return next(n for n, member in enumerate(self.members, start=1) if member.is_this)

    @property
    def others(self) -> list[Member]:
        return [member for member in self.members if not member.is_this]


def predicted(revision: Revision) -> figures.Effect:
    """The effect that was predicted, for a small figure beside others."""
    return figures.Effect(
        label="", effect_bpb=revision.effect_bpb, low_bpb=revision.low_bpb, high_bpb=revision.high_bpb
    )


def wave_of(proposal: Proposal) -> Wave | None:
    """The wave; None for a proposal that came alone."""
    if proposal.wave is None:
        return None
    newest = Revision.objects.filter(proposal__wave=proposal.wave).annotate(newest=Max("proposal__revisions__number"))
    rows = list(newest.filter(number=F("newest")).select_related("proposal", "verdict").order_by("proposal"))
    if len(rows) < 2:
        return None
    effects = [predicted(revision) for revision in rows]
    scale = figures.mini_scale(effects)
    members = [
        Member(revision=revision, mini=figures.mini_figure(scale, effect), is_this=revision.proposal_id == proposal.pk)
        for revision, effect in zip(rows, effects, strict=True)
    ]
    return Wave(design=proposal.wave.design, members=members)
