"""The history of one proposal: its events, and its decisions in people's words."""

from __future__ import annotations

from dataclasses import dataclass

from research.models import Decision, Event, Proposal

# Left out of the history: steps of runs that have pages of their own, and what another line says already.
QUIET_EVENTS = (
    "run.queued", "run.leased", "run.training", "run.scoring", "proposal.checking", "verdict",
    "finding.recorded", "ledger.entered", "ledger.not_sent", "ledger.charged", "ledger.written_off",
)  # fmt: skip
MAX_EVENTS = 80
DECIDED = (
    "proposal.approved",
    "proposal.rejected",
    "proposal.changes_requested",
    "proposal.override_signed",
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
    "approve": ("Approved", "approved"),
    "reject": ("Rejected", "rejected"),
    "request_changes": ("Changes requested", "changes_requested"),
    "override": ("Override signed", "override_signed"),
}


def _of_decision(decision: Decision) -> Moment:
    name = decision.by.get_full_name() or decision.by.get_username()
    past, becomes = _SAID[decision.choice]
    label = f" ({decision.get_category_display().lower()})" if decision.category else ""
    signs = decision.choice in ("approve", "override")
    on = f" on digest {decision.digest[:4]}…{decision.digest[-4:]}" if signs else ""
    return Moment(
        decision.created_at, f"proposal.{becomes}", f"{past} by {name}{label}{on}", decision.reason, f"user:{name}"
    )
