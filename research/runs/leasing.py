"""Leases: a worker claims a run and gets a lease, a fence and a run token.

The Run row is the truth, a Celery message only a doorbell. A claim is one conditional update; everything that comes
back is accepted only with the fence of the present lease.
"""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from gpu_runner import contract
from research import lifecycle
from research.lifecycle import Stop
from research.models import Proposal, Run, Worker
from research.record import approval, moves, rights
from research.runs import ending, incumbent_usage, quarantine

log = logging.getLogger(__name__)
CLAIM_TRIES = 5
SMOKE_SCORE_TOKENS = 4_096


def claim(worker: Worker, wanted: contract.Claim) -> contract.Lease | None:
    """Lease the most urgent run that ``worker`` may execute; None when there is none.

    Not the run that a doorbell named: a smoke run that was queued later goes first.
    """
    for _ in range(CLAIM_TRIES):
        run = _claimable(wanted)
        if run is None:
            return None
        try:
            if unwanted := _why_unwanted(run):
                ending.stop_run(run, kind=unwanted[0], by=rights.DISPATCH, reason=unwanted[1])
                continue
            return _lease(run, worker, wanted)
        except lifecycle.LostRace as race:
            log.info("claim by %s: %s", worker, race)
    return None


def _claimable(wanted: contract.Claim) -> Run | None:
    same_hardware = Q(campaign__hardware_class="") | Q(campaign__hardware_class=wanted.hardware_class)
    has_packages = Q(campaign__environment_sha256="") | Q(campaign__environment_sha256__in=wanted.environments)
    return (
        Run.objects.select_related("campaign", "incumbent", "revision__proposal__campaign")
        .filter(
            same_hardware,
            has_packages,
            state="queued",
            campaign__state="active",
            campaign__sandbox_level=wanted.sandbox_level,
        )
        .exclude(quarantine.of_revision("revision"), purpose="candidate")
        .exclude(incumbent_usage.awaited())
        .order_by("rank", "pk")
        .first()
    )


def _why_unwanted(run: Run) -> tuple[Stop, str] | None:
    """Why a queued run must not start after all; None when it may. Reads the record anew."""
    if not _is_as_signed(run):
        by_hand = "nobody approved this digest, so the record was changed by hand: see `manage.py verify_audit`"
        return Stop.UNWANTED, by_hand
    if run.purpose == "candidate" and run.revision:
        proposal = Proposal.objects.get(pk=run.revision.proposal_id)
        if proposal.state not in ("approved", "running"):
            return Stop.UNWANTED, f"P-{proposal.pk} is {proposal.state.replace('_', ' ')}"
        others = run.campaign.proposals.filter(state="running").exclude(quarantine.of_proposal())
        if proposal.state == "approved" and (other := others.exclude(pk=proposal.pk).first()) is not None:
            return Stop.POSTPONED, f"P-{other.pk} runs first"
    if run.incumbent_id != run.campaign.incumbent.pk:
        return Stop.UNWANTED, "the incumbent moved"
    if run.approval["lock_sha256"] != approval.lock_sha256():
        return Stop.UNWANTED, "the installed packages changed"
    if run.approval.get("environment_sha256", "") != run.campaign.environment_sha256:
        return Stop.UNWANTED, "the packages of its environment changed"
    return None


def _is_as_signed(run: Run) -> bool:
    """Whether a candidate's digest was approved, a smoke run's is its revision's, and a baseline has no change.

    The worker checks that the digest is that of ``run.approval``.
    """
    if run.purpose == "candidate":
        return run.revision is not None and run.revision.decisions.filter(choice="approve", digest=run.digest).exists()
    if run.purpose == "smoke":
        return run.revision is not None and run.digest == run.revision.digest
    signed = contract.Approval.model_validate(run.approval)
    return signed == signed.of_the_incumbent() and signed.base_commit == run.incumbent.commit


def _lease(run: Run, worker: Worker, wanted: contract.Claim) -> contract.Lease:
    token = secrets.token_urlsafe(32)
    now = timezone.now()
    with transaction.atomic():
        moves.bind(run.campaign, wanted.hardware_class)
        # Looked at again now that nobody else promotes or leases here: between the first look and the hold both may.
        if unwanted := _why_unwanted(run):
            raise lifecycle.LostRace(f"R-{run.pk} is not wanted any more: {unwanted[1]}")
        if run.purpose == "candidate":
            _start_proposal(run, worker)
        moves.move_run(
            run,
            "leased",
            by=rights.worker(worker),
            sentence=f"R-{run.pk} was claimed by {worker.name}",
            worker=worker,
            hardware_class=wanted.hardware_class,
            sandbox_level=wanted.sandbox_level,
            attempt=run.attempt + 1,
            fence=run.fence + 1,
            token_sha256=contract.sha256(token.encode()),
            lease_until=now + timedelta(seconds=contract.LEASE_S),
            leased_at=now,
            progress=None,
            latest={},
            started=None,
        )
    return contract.Lease(spec=spec_of(run), token=token)


def _start_proposal(run: Run, worker: Worker) -> None:
    assert run.revision is not None
    proposal = run.revision.proposal
    if proposal.state == "running":
        return
    sentence = f"P-{proposal.pk} {proposal.title} is running"
    moves.move_proposal(proposal, "running", by=rights.worker(worker), sentence=sentence)


def spec_of(run: Run) -> contract.RunSpec:
    """The RunSpec for the worker that holds the lease."""
    campaign, smoke = run.campaign, run.purpose == "smoke"
    title = run.revision.proposal.title if run.revision else f"Incumbent {run.incumbent.number}"
    return contract.RunSpec(
        run_id=run.pk,
        fence=run.fence,
        attempt=run.attempt,
        next_seq=run.last_seq + 1,
        purpose=run.purpose,  # type: ignore[arg-type]
        title=title,
        seed=run.seed,
        approval=contract.Approval.model_validate(run.approval),
        digest=run.digest,
        dataset=campaign.dataset,
        max_steps=campaign.smoke_steps if smoke else None,
        score_tokens=min(SMOKE_SCORE_TOKENS, campaign.score_tokens) if smoke else campaign.score_tokens,
        splits=("val", "sealed") if run.reads_sealed else ("val",),
        deadline_s=campaign.deadline_s,
        usual=incumbent_usage.expected(run),
        usual_effort=incumbent_usage.effort(run),
    )
