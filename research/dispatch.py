"""Approved proposals become runs; workers claim them.

The Run row is the truth, a Celery message only a doorbell. A claim is one conditional update that hands out a lease, a
fence number and a run token; everything that comes back is accepted only with the fence of the present lease.
"""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from gpu_runner import contract
from research import approval, attempts, events, ledger, lifecycle, moves, quarantine, tasks, usual
from research.models import Campaign, Incumbent, Proposal, Revision, Run, Score, Worker

log = logging.getLogger(__name__)
RING_AGAIN_AFTER = timedelta(seconds=20)
CLAIM_TRIES = 5
CLOCKS_APART = timedelta(seconds=5)  # those of several web machines
SEALED_PAIR = contract.SEEDS_OF_AN_INCUMBENT - 1  # whose scorer reads the sealed split: beyond all that is judged by
# Who is served first: people wait for smoke runs; a candidate says more than one more baseline.
RANKS = {"smoke": 10, "candidate": 30, "baseline": 40}
SMOKE_SCORE_TOKENS = 4_096
HALTED = "halted: "  # how the stop_reason of a run begins that is run again when the campaign goes on
POSTPONED = (HALTED, "later: ")  # that is run again when its turn comes: nobody stopped it
BY = "dispatch"


# --- what should run -----------------------------------------------------------------------


def advance(campaign: Campaign) -> None:
    """Make the runs that the campaign needs next, and ring. Safe to call at any time, as often as you like."""
    campaign.refresh_from_db()
    if campaign.state != "active":
        return
    if reason := ledger.exhausted(campaign):
        _end(campaign, "spent", reason)
        return
    incumbent = campaign.incumbent
    if not incumbent.has_seeds:
        _end(
            campaign, "paused", "this house has no seeds left that no other run has: begin a new one (COUNTERSIGN_HOME)"
        )
        return
    today = approval.of_incumbent(incumbent)
    for pair in range(1, campaign.min_pairs + 1):  # measured while nobody waits: every verdict needs them
        queue(incumbent, purpose="baseline", pair=pair, signed=today)
    for proposal in _to_run(campaign):
        revision = proposal.revision
        asked_for = revision.runs.filter(purpose="candidate", reads_sealed=False).values("seed").distinct().count()
        for pair in range(1, max(campaign.min_pairs, asked_for) + 1):
            add_pair(revision, pair)
        if proposal.kept_on_val is not None:
            add_pair(revision, SEALED_PAIR)
    ring_waiting(campaign)


def _end(campaign: Campaign, state: str, reason: str) -> None:
    try:
        moves.move_campaign(campaign, state, by=BY, reason=reason)
    except lifecycle.LostRace as race:
        log.info("%s", race)


def _to_run(campaign: Campaign) -> list[Proposal]:
    """What runs, else the oldest approved proposal: one at a time, so that all are judged against one incumbent.

    What waits for a person to look at a score holds nobody up, and gets no further runs until then.
    """
    # One query: between two, a claim could turn the approved one into the running one.
    open_ones = campaign.proposals.filter(state__in=("running", "approved")).exclude(quarantine.of_proposal())
    wanted = list(open_ones.order_by("state_at"))
    return [proposal for proposal in wanted if proposal.state == "running"] or wanted[:1]


def add_pair(revision: Revision, pair: int) -> None:
    """Queue seed ``pair`` of the candidate and, unless it is there, of the incumbent. SEALED_PAIR is the last."""
    signed = contract.Approval.model_validate(revision.approval)
    queue(revision.incumbent, purpose="candidate", pair=pair, signed=signed, revision=revision)
    queue(revision.incumbent, purpose="baseline", pair=pair, signed=signed.of_the_incumbent())


def queue(
    incumbent: Incumbent, *, purpose: str, pair: int, signed: contract.Approval, revision: Revision | None = None
) -> Run:
    """The run of this purpose, pair and digest: the one that is there (not cancelled), else a new one."""
    fields: dict[str, Any] = {
        "incumbent": incumbent,
        "revision": revision,
        "purpose": purpose,
        "seed": incumbent.seed(pair),
        "digest": signed.digest(),
    }
    standing = Run.objects.filter(**fields).exclude(state__in=Run.REPLACEABLE[purpose])
    if (existing := standing.first()) is not None:
        return existing
    try:
        with transaction.atomic():
            run = Run.objects.create(
                campaign=incumbent.campaign,
                approval=signed.model_dump(mode="json"),
                rank=RANKS[purpose] + min(pair, 9),
                reads_sealed=pair == SEALED_PAIR,
                **fields,
            )
            events.record(
                "run.queued",
                f"R-{run.pk} {run.get_purpose_display().lower()} seed {run.seed} is queued",
                by=BY,
                campaign=run.campaign,
                proposal=revision.proposal if revision else None,
                run=run,
                rows=[run],
            )
    except IntegrityError:  # two callers at once: the constraint lets one in; or its digest was changed by hand since
        fields.pop("digest")
        return Run.objects.filter(**fields).exclude(state__in=Run.REPLACEABLE[purpose]).latest("pk")
    return run


