"""Runs a revision through its gates, in order; each leaves a row with what it measured.

A gate is a module with ``NAME`` and ``check(Context) -> GateResult``; ``order`` lists them. The last one, smoke, is a
Run on a worker, made when all others pass, and comes back through ``after_smoke``. A failed gate blocks the proposal
and says why; a gate that warns lets it pass, and the page shows what a person should look at.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction

from research import lifecycle
from research.gates import overridden, smoke
from research.gates.order import PATCH_GATES, context_of, looked_at
from research.gates.outcome import Context, GateResult
from research.models import Gate, Proposal, Revision, Run
from research.record import approval, kinds, learn, moves, repository, rights
from research.record.held import Ref
from research.record.kinds import Payload
from research.record.rights import Actor
from research.runs import attempts

BLOCKED_IN_A_ROW = 5


def check(revision: Revision) -> None:
    """Run every gate on ``revision``; where all others pass, the smoke run is queued and its result comes later."""
    proposal = revision.proposal
    if proposal.state != "drafted" or revision != proposal.revision:
        return
    try:
        moves.move_proposal(proposal, "checking", by=rights.GATES, sentence=f"P-{proposal.pk} is in the gates")
    except lifecycle.LostRace:
        return  # a second doorbell: the first one is checking
    recheck(revision)


def recheck(revision: Revision) -> None:
    """Run the gates of a proposal in *checking*, also after a crash. All results are written in one transaction."""
    if approval.is_stale(revision):
        _outdated(revision)
        return
    looks = list(looked_at(_context(revision)))
    with transaction.atomic():
        moves.hold(revision.proposal.campaign)  # before the proposal: many blocked ones pause it
        moves.hold_proposal(revision.proposal)  # an edit may have put another revision into the gates meanwhile
        revision.proposal.refresh_from_db(fields=["state"])  # a second look may have ended long before this one
        if revision != revision.proposal.revision or revision.proposal.state != "checking":
            return
        for order, (name, found, seconds) in enumerate(looks, start=1):
            _write(revision, order, name, found, seconds)
        failed = {name: found.sentence for name, found, _ in looks if not found.passed}
        if failed and not overridden.by_two(revision):
            _block(revision, failed)
        else:
            _try_out(revision)


def _try_out(revision: Revision) -> None:
    """The last gate: a smoke run, which comes back through ``after_smoke``."""
    with transaction.atomic():
        waiting = GateResult.pending("waits for a worker")
        _write(revision, len(PATCH_GATES) + 1, smoke.NAME, waiting, None)
        smoke.start(revision)


def go_on(revision: Revision, *, by: Actor, sentence: str, payload: Payload, rows: Iterable[Ref]) -> None:
    """Let a blocked proposal whose failed gates two people overrode go on: to its smoke run, or to review after one.

    Must run inside the transaction of the second signature.
    """
    proposal = revision.proposal
    rights.check(by, rights.override, proposal)
    has_been_tried = revision.gates.filter(name=smoke.NAME).exclude(outcome="pending").exists()
    new = "pending_review" if has_been_tried else "checking"
    moves.move_proposal(proposal, new, by=by, sentence=sentence, payload=payload, rows=rows)
    if not has_been_tried:
        _try_out(revision)


def _context(revision: Revision) -> Context:
    proposal = revision.proposal
    campaign, commit = proposal.campaign, revision.incumbent.commit
    return context_of(
        revision.patch,
        revision.knobs,
        repository.files_at(campaign, commit),
        commit=commit,
        sandbox_level=campaign.sandbox_level,
        is_trusted=not revision.patch or _is_from_the_catalogue(proposal),
        precedents=tuple(p for p in learn.precedents(campaign) if p.number < proposal.pk),
        origin=repository.files_at(campaign, campaign.incumbents.get(number=0).commit),
    )


def _is_from_the_catalogue(proposal: Proposal) -> bool:
    """Whether the code ships with us and no person has edited it, also before a rebase."""
    return proposal.arm == "offline" and not proposal.revisions.filter(origin="edited").exists()


def _write(revision: Revision, order: int, name: str, found: GateResult, seconds: float | None) -> None:
    Gate.objects.update_or_create(
        revision=revision,
        name=name,
        defaults={
            "order": order,
            "outcome": found.outcome,
            "sentence": found.sentence[:1_000],
            "measured": found.measured,
            "seconds": seconds,
        },
    )


def after_smoke(run: Run) -> None:
    """Move the proposal on after its smoke run: to review, to *blocked* or to *stale*."""
    revision = run.revision
    assert revision is not None and run.purpose == "smoke"
    proposal = revision.proposal
    if proposal.state != "checking" or revision != proposal.revision:
        return
    found = smoke.found(run)
    try:
        with transaction.atomic():
            moves.hold(proposal.campaign)  # before the proposal: many blocked ones pause it
            moves.hold_proposal(proposal)  # or a rebase could put another revision on the table meanwhile
            if revision != proposal.revision:
                return
            _write(revision, len(PATCH_GATES) + 1, smoke.NAME, found, run.device_s)
            _move_on(proposal, revision, run, found)
    except lifecycle.LostRace:
        return


def _move_on(proposal: Proposal, revision: Revision, run: Run, found: GateResult) -> None:
    name = f"P-{proposal.pk} {proposal.title}"
    if run.state == "cancelled":
        sentence = f"{name}: its smoke run was cancelled"
        moves.move_proposal(proposal, "stale", by=rights.GATES, sentence=sentence, rows=_of(revision))
    elif attempts.may_be_tried_out_anew(run):
        sentence = f"{name}: the machine ended its smoke run, which says nothing of it; it goes through the gates again"
        moves.move_proposal(proposal, "stale", by=rights.GATES, sentence=sentence, rows=_of(revision))
    elif not found.passed:
        _block(revision, {smoke.NAME: found.sentence})
    elif approval.is_stale(revision):
        _outdated(revision)
    else:
        sentence, told = f"{name} is ready for review", kinds.OfRevision(revision=revision.number)
        moves.move_proposal(
            proposal, "pending_review", by=rights.GATES, sentence=sentence, payload=told, rows=_of(revision)
        )


def _of(revision: Revision) -> list[Ref]:
    """The gates' rows for the event that a person reads next, so that they can be verified."""
    return [(Gate, revision.pk)]


