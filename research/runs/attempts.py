"""How often a lost run is tried again, and when the machine is no longer believed to be at fault.

A run that was lost is tried again, the same seed under the same spec, MAX_ATTEMPTS times in all. Nobody can tell from
outside whether a process was killed by somebody or by itself, so a proposal could end its own runs until it likes the
result. So ends without a known reason are counted over all runs of a proposal, and compared with those of its
incumbent's own: with more than MAX_UNEXPLAINED beyond these the proposal gets no further attempt and is inconclusive.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from gpu_runner.contract import FAULT_OF, Failure, FailureKind, Fault
from research.models import Campaign, Event, Run
from research.record import kinds

MAX_ATTEMPTS = 3
MAX_UNEXPLAINED = 2  # of all runs of a proposal, beyond as many as the incumbent's own had
MAX_BASELINES = 3  # runs of the incumbent, of MAX_ATTEMPTS each, that the machine may end in a row
MAX_SMOKES = 3  # smoke runs of one proposal, of MAX_ATTEMPTS each, that the machine may end
# What a run may bring about itself; that a worker was silent, or was told to leave, it cannot.
UNEXPLAINED = tuple(
    kind for kind, fault in FAULT_OF.items() if fault == "machine" and kind not in ("lost_contact", "worker_stopped")
)
MACHINES = tuple(kind for kind, fault in FAULT_OF.items() if fault == "machine")


def is_machines(failure: dict[str, Any] | None) -> bool:
    return (failure or {}).get("kind") in MACHINES


def fault_of(failure: dict[str, Any]) -> Fault:
    """Whose fault a failure is; the proposal's for a kind that this version does not know."""
    return FAULT_OF.get(failure.get("kind", ""), "proposal")


def last_failure(run: Run, *, why: str, kind: FailureKind, todo: str) -> Failure | None:
    """The Failure with which a lost ``run`` ends for good; None where it is tried again."""
    if why_not := _not_believed(run, why):
        return Failure(kind="unexplained", message=why_not, todo="If it was the machine, propose it again.")
    if run.attempt >= MAX_ATTEMPTS:
        todo = todo or "Look at the worker's log; then propose it again."
        return Failure(kind=kind, message=f"Tried {run.attempt} times. At last: {why}"[:4_000], todo=todo)
    return None


def _not_believed(run: Run, why: str) -> str:
    if run.purpose != "candidate" or run.revision is None:
        return ""
    mine, theirs = num_unexplained(run.revision.proposal_id), _num_unexplained_of_the_incumbent(run)
    if mine <= MAX_UNEXPLAINED + theirs:
        return ""
    return (
        f"Runs of this proposal ended {mine} times without a known reason, and the incumbent's own {theirs} times: the"
        f" machine, or its own doing. At last: {why}"
    )[:4_000]


def num_unexplained(proposal_id: int) -> int:
    """Lost attempts without a known reason, over all candidate runs of the proposal: no seed gives more chances."""
    return _lost(Event.objects.filter(proposal=proposal_id, run__purpose="candidate")).count()


def as_told(proposal_id: int) -> str:
    """A sentence for the verdict about attempts lost without a known reason, with a blank before it; "" for none."""
    num = num_unexplained(proposal_id)
    what = "1 attempt at its runs was" if num == 1 else f"{num} attempts at its runs were"
    return f" {what} ended without a known reason, and made again under the same seed." if num else ""


def _num_unexplained_of_the_incumbent(run: Run) -> int:
    return _lost(Event.objects.filter(run__incumbent=run.incumbent_id, run__purpose="baseline")).count()


def _lost(events: QuerySet[Event]) -> QuerySet[Event]:
    return events.filter(kind=kinds.RUN["lost"], payload__cause__in=UNEXPLAINED)


def may_be_asked_anew(run: Run) -> bool:
    """Whether a failed baseline may be queued again: the machine ended it, and not too many in a row."""
    return is_machines(run.failure) and _num_in_a_row(run.campaign) < MAX_BASELINES


def may_be_tried_out_anew(run: Run) -> bool:
    """Whether a failed smoke run may be queued again: the machine ended it, and not too many of this proposal's."""
    assert run.revision is not None
    own = Run.objects.filter(purpose="smoke", revision__proposal=run.revision.proposal_id, state="failed")
    return is_machines(run.failure) and own.filter(failure__kind__in=MACHINES).count() < MAX_SMOKES


def _num_in_a_row(campaign: Campaign) -> int:
    """Baselines that the machine ended since one finished, or since the campaign was resumed."""
    own = campaign.runs.filter(purpose="baseline")
    through = own.filter(state="finished").order_by("-ended_at").values_list("ended_at", flat=True).first()
    resumed = campaign.events.filter(kind=kinds.CAMPAIGN["active"]).order_by("-pk").values_list("at", flat=True).first()
    since = max(filter(None, (through, resumed)), default=campaign.created_at)
    return own.filter(
        state="failed", failure__kind__in=MACHINES, ended_at__gt=since, ended_at__lte=timezone.now()
    ).count()
