"""Doorbells. A task fetches, calls the domain, returns; a lost or doubled one is harmless.

``reconcile`` runs every few seconds and does whatever a lost message left undone.
"""

from __future__ import annotations

import logging

from celery import current_app, shared_task
from kombu.exceptions import OperationalError

from research.lifecycle import LostRace
from research.models import Campaign, Proposal, Revision

log = logging.getLogger(__name__)
RING_EXPIRES_S = 60


def send(name: str, *args: int) -> None:
    """Ask the control worker to run ``research.tasks.NAME``. Without a broker it only says so: reconcile will."""
    _send(f"research.tasks.{name}", args, queue="control")


def ring(run_id: int) -> None:
    """Tell the GPU workers that there is work."""
    _send("gpu_runner.ring", (run_id,), queue="gpu")


def _send(name: str, args: tuple[int, ...], *, queue: str) -> None:
    try:
        current_app.send_task(name, args=args, queue=queue, retry=False, ignore_result=True, expires=RING_EXPIRES_S)
    except OperationalError as error:
        log.warning("no broker for %s%s: %s", name, args, error)


@shared_task
def propose(campaign_id: int) -> None:
    from research import propose as verbs

    verbs.top_up(Campaign.objects.get(pk=campaign_id))


@shared_task
def check(revision_id: int) -> None:
    from research import gates

    gates.check(Revision.objects.select_related("proposal__campaign").get(pk=revision_id))


@shared_task
def revise(proposal_id: int) -> None:
    from research import propose as verbs

    _unless_lost(verbs.revise, proposal_id, "changes_requested")


@shared_task
def rebase(proposal_id: int) -> None:
    from research import propose as verbs

    _unless_lost(verbs.rebase, proposal_id, "stale")


@shared_task
def run_ended(run_id: int) -> None:
    from research import report

    report.follow_up(run_id)


@shared_task
def reconcile(at_start: bool = False) -> None:
    from research import reconcile as verbs

    verbs.reconcile(at_start=at_start)


def _unless_lost(verb: object, proposal_id: int, state: str) -> None:
    """Call ``verb`` when the proposal still waits for it; a second doorbell for the same thing finds nothing to do."""
    assert callable(verb)
    proposal = Proposal.objects.select_related("campaign").filter(pk=proposal_id, state=state).first()
    if proposal is None:
        return
    try:
        verb(proposal)
    except LostRace as race:
        log.info("%s", race)