def _outdated(revision: Revision) -> None:
    proposal = revision.proposal
    sentence = f"P-{proposal.pk} {proposal.title} was drafted under other conditions than today's: it is rebased"
    moves.move_proposal(proposal, "stale", by=rights.GATES, sentence=sentence, rows=_of(revision))


def _block(revision: Revision, failed: dict[str, str]) -> None:
    """``failed``: gate -> its sentence."""
    proposal = revision.proposal
    gates = ", ".join(repr(name) for name in failed)
    by = f"by the gate{'s' if len(failed) > 1 else ''} {gates}: {' '.join(failed.values())}"[:1_500]
    with transaction.atomic():
        moves.move_proposal(
            proposal,
            "blocked",
            by=rights.GATES,
            sentence=f"P-{proposal.pk} {proposal.title} is blocked {by}"[:600],
            payload=kinds.Blocked(gates=list(failed), revision=revision.number),
            rows=_of(revision),
        )
        learn.record(proposal, "blocked", f"Blocked {by}")
        _pause_after_many(proposal)


def _pause_after_many(proposal: Proposal) -> None:
    """Pause the campaign after BLOCKED_IN_A_ROW blocked proposals: its proposer would go on for ever, for money."""
    if proposal.arm in Proposal.FROM_OUTSIDE:
        return  # nor may anybody from outside stop a campaign
    campaign = proposal.campaign
    its_own = campaign.proposals.exclude(arm__in=Proposal.FROM_OUTSIDE)
    newest = its_own.order_by("-pk").values_list("state", flat=True)[:BLOCKED_IN_A_ROW]
    if campaign.state == "active" and len(newest) == BLOCKED_IN_A_ROW and set(newest) == {"blocked"}:
        reason = f"the last {BLOCKED_IN_A_ROW} proposals were all blocked by gates; P-{proposal.pk} says why"
        moves.move_campaign(campaign, "paused", by=rights.GATES, reason=reason)
