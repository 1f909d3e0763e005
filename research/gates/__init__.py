"""The checks before a person looks, in order; each leaves a row with what it measured.

A gate is a module with ``NAME`` and ``check(Context) -> Found``. The last one, smoke, is a Run on a worker and comes
back through ``conclude``. A failed gate blocks the proposal and says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from django.db import transaction

from research import approval, learn, lifecycle, moves, repository, tasks
from research.gates import applies, overrides, paths, sandbox, size, smoke
from research.gates.found import Context, Found
from research.models import Gate, Proposal, Revision, Run

BY = "gates"
BLOCKED_IN_A_ROW = 5
PATCH_GATES: tuple[tuple[str, Callable[[Context], Found]], ...] = (
    (size.NAME, size.check),
    (applies.NAME, applies.check),
    (paths.NAME, paths.check),
    (overrides.NAME, overrides.check),
    (sandbox.NAME, sandbox.check),
)


def request(proposal: Proposal) -> None:
    """Ask the control worker to check the newest revision of ``proposal``."""
    tasks.send("check", proposal.revision.pk)


def check(revision: Revision) -> None:
    """Run every gate on ``revision``; the smoke run, when the others pass, reports back later."""
    proposal = revision.proposal
    if proposal.state != "drafted" or revision != proposal.revision:
        return
    try:
        moves.move_proposal(proposal, "checking", by=BY, sentence=f"P-{proposal.pk} is in the gates")
    except lifecycle.LostRace:
        return  # a second doorbell: the first one is checking
    recheck(revision)


def recheck(revision: Revision) -> None:
    """The gates of a proposal in *checking*; also after a crash half-way, so every write can be repeated."""
    if approval.is_stale(revision):
        _outdated(revision.proposal)
        return
    context = _context(revision)
    for order, (name, gate) in enumerate(PATCH_GATES, start=1):
        began = time.monotonic()
        found = gate(context)
        _write(revision, order, name, found, time.monotonic() - began)
        if not found.passed:
            _block(revision, name, found.sentence)
            return
    with transaction.atomic():
        waiting = Found.pending("waits for a worker")
        _write(revision, len(PATCH_GATES) + 1, smoke.NAME, waiting, None)
        run = smoke.start(revision)
        transaction.on_commit(lambda: tasks.ring(run.pk))


def _context(revision: Revision) -> Context:
    campaign = revision.proposal.campaign
    commit = revision.incumbent.commit
    return Context(
        revision=revision,
        campaign=campaign,
        files=repository.files_at(campaign, commit),
        patch_problem=repository.problem_with_patch(campaign, commit, revision.patch) if revision.patch else None,
    )


def _write(revision: Revision, order: int, name: str, found: Found, seconds: float | None) -> None:
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


def conclude(run: Run) -> None:
    """A smoke run is over: the proposal waits for a person, is blocked, or is stale."""
    revision = run.revision
    assert revision is not None and run.purpose == "smoke"
    proposal = revision.proposal
    if proposal.state != "checking" or revision != proposal.revision:
        return
    found = smoke.found(run)
    try:
        with transaction.atomic():
            _write(revision, len(PATCH_GATES) + 1, smoke.NAME, found, run.device_s)
            _move_on(proposal, revision, run, found)
    except lifecycle.LostRace:
        return


def _move_on(proposal: Proposal, revision: Revision, run: Run, found: Found) -> None:
    name = f"P-{proposal.pk} {proposal.title}"
    if run.state == "cancelled":
        moves.move_proposal(proposal, "stale", by=BY, sentence=f"{name}: its smoke run was cancelled")
    elif not found.passed:
        _block(revision, smoke.NAME, found.sentence)
    elif approval.is_stale(revision):
        _outdated(proposal)
    else:
        moves.move_proposal(proposal, "pending_review", by=BY, sentence=f"{name} is ready for review")


def _outdated(proposal: Proposal) -> None:
    sentence = f"P-{proposal.pk} {proposal.title} was drafted under other conditions than today's: it is rebased"
    moves.move_proposal(proposal, "stale", by=BY, sentence=sentence)


def _block(revision: Revision, gate: str, sentence: str) -> None:
    proposal = revision.proposal
    with transaction.atomic():
        moves.move_proposal(
            proposal,
            "blocked",
            by=BY,
            sentence=f"P-{proposal.pk} {proposal.title} is blocked by the gate {gate!r}: {sentence}",
            payload={"gate": gate},
        )
        learn.record(proposal, "blocked", f"Blocked by the gate {gate!r}: {sentence}")
        _pause_after_many(proposal)


def _pause_after_many(proposal: Proposal) -> None:
    """A proposer that only makes what the gates refuse would go on for ever, for money."""
    campaign = proposal.campaign
    newest = campaign.proposals.order_by("-pk").values_list("state", flat=True)[:BLOCKED_IN_A_ROW]
    if campaign.state == "active" and len(newest) == BLOCKED_IN_A_ROW and set(newest) == {"blocked"}:
        reason = f"the last {BLOCKED_IN_A_ROW} proposals were all blocked by gates; P-{proposal.pk} says why"
        moves.move_campaign(campaign, "paused", by=BY, reason=reason)
