"""The control worker's tasks: each fetches a row, calls one verb, returns."""

from __future__ import annotations

import logging
from collections.abc import Callable

from celery import shared_task

from research import lifecycle
from research.gates import process
from research.judge import judge
from research.loop import reconcile as reconciling
from research.models import Campaign, Proposal, Run
from research.propose import drafting as proposing
from research.record.repairs import repair
from research.runs import dispatch

log = logging.getLogger(__name__)


@shared_task(name="control.propose")
def propose(campaign_id: int) -> None:
    proposing.top_up(Campaign.objects.get(pk=campaign_id))


@shared_task(name="control.check")
def check(proposal_id: int) -> None:
    process.check(Proposal.objects.select_related("campaign").get(pk=proposal_id).revision)


@shared_task(name="control.revise")
def revise(proposal_id: int) -> None:
    _unless_lost(proposing.revise, proposal_id, "changes_requested")


@shared_task(name="control.rebase")
def rebase(proposal_id: int) -> None:
    _unless_lost(proposing.rebase, proposal_id, "stale")


@shared_task(name="control.advance")
def advance(campaign_id: int) -> None:
    dispatch.advance(Campaign.objects.get(pk=campaign_id))


@shared_task(name="control.run_ended")
def run_ended(run_id: int) -> None:
    """Conclude what waited for this run. Every step reads the record, so a second call changes nothing."""
    run = Run.objects.select_related("campaign", "incumbent", "revision__proposal__campaign").get(pk=run_id)
    if run.state in lifecycle.RUN_OVER:
        if run.purpose == "smoke":
            if run.revision is not None:  # the incumbent's own only answers whoever tries the campaign out
                process.after_smoke(run)
        elif run.revision is not None:
            judge.consider(run.revision.proposal)
        else:
            for proposal in run.campaign.proposals.filter(state="running"):
                with repair(f"P-{proposal.pk}", run.campaign):
                    judge.consider(proposal)
    if run.stop_kind != lifecycle.Stop.UNWANTED:  # whoever claims may find the next one unwanted as well, for ever
        dispatch.advance(run.campaign)


@shared_task(name="control.look_after")
def look_after(campaign_id: int) -> None:
    reconciling.look_after(Campaign.objects.get(pk=campaign_id))


@shared_task(name="control.reconcile")
def reconcile(at_start: bool = False) -> None:
    reconciling.reconcile(at_start=at_start)


def _unless_lost(verb: Callable[[Proposal], None], proposal_id: int, state: str) -> None:
    """Call ``verb`` if the proposal is still in ``state``; after a doubled doorbell it is not."""
    proposal = Proposal.objects.select_related("campaign").filter(pk=proposal_id, state=state).first()
    if proposal is None:
        return
    try:
        verb(proposal)
    except lifecycle.LostRace as race:
        log.info("%s", race)
