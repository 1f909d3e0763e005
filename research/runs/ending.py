"""Ends runs before their time: stopped, given back by a worker, or taken from one that fell silent."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from gpu_runner import contract
from research import lifecycle
from research.lifecycle import Stop
from research.models import Campaign, Revision, Run, Score
from research.record import events, kinds, ledger, moves, repairs, rights
from research.record.rights import Actor, Part
from research.runs import attempts, remeasure

log = logging.getLogger(__name__)
CLOCKS_APART = timedelta(seconds=5)  # those of several web machines


def stop_run(run: Run, *, kind: Stop, by: Actor, reason: str) -> None:
    """Cancel a queued run now; tell a live one to stop with its next report (ten seconds at most).

    Raises PermissionDenied, or LostRace when it is over.
    """
    rights.check(by, rights.stop, run)
    _stop(run, kind, by, reason)


def _stop(run: Run, kind: Stop, by: Actor, reason: str) -> None:
    told: dict[str, Any] = {"stop_kind": kind, "stop_reason": reason[:200]}
    if run.state == "queued":
        moves.move_run(run, "cancelled", by=by, sentence=f"R-{run.pk} was cancelled: {reason}", **told)
        return
    live = Run.objects.filter(pk=run.pk, fence=run.fence, state__in=lifecycle.RUN_LIVE)
    with transaction.atomic():
        if live.update(**told) != 1:
            raise lifecycle.LostRace(f"R-{run.pk} is already over")
        fact = kinds.RUN_TOLD_TO_STOP(why=str(kind), reason=told["stop_reason"])
        said, proposal = f"R-{run.pk} was told to stop: {reason}", run.revision.proposal if run.revision else None
        events.record(fact, said, by=rights.name_of(by), campaign=run.campaign, proposal=proposal, run=run)


def cancel_queued(revision: Revision, *, by: Actor, reason: str) -> None:
    """Cancel queued runs and stop live ones of a proposal that is over. Raises PermissionDenied."""
    rights.check(by, rights.withdraw, revision.proposal)
    for run in revision.runs.filter(purpose="candidate", state__in={"queued", *lifecycle.RUN_LIVE}):
        try:
            _stop(run, Stop.UNWANTED, by, reason)
        except lifecycle.LostRace as race:
            log.info("%s", race)


def give_back(run: Run, *, by: Part, why: str, kind: contract.FailureKind = "lost_contact", todo: str = "") -> None:
    """Queue a lost run again while it has attempts left: the same seed, under the same spec.

    A run that was told to stop is cancelled instead; where it was only halted, ``advance`` queues a new one.
    """
    rights.check(by, rights.only_the_house, run)
    with transaction.atomic():
        if run.purpose == "baseline":
            moves.hold(run.campaign)  # before the run: it may be paused below
        if run.stop_kind:
            _stop_without_its_worker(run, by=by, why=why)
            return
        told = kinds.Lost(cause=kind, attempt=run.attempt)
        moves.move_run(run, "lost", by=by, sentence=f"R-{run.pk} was lost: {why}", payload=told, lease_until=None)
        if (failure := attempts.last_failure(run, why=why, kind=kind, todo=todo)) is None:
            moves.move_run(
                run,
                "queued",
                by=by,
                sentence=f"R-{run.pk} is queued again, attempt {run.attempt + 1}",
                rung_at=timezone.now(),
            )
            return
        moves.move_run(
            run,
            "failed",
            by=by,
            sentence=f"R-{run.pk} failed: {failure.message}",
            failure=failure.model_dump(),
            ended_at=timezone.now(),
        )
        pause_for_baseline(run)


def _stop_without_its_worker(run: Run, *, by: Part, why: str) -> None:
    """Cancel a run that was told to stop and was lost before its worker confirmed that."""
    sentence = f"R-{run.pk} was cancelled: {run.stop_reason}. Nobody waited for its worker: {why}"
    moves.move_run(run, "cancelled", by=by, sentence=sentence, lease_until=None, ended_at=timezone.now())


def pause_for_baseline(run: Run) -> None:
    """Pause when a baseline gave no score that counts, since nothing can be compared then.

    Must run in the transaction that ended ``run``. Not where the machine failed and the run may be tried again:
    ``advance`` queues that seed again.
    """
    campaign = run.campaign
    if run.purpose != "baseline" or campaign.state != "active" or attempts.may_be_asked_anew(run):
        return
    message = (run.failure or {}).get("message", "")
    score = Score.objects.filter(run=run).first()
    if score is not None and score.outcome in remeasure.WAYS_OUT:
        reason = remeasure.in_words(run)
    elif attempts.is_machines(run.failure):
        reason = (
            f"the machine ended {attempts.MAX_BASELINES} of the incumbent's own runs in a row, at last R-{run.pk}:"
            f" {message[:100]} See to the GPU machine, then resume."
        )
    else:
        reason = f"the incumbent's own run R-{run.pk} gave no score: {message}"[:270] + " Resume to try again."
    moves.move_campaign(campaign, "paused", by=rights.DISPATCH, reason=reason)


def expire_leases() -> list[Run]:
    """Take back every run whose worker fell silent, and charge its time. Returns those runs."""
    late = Run.objects.select_related("campaign", "worker", "revision__proposal__campaign").filter(
        state__in=lifecycle.RUN_LIVE, lease_until__lt=timezone.now()
    )
    _shorten_leases()
    expired = list(late)
    for run in expired:
        silent = f"{run.worker or 'its worker'} was silent for {contract.LEASE_S:.0f} s"
        with repairs.repair(f"The lease of R-{run.pk}", run.campaign), transaction.atomic():
            _take_lease(run)
            give_back(run, by=rights.DISPATCH, why=silent)
            ledger.charge_run(run, (timezone.now() - (run.leased_at or run.created_at)).total_seconds())
    return expired


def _shorten_leases() -> None:
    """Shorten leases that end later than LEASE_S from now: this machine's clock was set back."""
    longest = timezone.now() + timedelta(seconds=contract.LEASE_S)
    ahead = Run.objects.filter(state__in=lifecycle.RUN_LIVE, lease_until__gt=longest + CLOCKS_APART)
    if num := ahead.update(lease_until=longest):
        log.warning("%d leases ended later than any can: was this machine's clock set back?", num)