def ring_waiting(campaign: Campaign) -> None:
    """Ring for queued runs that nobody came for; a worker empties the queue on one ring."""
    now = timezone.now()
    waiting = campaign.runs.filter(Q(rung_at=None) | Q(rung_at__lt=now - RING_AGAIN_AFTER), state="queued")
    run_id = waiting.order_by("rank", "pk").values_list("pk", flat=True).first()
    if run_id is not None and waiting.update(rung_at=now):
        transaction.on_commit(lambda: tasks.ring(run_id))


# --- claiming ------------------------------------------------------------------------------


def claim(worker: Worker, wanted: contract.Claim) -> contract.Lease | None:
    """Lease the most urgent run that ``worker`` may execute; None when there is none.

    The run that a doorbell named is not privileged: a smoke run that came later goes first.
    """
    for _ in range(CLAIM_TRIES):
        run = _claimable(wanted)
        if run is None:
            return None
        try:
            if why := _why_unwanted(run):
                stop_run(run, by=BY, reason=why)
                continue
            return _lease(run, worker, wanted)
        except lifecycle.LostRace as race:
            log.info("claim by %s: %s", worker, race)
    return None


def _claimable(wanted: contract.Claim) -> Run | None:
    same_hardware = Q(campaign__hardware_class="") | Q(campaign__hardware_class=wanted.hardware_class)
    return (
        Run.objects.select_related("campaign", "incumbent", "revision__proposal__campaign")
        .filter(same_hardware, state="queued", campaign__state="active", campaign__sandbox_level=wanted.sandbox_level)
        .exclude(quarantine.of_revision("revision"), purpose="candidate")
        .exclude(usual.awaited())
        .order_by("rank", "pk")
        .first()
    )


def _why_unwanted(run: Run) -> str:
    """Why a queued run must not start after all; empty when it may. Reads the record anew."""
    if not _is_as_signed(run):
        return "nobody approved this digest, so the record was changed by hand: see `manage.py verify_audit`"
    if run.purpose == "candidate" and run.revision:
        proposal = Proposal.objects.get(pk=run.revision.proposal_id)
        if proposal.state not in ("approved", "running"):
            return f"P-{proposal.pk} is {proposal.state.replace('_', ' ')}"
        others = run.campaign.proposals.filter(state="running").exclude(quarantine.of_proposal())
        if proposal.state == "approved" and (other := others.exclude(pk=proposal.pk).first()) is not None:
            return f"{POSTPONED[1]}P-{other.pk} runs first"
    if run.incumbent_id != run.campaign.incumbent.pk:
        return "the incumbent moved"
    if run.approval["lock_sha256"] != approval.lock_sha256():
        return "the installed packages changed"
    return ""


