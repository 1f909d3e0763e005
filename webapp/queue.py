"""The review queue: open proposals in the sections in which a person works through them, in two queries."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db.models import Count, F, Max, Q

from research import lifecycle, quarantine
from research.models import Revision
from webapp import figures
from webapp.access import may_read

MAX_ROWS = 60  # a section; beyond, the campaign page lists the rest

A_SCORE_WAITS = "A score waits for you"
SECTIONS = [
    # title, icon, states
    (A_SCORE_WAITS, "shield-alert", ()),
    ("Ready for review", "circle-dot", ("pending_review",)),
    ("In gates", "list-checks", ("drafted", "checking")),
    ("Changes requested", "message-square", ("changes_requested",)),
    ("Blocked by a gate", "shield-alert", ("blocked",)),
    ("Stale, being rebased", "history", ("stale",)),
    ("Approved and running", "activity", ("approved", "running")),
]


@dataclass(frozen=True)
class Row:
    revision: Revision
    mini: figures.MiniFigure
    num_gates: int
    num_passed: int
    waits: bool  # for a person to look at a quarantined score

    def stands_in(self, title: str, states: tuple[str, ...]) -> bool:
        return title == A_SCORE_WAITS if self.waits else self.revision.proposal.state in states


@dataclass(frozen=True)
class Section:
    title: str
    icon: str
    rows: list[Row]
    num_more: int

    @property
    def num_rows(self) -> int:
        return len(self.rows) + self.num_more


def sections(user: User) -> list[Section]:
    """Every open proposal at its newest revision, oldest first; sections without rows are left out."""
    assert may_read(user), "views fetch through webapp.access"
    rows = _rows()
    found = []
    for title, icon, states in SECTIONS:
        mine = [row for row in rows if row.stands_in(title, states)]
        if mine:
            found.append(Section(title, icon, mine[:MAX_ROWS], max(0, len(mine) - MAX_ROWS)))
    return found


def _rows() -> list[Row]:
    newest = Revision.objects.filter(proposal__state__in=lifecycle.PROPOSAL_OPEN).annotate(
        newest=Max("proposal__revisions__number"),
        num_gates=Count("gates", distinct=True),
        num_passed=Count("gates", filter=Q(gates__outcome__in=("passed", "warned")), distinct=True),
        waits=quarantine.of_proposal("proposal"),
    )
    revisions = list(
        newest.filter(number=F("newest")).select_related("proposal__campaign").order_by("proposal__state_at", "pk")
    )
    effects = [
        figures.Effect(label="", effect_bpb=r.effect_bpb, low_bpb=r.low_bpb, high_bpb=r.high_bpb) for r in revisions
    ]
    scale = figures.mini_scale(effects)
    return [
        Row(r, figures.mini_figure(scale, effect), r.num_gates, r.num_passed, r.waits)
        for r, effect in zip(revisions, effects, strict=True)
    ]


def next_waiting(user: User, after: int | None = None) -> int | None:
    """The proposal to look at next: the oldest that waits, apart from ``after``."""
    assert may_read(user), "views fetch through webapp.access"
    waiting = Revision.objects.filter(proposal__state="pending_review").exclude(proposal=after)
    first: int | None = waiting.order_by("proposal__state_at").values_list("proposal", flat=True).first()
    return first
