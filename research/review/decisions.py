"""A person's decision on a proposal, on exactly the revision that was on their screen."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet

from research.lifecycle import LostRace
from research.models import Decision, Proposal
from research.record import approval, kinds, learn, moves, rights
from research.runs import quarantine

BECOMES = {"approve": "approved", "reject": "rejected", "request_changes": "changes_requested"}
MAX_REASON = 4_000


def decide(
    proposal_id: int,
    *,
    digest: str,
    choice: str,
    by: User,
    category: str = "",
    reason: str = "",
    number: int | None = None,
) -> Decision:
    """Approve, reject or send back a proposal.

    ``number`` is the revision that was shown; the digest alone is not enough, since an edit of the hypothesis or the
    prediction keeps it.

    Raises PermissionDenied (no right, or one's own proposal), ValueError (a field is wrong; the sentence says which),
    LostRace (somebody was first, or the revision is not the one that was shown).
    """
    reason = reason.strip()
    _check_words(choice, category, reason)
    with transaction.atomic():
        # Locked, or a new revision could come and wait for review between our look at the digest and our move.
        proposal = moves.locked(proposal_id)
        rights.check(by, rights.decide, proposal)
        revision = proposal.revision
        if revision.digest != digest or number not in (None, revision.number):
            raise LostRace(f"P-{proposal.pk} changed while you read it: revision {revision.number} is on the table now")
        if proposal.state != "pending_review":
            raise LostRace(f"P-{proposal.pk} is already {proposal.state.replace('_', ' ')}: somebody was first")
        if proposal.campaign.state == "archived":
            raise LostRace(
                f"{proposal.campaign.name} is archived: nothing of it is decided on until somebody brings it back"
            )
        new = BECOMES[choice]
        sentence = f"{rights.in_words(by)} {_PAST[choice]} P-{proposal.pk} {proposal.title}"
        if choice == "approve" and approval.is_stale(revision):
            raise LostRace(f"P-{proposal.pk} was made under other conditions than today's: it is being rebased")
        decision = Decision.objects.create(
            revision=revision, choice=choice, category=category, reason=reason, digest=digest, by=by
        )
        told = kinds.Decided(digest=digest, reason=reason, decision=decision.pk)
        moves.move_proposal(proposal, new, by=by, sentence=sentence, payload=told, rows=[decision])
        if choice == "reject":
            label = dict(Decision.CATEGORIES)[category].lower()
            learn.record(proposal, "rejected", f"Rejected by a reviewer ({label}): {reason}")
    return decision


_PAST = {"approve": "approved", "reject": "rejected", "request_changes": "asked for changes to"}


def _check_words(choice: str, category: str, reason: str) -> None:
    if choice not in BECOMES:
        raise ValueError(f"choice: must be one of {', '.join(BECOMES)}, not {choice!r}")
    if len(reason) > MAX_REASON:
        raise ValueError(f"reason: {len(reason):,} characters; at most {MAX_REASON:,}")
    if choice != "approve" and not reason:
        raise ValueError("reason: write a sentence; the proposer reads it")
    if choice == "reject" and category not in dict(Decision.CATEGORIES):
        raise ValueError("category: choose why it is rejected; the proposer reads it")


def waiting_for(by: User) -> QuerySet[Proposal]:
    """What ``by`` can decide on now: proposals in review, or with a score in quarantine."""
    ready = Q(state="pending_review") | Q(quarantine.of_proposal(), state="running")
    return rights.decidable(by).filter(ready).exclude(campaign__state="archived")
