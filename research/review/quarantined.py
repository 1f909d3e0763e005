"""A person's decision on a quarantined score: accept its number, or dispute it."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from research.models import Run, Score
from research.record import moves, rights
from research.review.decisions import MAX_REASON
from research.runs import dispatch

BECOMES = {"accept": "ok", "dispute": "disputed"}
_PAST = {"accept": "accepted", "dispute": "disputed"}


def resolve(run_id: int, *, choice: str, reason: str, by: User) -> Score:
    """Accept the number of a quarantined score, or dispute it.

    Disputing one of the incumbent's pauses an active campaign. Raises PermissionDenied (no right, or one's own
    proposal), ValueError (``field: sentence``), LostRace (the score is no longer in quarantine: somebody was first).
    """
    reason = _checked(choice, reason)
    with transaction.atomic():
        run = Run.objects.select_related("campaign", "incumbent__proposal", "revision__proposal").get(pk=run_id)
        if run.purpose == "baseline":
            moves.hold(run.campaign)  # before the score: it may be paused below
        rights.check(by, rights.resolve, run)
        if run.purpose == "smoke":
            raise ValueError("choice: a smoke run's score counts for nothing; its gate says what is to be done")
        if choice == "accept" and Score.objects.filter(run=run, val_bpb=None).exists():
            raise ValueError("choice: there is no number to accept; dispute it")
        score = moves.move_score(
            run,
            BECOMES[choice],
            by=by,
            sentence=f"{rights.in_words(by)} {_PAST[choice]} the score of R-{run.pk}: {reason}",
            choice=choice,
            reason=reason,
            settled_by=by,
            settled_at=timezone.now(),
            settled_reason=reason,
        )
        if choice == "dispute" and run.purpose == "baseline" and run.campaign.state == "active":
            dispatch.pause_in_doubt(run.campaign)
    return score


def _checked(choice: str, reason: str) -> str:
    if choice not in BECOMES:
        raise ValueError(f"choice: must be one of {', '.join(BECOMES)}, not {choice!r}")
    if not (reason := reason.strip()):
        raise ValueError("reason: write what you looked at; it stands beside the number for good")
    if len(reason) > MAX_REASON:
        raise ValueError(f"reason: {len(reason):,} characters; at most {MAX_REASON:,}")
    return reason
