"""The history of one proposal: its events, and its decisions in people's words."""

from __future__ import annotations

from dataclasses import dataclass

from research.models import Decision, Event, Proposal
from research.record import kinds

# Left out of the history: steps of runs that have pages of their own, and what another line says already.
QUIET_EVENTS = (
    *(kinds.RUN[state] for state in ("queued", "leased", "training", "scoring")),
    kinds.PROPOSAL["checking"],
    kinds.VERDICT,
    kinds.FINDING_RECORDED,
    *kinds.LEDGER,
)
MAX_EVENTS = 80
DECIDED = (
    kinds.PROPOSAL["approved"],
    kinds.PROPOSAL["rejected"],
    kinds.PROPOSAL["changes_requested"],
    kinds.OVERRIDE_SIGNED,
)


@dataclass(frozen=True)
class Moment:
    """One line of the history: an event or a decision."""

    at: object
    kind: str
    sentence: str
    quote: str
    by: str


def of(proposal: Proposal, decisions: list[Decision]) -> list[Moment]:
    """The history of a proposal, newest first."""
    told = Event.objects.filter(proposal=proposal).exclude(kind__in=[*QUIET_EVENTS, *DECIDED])
    moments = [Moment(e.at, e.kind, e.sentence, "", e.by) for e in told.order_by("-pk")[:MAX_EVENTS]]
    moments += [_of_decision(d) for d in decisions]
    return sorted(moments, key=lambda m: str(m.at), reverse=True)


_SAID = {
    "approve": ("Approved", kinds.PROPOSAL["approved"]),
    "reject": ("Rejected", kinds.PROPOSAL["rejected"]),
    "request_changes": ("Changes requested", kinds.PROPOSAL["changes_requested"]),
    "override": ("Override signed", kinds.OVERRIDE_SIGNED),
}


def _of_decision(decision: Decision) -> Moment:
    name = decision.by.get_full_name() or decision.by.get_username()
    past, kind = _SAID[decision.choice]
    label = f" ({decision.get_category_display().lower()})" if decision.category else ""
    signs = decision.choice in ("approve", "override")
    on = f" on digest {decision.digest[:4]}…{decision.digest[-4:]}" if signs else ""
    return Moment(decision.created_at, kind, f"{past} by {name}{label}{on}", decision.reason, f"user:{name}")
