"""The review queue: open proposals, in sections by what a person has to do, in three queries."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.contrib.auth.models import User
from django.db.models import Case, Count, F, Max, Q, When

from research import lifecycle
from research.models import Proposal, Revision
from research.record import rights
from research.record.rights import is_member
from research.review import decisions
from research.runs import quarantine
from webapp.drawing import figures
from webapp.pages.review.wave import predicted

MAX_ROWS = 60  # a section; beyond, the campaign page lists the rest

A_SCORE_WAITS = "A score waits for a reviewer"
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
    is_own: bool  # of the reader, who cannot decide on it
    mark: str = ""  # of a wave: "first", "inner" or "last" of its rows here

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
    """All open proposals at their newest revision, oldest first; empty sections are left out."""
    assert is_member(user), "views fetch through webapp.pages.access"
    rows = _rows(user)
    found = []
    for title, icon, states in SECTIONS:
        mine = _by_wave([row for row in rows if row.stands_in(title, states)])
        if mine:
            found.append(Section(title, icon, mine[:MAX_ROWS], max(0, len(mine) - MAX_ROWS)))
    return found


def _by_wave(rows: list[Row]) -> list[Row]:
    """Rows with each wave's together, at the place of its oldest."""
    waves: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        proposal = row.revision.proposal
        key = ("alone", proposal.pk) if proposal.wave_id is None else ("wave", proposal.wave_id)
        waves.setdefault(key, []).append(row)
    return [marked for together in waves.values() for marked in _marked(together)]


def _marked(rows: list[Row]) -> list[Row]:
    if len(rows) == 1:
        return rows
    marks = ["first", *["inner"] * (len(rows) - 2), "last"]
    return [replace(row, mark=mark) for row, mark in zip(rows, marks, strict=True)]


def _rows(user: User) -> list[Row]:
    own = set(
        Proposal.objects.filter(rights.is_of(user), state__in=lifecycle.PROPOSAL_OPEN).values_list("pk", flat=True)
    )
    newest = Revision.objects.filter(proposal__state__in=lifecycle.PROPOSAL_OPEN).annotate(
        newest=Max("proposal__revisions__number"),
        num_gates=Count("gates", distinct=True),
        num_passed=Count("gates", filter=Q(gates__outcome__in=("passed", "warned")), distinct=True),
        waits=quarantine.of_proposal("proposal"),
    )
    revisions = list(
        newest.filter(number=F("newest")).select_related("proposal__campaign").order_by("proposal__state_at", "pk")
    )
    effects = [predicted(revision) for revision in revisions]
    scale = figures.mini_scale(effects)
    return [
        Row(r, figures.mini_figure(scale, effect), r.num_gates, r.num_passed, r.waits, r.proposal_id in own)
        for r, effect in zip(revisions, effects, strict=True)
    ]


def next_waiting(user: User, after: int | None = None) -> int | None:
    """The proposal that ``user`` may decide on next: of the wave of ``after`` if one waits there, else the oldest."""
    assert is_member(user), "views fetch through webapp.pages.access"
    its_wave = Proposal.objects.filter(pk=after or 0, wave__isnull=False).values("wave")
    distance = Case(When(wave__in=its_wave, then=0), default=1)
    waiting = decisions.waiting_for(user).exclude(pk=after or 0)
    return waiting.order_by(distance, "state_at", "pk").values_list("pk", flat=True).first()
