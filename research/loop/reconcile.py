"""Every few seconds: does what a lost doorbell, a dead process or the passing of time left undone.

None of it is needed while all goes well, and all of it may be called twice.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from django.utils import timezone

from research import lifecycle
from research.gates import process
from research.judge import judge
from research.models import Campaign, Proposal
from research.propose import drafting, turns
from research.record import approval, chain, doorbell, moves, repository, rights
from research.record.repairs import repair
from research.runs import dispatch, ending

log = logging.getLogger(__name__)
OVERDUE = timedelta(seconds=20)  # a doorbell that has not been answered for so long was lost


def reconcile(*, at_start: bool = False) -> None:
    """Repair leases, the audit chain and every campaign; an error in one repair stops no other (``repairs``).

    ``at_start`` of the control worker no earlier task can still be on its way.
    """
    with repair("The leases of silent workers"):
        ending.expire_leases()
    with repair("The audit chain"):
        _chain()
    for campaign in Campaign.objects.all():
        with repair(f"The campaign {campaign.slug}", campaign):
            look_after(campaign, at_start=at_start)


def _chain() -> None:
    """Append new events to the audit chain.

    Nothing waits for it; a broken chain is logged, and people may pause the loop.
    """
    try:
        chain.chain()
    except chain.Busy as busy:
        log.info("the record is not chained yet: %s", busy)
    except chain.Broken as broken:
        log.error("the record is not chained: %s", broken)
    except OSError:
        log.exception("the head of the chain could not be kept in the home; trying again in a few seconds")


def look_after(campaign: Campaign, *, at_start: bool = False) -> None:
    """Do or ring for what one campaign needs next.

    Each is rung for at most once in a few seconds, and twice is harmless.
    """
    _conclude_ended(campaign)
    with repair("The repository", campaign):
        repository.follow(campaign)
    if campaign.state != "active":
        _ring_proposer(campaign)  # a batch that is on its way is paid for
        return
    _expire_approvals(campaign)
    if at_start:
        _check_drafted(campaign)
    _ring_for_proposals(campaign)
    with repair("What runs next", campaign):
        dispatch.advance(campaign)
    _ring_proposer(campaign)


def _ring_proposer(campaign: Campaign) -> None:
    turn = turns.of(campaign)
    if drafting.is_due(turn) and turns.is_free(turn):
        doorbell.control("control.propose", campaign.pk)


def _conclude_ended(campaign: Campaign) -> None:
    """Conclude for runs whose end nobody answered: smoke runs of proposals in the gates, pairs of running ones."""
    for proposal in campaign.proposals.filter(state="checking"):
        with _repair_of(proposal):
            _conclude_gates(proposal)
    for proposal in campaign.proposals.filter(state="running"):
        with _repair_of(proposal):
            judge.consider(proposal)


def _conclude_gates(proposal: Proposal) -> None:
    smoke = proposal.revision.runs.filter(purpose="smoke").order_by("-pk").first()
    if smoke is not None and smoke.state in lifecycle.RUN_OVER:
        process.after_smoke(smoke)
    elif smoke is None and proposal.state_at < timezone.now() - OVERDUE:
        process.recheck(proposal.revision)


def _check_drafted(campaign: Campaign) -> None:
    """Run the gates now, so that smoke runs, which people wait for, are queued before any baseline is claimed."""
    for proposal in campaign.proposals.filter(state="drafted"):
        with _repair_of(proposal):
            process.check(proposal.revision)


def _expire_approvals(campaign: Campaign) -> None:
    """Make approvals stale that are too old or were made under other conditions."""
    old = timezone.now() - timedelta(hours=campaign.approval_ttl_h)
    for proposal in campaign.proposals.filter(state__in=("pending_review", "approved")):
        with _repair_of(proposal):
            if why := _why_stale(proposal, old):
                sentence = f"P-{proposal.pk} {proposal.title} is stale: {why}"
                moves.move_proposal(proposal, "stale", by=rights.RECONCILE, sentence=sentence)


def _why_stale(proposal: Proposal, old: datetime) -> str:
    if proposal.state == "approved" and proposal.state_at < old:
        return f"{proposal.campaign.approval_ttl_h:g} hours passed since its approval"
    if approval.is_stale(proposal.revision):
        return "the incumbent, a setting of the campaign or the installed packages changed"
    return ""


def _repair_of(proposal: Proposal) -> AbstractContextManager[None]:
    return repair(f"P-{proposal.pk}", proposal.campaign)


def _ring_for_proposals(campaign: Campaign) -> None:
    """Ring for proposals whose control task has not come."""
    overdue, turn = timezone.now() - OVERDUE, turns.of(campaign)
    for proposal in campaign.proposals.filter(state="stale"):
        doorbell.control("control.rebase", proposal.pk)
    for proposal in campaign.proposals.filter(state__in=("drafted", "changes_requested"), state_at__lt=overdue):
        with _repair_of(proposal):
            if proposal.state == "drafted":
                doorbell.control("control.check", proposal.pk)
            elif proposal.arm in Proposal.FROM_OUTSIDE:
                continue  # its author answers
            elif not turns.rests(turn):
                doorbell.control("control.revise", proposal.pk)