def _is_as_signed(run: Run) -> bool:
    """A candidate's digest was approved, a smoke run's is its revision's, and the incumbent's own run changes nothing.

    That the digest is the one of ``run.approval`` is for the worker to see.
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
        if why := _why_unwanted(run):
            raise lifecycle.LostRace(f"R-{run.pk} is not wanted any more: {why}")
        if run.purpose == "candidate":
            _start_proposal(run, worker)
        moves.move_run(
            run,
            "leased",
            by=f"worker:{worker.name}",
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
    moves.move_proposal(proposal, "running", by=f"worker:{worker.name}", sentence=sentence)


def spec_of(run: Run) -> contract.RunSpec:
    """What is sent to the worker that holds the lease."""
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
        usual=usual.expected(run),
        usual_effort=usual.effort(run),
    )


# --- ending early --------------------------------------------------------------------------


def stop_run(run: Run, *, by: str, reason: str) -> None:
    """Cancel a queued run now; tell a live one to stop with its next report (ten seconds at most)."""
    if run.state == "queued":
        moves.move_run(
            run, "cancelled", by=by, sentence=f"R-{run.pk} was cancelled: {reason}", stop_reason=reason[:200]
        )
        return
    live = Run.objects.filter(pk=run.pk, fence=run.fence, state__in=lifecycle.RUN_LIVE)
    if live.update(stop_reason=reason[:200]) != 1:
        raise lifecycle.LostRace(f"R-{run.pk} is already over")


def cancel_queued(revision: Revision, *, by: str, reason: str) -> None:
    """Cancel what is still queued, and stop what still runs, for a proposal that is decided."""
    for run in revision.runs.filter(purpose="candidate", state__in={"queued", *lifecycle.RUN_LIVE}):
        try:
            stop_run(run, by=by, reason=reason)
        except lifecycle.LostRace as race:
            log.info("%s", race)


def give_back(run: Run, *, by: str, why: str, kind: contract.FailureKind = "lost_contact", todo: str = "") -> None:
    """A lost run goes back into the queue while it has attempts left: the same seed, under the same spec.

    One that was to stop is as good as stopped, and is asked for anew where it was only halted.
    """
    with transaction.atomic():
        if run.purpose == "baseline":
            moves.hold(run.campaign)  # before the run: it may be paused below
        told = {"cause": kind, "attempt": run.attempt}
        moves.move_run(run, "lost", by=by, sentence=f"R-{run.pk} was lost: {why}", payload=told, lease_until=None)
        if run.stop_reason:
            told_to = f"R-{run.pk} was cancelled: {run.stop_reason}"
            moves.move_run(run, "cancelled", by=by, sentence=told_to, ended_at=timezone.now())
            return
        if (failure := attempts.last_failure(run, why=why, kind=kind, todo=todo)) is None:
            moves.move_run(
                run, "queued", by=by, sentence=f"R-{run.pk} is queued again, attempt {run.attempt + 1}", rung_at=None
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


def pause_for_baseline(run: Run) -> None:
    """Without the incumbent's own score nothing can be compared: pause, in the transaction that ended ``run``.

    Not where the machine failed, while it may be tried anew: ``advance`` asks for that seed again.
    """
    campaign = run.campaign
    if run.purpose != "baseline" or campaign.state != "active" or attempts.may_be_asked_anew(run):
        return
    message = (run.failure or {}).get("message", "")
    reason = f"the incumbent's own run R-{run.pk} gave no score: {message}"
    score = Score.objects.filter(run=run).first()
    if score is not None and score.outcome == "quarantined":
        reason = f"the incumbent's own score in R-{run.pk} is quarantined: accept or dispute it there, then resume."
    elif score is not None and score.outcome == "disputed":
        reason = f"the incumbent's own score in R-{run.pk} is disputed: nothing can be compared with it."
    elif attempts.is_machines(run.failure):
        reason = (
            f"the machine ended {attempts.MAX_BASELINES} of the incumbent's own runs in a row, at last R-{run.pk}:"
            f" {message[:100]} See to the GPU machine, then resume."
        )
    else:
        reason = f"{reason[:270]} Resume to try again."
    moves.move_campaign(campaign, "paused", by=BY, reason=reason)


def expire_leases() -> list[Run]:
    """Take back every run whose worker fell silent."""
    late = Run.objects.select_related("campaign", "worker", "revision__proposal__campaign").filter(
        state__in=lifecycle.RUN_LIVE, lease_until__lt=timezone.now()
    )
    _shorten_leases()
    expired = list(late)
    for run in expired:
        try:
            silent = f"{run.worker or 'its worker'} was silent for {contract.LEASE_S:.0f} s"
            with transaction.atomic():
                _take_lease(run)
                give_back(run, by=BY, why=silent)
                ledger.charge_run(run, (timezone.now() - (run.leased_at or run.created_at)).total_seconds())
        except lifecycle.LostRace as race:
            log.info("%s", race)
    return expired


def _shorten_leases() -> None:
    """No lease is longer than LEASE_S, unless this machine's clock was set back: then it would not end for as long."""
    longest = timezone.now() + timedelta(seconds=contract.LEASE_S)
    ahead = Run.objects.filter(state__in=lifecycle.RUN_LIVE, lease_until__gt=longest + CLOCKS_APART)
    if num := ahead.update(lease_until=longest):
        log.warning("%d leases ended later than any can: was this machine's clock set back?", num)


def _take_lease(run: Run) -> None:
    """Raises LostRace unless the lease is still the one that was seen to be over: a report prolongs it at any time."""
    if run.purpose == "baseline":
        moves.hold(run.campaign)  # before the run: see give_back
    held = Run.objects.filter(pk=run.pk, fence=run.fence, state=run.state, lease_until=run.lease_until)
    if held.update(lease_until=None) != 1:
        raise lifecycle.LostRace(f"the worker of R-{run.pk} spoke while its lease was being taken back")


def halt(campaign: Campaign, *, by: str, reason: str) -> None:
    """Stop everything of a campaign: no proposals, no claims, and what runs is told to stop."""
    with transaction.atomic():
        moves.move_campaign(campaign, "halted", by=by, reason=reason)
        campaign.runs.filter(state__in=lifecycle.RUN_LIVE).update(stop_reason=f"{HALTED}{reason}"[:200])
