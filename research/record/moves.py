"""The only functions that write a state: compare-and-set, with an Event in the same transaction.

They check the actor's right once more, by the tables below, in case a verb forgot to (``rights``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from research import lifecycle
from research.lifecycle import LostRace
from research.models import Campaign, Proposal, ReportBatch, Run, Score
from research.record import events, kinds, rights
from research.record.held import Ref
from research.record.kinds import Payload
from research.record.rights import Actor, Right

# new state -> the right to it; what stands in none of them only the house does
TO_PROPOSAL: dict[str, Right[Proposal]] = {
    "drafted": rights.edit,
    "checking": rights.override,
    "pending_review": rights.override,
    "approved": rights.decide,
    "rejected": rights.decide,
    "changes_requested": rights.decide,
    "stale": rights.check_again,
    "withdrawn": rights.withdraw,
}
TO_RUN: dict[str, Right[Run]] = {"cancelled": rights.cancel}


def move_proposal(
    proposal: Proposal,
    new: str,
    *,
    by: Actor,
    sentence: str,
    payload: Payload | None = None,
    rows: Iterable[Ref] = (),
    **changes: Any,
) -> None:
    """Move ``proposal`` from the state it was read in.

    Raises PermissionDenied, IllegalMove, or LostRace when somebody was first.

    ``rows`` are other rows that were written with this move; its event covers them. A new revision is added by itself.
    """
    rights.check(by, TO_PROPOSAL.get(new, rights.only_the_house), proposal)
    lifecycle.allowed(lifecycle.PROPOSAL, proposal.state, new)
    changes |= {"state": new, "state_at": timezone.now()}
    with transaction.atomic():
        if Proposal.objects.filter(pk=proposal.pk, state=proposal.state).update(**changes) != 1:
            raise _lost_race(proposal, f"P-{proposal.pk}")
        _apply(proposal, changes)
        written = [proposal, *rows, *([proposal.revision] if new == "drafted" else [])]
        events.record(
            kinds.PROPOSAL[new].of(payload or {}),
            sentence,
            by=rights.name_of(by),
            campaign=proposal.campaign,
            proposal=proposal,
            rows=written,
        )


def move_run(run: Run, new: str, *, by: Actor, sentence: str, payload: Payload | None = None, **changes: Any) -> None:
    """Move ``run`` from the state and fence it was read in. Raises PermissionDenied, IllegalMove or LostRace."""
    rights.check(by, TO_RUN.get(new, rights.only_the_house), run)
    lifecycle.allowed(lifecycle.RUN, run.state, new)
    changes |= {"state": new, "state_at": timezone.now()}
    with transaction.atomic():
        if Run.objects.filter(pk=run.pk, state=run.state, fence=run.fence).update(**changes) != 1:
            raise _lost_race(run, f"R-{run.pk}")
        _apply(run, changes)
        proposal = run.revision.proposal if run.revision else None
        events.record(
            kinds.RUN[new].of(payload or {}),
            sentence,
            by=rights.name_of(by),
            campaign=run.campaign,
            proposal=proposal,
            run=run,
            rows=[run, *(_last_words(run) if new in lifecycle.RUN_OVER else ())],
        )


def _last_words(run: Run) -> Iterable[Ref]:
    """What is final once a run is over: its reports and its score."""
    return [(ReportBatch, run.pk), *Score.objects.filter(run=run)]


def move_score(run: Run, new: str, *, by: Actor, sentence: str, choice: str, reason: str, **changes: Any) -> Score:
    """Take the score of ``run`` out of quarantine. Raises PermissionDenied, or LostRace when it is not in there."""
    rights.check(by, rights.resolve, run)
    lifecycle.allowed(lifecycle.SCORE, "quarantined", new)
    with transaction.atomic():
        if Score.objects.filter(run=run, outcome="quarantined").update(outcome=new, **changes) != 1:
            now = Score.objects.filter(run=run).values_list("outcome", flat=True).first() or "not there"
            raise LostRace(f"The score of R-{run.pk} is already {now}: somebody was first")
        score = Score.objects.get(run=run)
        proposal = run.revision.proposal if run.revision else None
        fact = kinds.SCORE[new](choice=choice, reason=reason, val_bpb=score.val_bpb, outcome=new)
        who = rights.name_of(by)
        events.record(fact, sentence, by=who, campaign=run.campaign, proposal=proposal, run=run, rows=[score])
    return score


def move_campaign(campaign: Campaign, new: str, *, by: Actor, reason: str) -> None:
    """Pause, halt, resume or close a campaign. Raises PermissionDenied, IllegalMove or LostRace."""
    rights.check(by, rights.steer, campaign)
    lifecycle.allowed(lifecycle.CAMPAIGN, campaign.state, new)
    changes = {"state": new, "state_reason": reason[:300]}
    with transaction.atomic():
        if Campaign.objects.filter(pk=campaign.pk, state=campaign.state).update(**changes) != 1:
            raise _lost_race(campaign, campaign.name)
        _apply(campaign, changes)
        sentence = f"{campaign.name} is {new}: {reason}"
        events.record(kinds.CAMPAIGN[new](), sentence, by=rights.name_of(by), campaign=campaign, rows=[campaign])


TRIES_IN = ("planned", "active", "paused")  # states in which the incumbent's own smoke run may be claimed


def bind(campaign: Campaign, hardware_class: str, *, is_a_try: bool = False) -> None:
    """Bind a campaign to the hardware class of its first run. LostRace where it has another one, or is not active.

    A try (``begin.checklist``) binds nothing, and may come before the start.
    """
    if is_a_try:
        mine = Campaign.objects.filter(pk=campaign.pk, state__in=TRIES_IN, hardware_class__in=("", hardware_class))
        if not mine.update(hardware_class=F("hardware_class")):  # locks the row
            raise LostRace(f"{campaign} takes no tries now, or has another hardware class")
        return
    mine = Campaign.objects.filter(pk=campaign.pk, state="active")
    if mine.filter(hardware_class="").update(hardware_class=hardware_class):
        sentence = f"{campaign.name} is measured on {hardware_class} from its first run on"
        events.record(kinds.CAMPAIGN_BOUND(), sentence, by=rights.DISPATCH, campaign=campaign, rows=[campaign])
    elif not mine.filter(hardware_class=hardware_class).update(hardware_class=hardware_class):  # locks the row, too
        raise LostRace(f"{campaign} was bound to another hardware class, or is no longer active")


def hold(campaign: Campaign) -> None:
    """Lock ``campaign`` until this transaction ends: nobody else moves it, leases a run of it or promotes.

    Call it before locking a proposal or a run of it: with one order nobody deadlocks. On SQLite the write transaction
    is this lock already.
    """
    Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)


def locked(proposal_id: int) -> Proposal:
    """The proposal, locked until this transaction ends."""
    rows = Proposal.objects.select_for_update(of=("self",), no_key=True)
    return rows.select_related("campaign").get(pk=proposal_id)


def hold_proposal(proposal: Proposal) -> None:
    """Lock ``proposal`` until this transaction ends: nobody else moves it or gives it a revision."""
    Proposal.objects.select_for_update(no_key=True).get(pk=proposal.pk)


def _apply(row: Campaign | Proposal | Run, changes: dict[str, Any]) -> None:
    for field, value in changes.items():
        setattr(row, field, value)


def _lost_race(row: Campaign | Proposal | Run, name: str) -> LostRace:
    now = type(row)._default_manager.filter(pk=row.pk).values_list("state", flat=True).first()
    return LostRace(f"{name} is already {now}: somebody was first")
