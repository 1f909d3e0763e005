"""Queues the runs that a campaign needs next: baselines of the incumbent, candidates of approved proposals."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from gpu_runner import contract
from research import lifecycle
from research.models import Campaign, Incumbent, Proposal, Revision, Run
from research.record import approval, doorbell, events, kinds, ledger, moves, rights
from research.runs import quarantine, remeasure

log = logging.getLogger(__name__)
RING_AGAIN_AFTER = timedelta(seconds=20)
SEALED_PAIR = contract.SEEDS_OF_AN_INCUMBENT - 1  # whose scorer reads the sealed split: beyond all that is judged by
# Who is served first: people wait for smoke runs; a candidate says more than one more baseline, but beside a disputed
# one all of them may say nothing.
RANKS = {"smoke": 10, "disputed": 20, "candidate": 30, "baseline": 40}


def advance(campaign: Campaign) -> None:
    """Queue the runs that the campaign needs next, and ring; let it rest where its budget is spent or nothing may run.

    Safe to call at any time, as often as you like.
    """
    campaign.refresh_from_db()
    if campaign.state != "active":
        return
    if reason := ledger.exhausted(campaign):
        _rest(campaign, "spent", reason)
        return
    if pause_in_doubt(campaign):
        return
    incumbent = campaign.incumbent
    if not incumbent.has_seeds:
        _rest(
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


def _rest(campaign: Campaign, new: str, reason: str) -> None:
    try:
        moves.move_campaign(campaign, new, by=rights.DISPATCH, reason=reason)
    except lifecycle.LostRace as race:
        log.info("%s", race)


def pause_in_doubt(campaign: Campaign) -> bool:
    """Pause where a score of the incumbent is disputed or quarantined: nothing could be compared with it.

    Returns whether one is.
    """
    if why := remeasure.why_not(campaign, [proposal.revision for proposal in _to_run(campaign)]):
        _rest(campaign, "paused", why)
    return bool(why)


def _to_run(campaign: Campaign) -> list[Proposal]:
    """Running proposals, else the oldest approved one: one at a time, so that all are judged against one incumbent.

    A proposal whose score a person has to look at holds up no other, and gets no further runs until then.
    """
    # One query: between two, a claim could turn the approved one into the running one.
    open_ones = campaign.proposals.filter(state__in=("running", "approved")).exclude(quarantine.of_proposal())
    wanted = list(open_ones.order_by("state_at"))
    return [proposal for proposal in wanted if proposal.state == "running"] or wanted[:1]


def add_pair(revision: Revision, pair: int) -> None:
    """Queue seed ``pair`` of the candidate and, unless it is there, of the incumbent. SEALED_PAIR comes last."""
    signed = contract.Approval.model_validate(revision.approval)
    queue(revision.incumbent, purpose="candidate", pair=pair, signed=signed, revision=revision)
    queue(revision.incumbent, purpose="baseline", pair=pair, signed=signed.of_the_incumbent())


def queue(
    incumbent: Incumbent,
    *,
    purpose: str,
    pair: int,
    signed: contract.Approval,
    revision: Revision | None = None,
    anew: bool = False,
) -> Run:
    """The run of this purpose, pair and digest: an existing one, else a new one; with ``anew`` always a new one."""
    fields: dict[str, Any] = {
        "incumbent": incumbent,
        "revision": revision,
        "purpose": purpose,
        "seed": incumbent.seed(pair),
        "digest": signed.digest(),
    }
    standing = Run.objects.filter(**fields, set_aside=False).exclude(state__in=Run.REPLACEABLE[purpose])
    if not anew and (existing := standing.first()) is not None:
        return existing
    again = Run.objects.filter(**fields, set_aside=True).exists()
    try:
        with transaction.atomic():
            run = Run.objects.create(
                campaign=incumbent.campaign,
                approval=signed.model_dump(mode="json"),
                rank=RANKS["disputed" if again else purpose] + min(pair, 9),
                reads_sealed=pair == SEALED_PAIR,
                rung_at=timezone.now(),
                **fields,
            )
            events.record(
                kinds.RUN["queued"](),
                f"R-{run.pk} {run.get_purpose_display().lower()} seed {run.seed} is queued",
                by=rights.DISPATCH,
                campaign=run.campaign,
                proposal=revision.proposal if revision else None,
                run=run,
                rows=[run],
            )
    except IntegrityError:  # two callers at once: the constraint lets one in; or its digest was changed by hand since
        fields.pop("digest")
        return Run.objects.filter(**fields, set_aside=False).exclude(state__in=Run.REPLACEABLE[purpose]).latest("pk")
    return run


def ring_waiting(campaign: Campaign) -> None:
    """Ring again for queued runs that were not claimed; a worker empties the queue on one ring."""
    now = timezone.now()
    waiting = campaign.runs.filter(Q(rung_at=None) | Q(rung_at__lt=now - RING_AGAIN_AFTER), state="queued")
    run_id = waiting.order_by("rank", "pk").values_list("pk", flat=True).first()
    if run_id is not None and waiting.update(rung_at=now):
        transaction.on_commit(lambda: doorbell.workers(run_id))
