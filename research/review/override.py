"""Verbs on blocked and unwanted proposals: two people override gates, one has them run again, one withdraws."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from research import lifecycle
from research.gates import overridden, process
from research.lifecycle import LostRace
from research.models import Decision, Gate, Proposal, Revision
from research.record import approval, events, kinds, learn, moves, rights
from research.review.decisions import MAX_REASON
from research.runs import ending


def sign(
    proposal_id: int, *, digest: str, gates_sha256: str, reason: str, by: User, number: int | None = None
) -> Decision:
    """Sign the override of every failed gate of a blocked proposal; the second person's signature lets it go on.

    ``number`` is the revision that was shown, as for ``decisions.decide``.

    Raises PermissionDenied (no right, or one's own proposal), ValueError (``field: sentence``), LostRace (the revision
    or what the gates found is not what was shown, or somebody was first).
    """
    reason = _reason(reason, "write why the gates are wrong here; the next reviewer reads it")
    with transaction.atomic():
        proposal = moves.locked(proposal_id)
        rights.check(by, rights.override, proposal)
        revision, failed = _still_as_shown(proposal, digest, number, gates_sha256)
        if final := [gate.name for gate in failed if gate.name in overridden.FINAL]:
            raise ValueError(f"reason: the gate {final[0]!r} cannot be overridden; what it says has to be mended first")
        earlier = overridden.signatures(revision, gates_sha256)
        if any(signature.by_id == by.pk for signature in earlier):
            raise ValueError("reason: you have signed already; somebody else has to sign, too")
        decision = Decision.objects.create(
            revision=revision, choice="override", reason=reason, digest=digest, gates_sha256=gates_sha256, by=by
        )
        _tell(proposal, revision, decision, failed, earlier)
    return decision


def _still_as_shown(
    proposal: Proposal, digest: str, number: int | None, gates_sha256: str
) -> tuple[Revision, list[Gate]]:
    name, revision = f"P-{proposal.pk}", proposal.revision
    if revision.digest != digest or number not in (None, revision.number):
        raise LostRace(f"{name} changed while you read it: revision {revision.number} is on the table now")
    if proposal.state != "blocked":
        raise LostRace(f"{name} is already {proposal.state.replace('_', ' ')}: somebody was first")
    failed = overridden.failed(revision)
    if overridden.sha256_of(failed) != gates_sha256:
        raise LostRace(f"The gates have found something else in {name} since you read it")
    if approval.is_stale(revision):
        raise LostRace(f"{name} was made under other conditions than today's: have it checked again first")
    return revision, failed


def _tell(
    proposal: Proposal, revision: Revision, decision: Decision, failed: list[Gate], earlier: list[Decision]
) -> None:
    names = ", ".join(repr(gate.name) for gate in failed)
    gate = f"the gate{'s' if len(failed) > 1 else ''} {names}"
    told = kinds.Overridden(
        digest=decision.digest,
        gates=[gate.name for gate in failed],
        reason=decision.reason,
        decision=decision.pk,
    )
    if not earlier:
        who = rights.in_words(decision.by)
        sentence = f"{who} signed to override {gate} on P-{proposal.pk}; a second person has to sign"
        events.record(
            kinds.OVERRIDE_SIGNED.of(told),
            sentence,
            by=rights.name_of(decision.by),
            campaign=proposal.campaign,
            proposal=proposal,
            rows=[decision],
        )
        return
    people = f"{rights.in_words(earlier[0].by)} and {rights.in_words(decision.by)}"
    sentence = f"{people} overrode {gate} on P-{proposal.pk}"
    process.go_on(revision, by=decision.by, sentence=sentence, payload=told, rows=[decision])
    learn.record(proposal, "overridden", f"Blocked by {gate}; two reviewers let it go on: {decision.reason}")


def check_again(proposal_id: int, *, by: User) -> None:
    """Send a blocked proposal through the gates again, as a new revision on today's incumbent.

    Raises PermissionDenied or LostRace.
    """
    with transaction.atomic():
        proposal = moves.locked(proposal_id)
        rights.check(by, rights.check_again, proposal)
        if proposal.state != "blocked":
            raise LostRace(f"P-{proposal.pk} is already {proposal.state.replace('_', ' ')}: somebody was first")
        sentence = f"{rights.in_words(by)} asked the gates to look at P-{proposal.pk} {proposal.title} again"
        moves.move_proposal(proposal, "stale", by=by, sentence=sentence)


def withdraw(proposal_id: int, *, reason: str, by: User) -> None:
    """Withdraw an open proposal, also one's own, and stop its runs. Raises as ``sign`` does."""
    reason = _reason(reason, "write why; the proposer reads it")
    with transaction.atomic():
        proposal = moves.locked(proposal_id)
        rights.check(by, rights.withdraw, proposal)
        if "withdrawn" not in lifecycle.PROPOSAL[proposal.state]:
            raise LostRace(f"P-{proposal.pk} is already {proposal.state.replace('_', ' ')}: somebody was first")
        sentence = f"{rights.in_words(by)} withdrew P-{proposal.pk} {proposal.title}: {reason}"
        moves.move_proposal(proposal, "withdrawn", by=by, sentence=sentence, payload=kinds.Withdrawn(reason=reason))
        ending.cancel_queued(proposal.revision, by=by, reason=f"P-{proposal.pk} was withdrawn")
        learn.record(proposal, "withdrawn", f"Withdrawn by a person: {reason}")


def _reason(reason: str, why: str) -> str:
    if not (reason := reason.strip()):
        raise ValueError(f"reason: {why}")
    if len(reason) > MAX_REASON:
        raise ValueError(f"reason: {len(reason):,} characters; at most {MAX_REASON:,}")
    return reason