def _take_lease(run: Run) -> None:
    """End an expired lease. LostRace if a report has prolonged it meanwhile."""
    if run.purpose == "baseline":
        moves.hold(run.campaign)  # before the run: see give_back
    held = Run.objects.filter(pk=run.pk, fence=run.fence, state=run.state, lease_until=run.lease_until)
    if held.update(lease_until=None) != 1:
        raise lifecycle.LostRace(f"the worker of R-{run.pk} spoke while its lease was being taken back")
    run.refresh_from_db(fields=["stop_kind", "stop_reason"])  # perhaps told to stop since it was read; held from now


def halt(campaign: Campaign, *, by: Actor, reason: str) -> None:
    """Stop everything of a campaign: no proposals, no claims, live runs are told to stop. Other stops stay as they are.

    Raises PermissionDenied, IllegalMove or LostRace.
    """
    with transaction.atomic():
        moves.move_campaign(campaign, "halted", by=by, reason=reason)
        live = campaign.runs.filter(state__in=lifecycle.RUN_LIVE, stop_kind="")
        live.update(stop_kind=Stop.HALTED, stop_reason=reason[:200])


def archive(campaign: Campaign, *, by: Actor, reason: str) -> None:
    """Put a campaign away: it stays readable, takes no proposals, and its live runs are told to stop.

    Raises PermissionDenied, IllegalMove or LostRace.
    """
    with transaction.atomic():
        if campaign.state == "active":
            moves.move_campaign(campaign, "halted", by=by, reason=reason)
        moves.move_campaign(campaign, "archived", by=by, reason=reason)
        live = campaign.runs.filter(state__in=lifecycle.RUN_LIVE, stop_kind="")
        live.update(stop_kind=Stop.HALTED, stop_reason=reason[:200])


def resume(campaign: Campaign, *, by: Actor, reason: str) -> None:
    """Resume a campaign, and measure disputed scores of the incumbent again.

    Raises PermissionDenied, IllegalMove, LostRace, or ValueError where a score waits in quarantine.
    """
    with transaction.atomic():
        moves.move_campaign(campaign, "active", by=by, reason=reason)
        remeasure.set_aside(campaign, by=by)
        if why := remeasure.why_not(campaign):
            raise ValueError(f"{campaign} cannot go on: {why}")
