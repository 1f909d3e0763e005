"""Whose turn it is to ask, what came back, at once or in a batch, and what it cost.

    begin -> answer_of | heard -> note_answer -> end

The proposer (Claude, or the catalogue without a key) is called outside any transaction: it may take minutes.
``proposing_since`` on the campaign, taken by compare-and-set, keeps two callers from asking at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from research.arms.claude.pending import Pending
from research.change.drafts import Answer, BatchProposer, Brief, Proposer
from research.change.visible import visible
from research.models import Campaign
from research.propose import repeats
from research.propose.briefing import brief
from research.record import events, kinds, ledger

log = logging.getLogger(__name__)
ASKING_FOR_AT_MOST = timedelta(minutes=15)
RETRY_AFTER_S = 60.0  # doubled with every call in a row that gave no draft: a refusal is billed too
RETRY_AFTER_AT_MOST_S = 3600.0
LOOK_AGAIN_AFTER = timedelta(minutes=1)  # at a batch
BY = "proposer"


def proposer(campaign: Campaign, purpose: str = "propose") -> Proposer:
    """Claude when there is a key, within what may be spent; else the offline catalogue, which says so."""
    if settings.ANTHROPIC_CONFIGURED:
        from research.arms.claude.proposer import DEFAULT_MODEL, ClaudeProposer

        return ClaudeProposer(
            model=settings.ANTHROPIC_MODEL or DEFAULT_MODEL,
            fallback_model=settings.ANTHROPIC_FALLBACK_MODEL or None,
            allowance=ledger.allowance(campaign),
            sending=lambda usage: ledger.enter(campaign, usage, purpose),
            heard=lambda usage: ledger.settle(usage, purpose),
        )
    from research.arms.offline.proposer import OfflineProposer

    return OfflineProposer()


def is_free(campaign: Campaign) -> bool:
    """Is nobody asking? Whoever has been for so long has died."""
    return campaign.proposing_since is None or campaign.proposing_since < timezone.now() - ASKING_FOR_AT_MOST


def begin(campaign: Campaign) -> datetime | None:
    """Since when it is ours alone to ask; None while it is somebody else's."""
    now = timezone.now()
    free = Q(proposing_since=None) | Q(proposing_since__lt=now - ASKING_FOR_AT_MOST)
    with transaction.atomic():
        if Campaign.objects.filter(free, pk=campaign.pk).update(proposing_since=now) != 1:
            return None
        if num := ledger.write_off(campaign):
            sentence = (
                f"Requests to Claude left without an answer by a restart: {num}, counted with the most they can cost"
            )
            events.record(kinds.PROPOSER_LOST(), sentence, by=BY, campaign=campaign)
    return now


def end(campaign: Campaign, since: datetime) -> None:
    """Unless it was taken from us meanwhile."""
    Campaign.objects.filter(pk=campaign.pk, proposing_since=since).update(proposing_since=None)


def answer_of(campaign: Campaign, source: Proposer, num_wanted: int) -> Answer:
    if isinstance(source, BatchProposer) and campaign.batch:
        return _collect(campaign, source, Pending(**campaign.batch))
    if num_wanted == 0:  # a batch without a key to look at it with
        _update(campaign, proposer_retry_at=timezone.now() + LOOK_AGAIN_AFTER)
        return Answer()
    if isinstance(source, BatchProposer) and campaign.in_batches:
        return _submit(campaign, source, num_wanted)
    return _ask(campaign, source, num_wanted)


def _ask(campaign: Campaign, source: Proposer, num_wanted: int) -> Answer:
    about = brief(campaign, num_wanted)
    answer = heard(campaign, about, lambda: source.draft(about))
    note_answer(campaign, answer, "propose")
    return replace(answer, drafts=answer.drafts[:num_wanted])


def heard(campaign: Campaign, about: Brief, ask: Callable[[], Answer], apart_from: int | None = None) -> Answer:
    """The answer without repeats. What it cost is kept, whatever is wrong with it or with us."""
    said = _unless_broken(campaign, ask)
    screened = _unless_broken(campaign, lambda: repeats.screened(said, about, apart_from=apart_from))
    return replace(screened, usages=said.usages)


def _unless_broken(campaign: Campaign, ask: Callable[[], Answer]) -> Answer:
    """A fault of ours over one answer would be asked for, and paid, again in a few seconds: it gets its pause, too."""
    try:
        return ask()
    except Exception as error:
        log.exception("campaign %s: the proposer's answer could not be used", campaign.slug)
        fault = f"a fault of ours ({type(error).__name__}, see the log)"
        return Answer(problem=f"The proposer's answer could not be used because of {fault}.")


def _submit(campaign: Campaign, source: BatchProposer, num_wanted: int) -> Answer:
    """Hand a batch in: it outlives this process, and its cost is on record before it is sent."""
    pending, answer = source.submit(brief(campaign, num_wanted), lambda sent: _update(campaign, batch=vars(sent)))
    if pending is None:
        with transaction.atomic():
            _update(campaign, batch=None)
            note_answer(campaign, answer, "propose")
        return answer
    with transaction.atomic():
        sentence = f"Claude was asked for {num_wanted} in a batch, at half price; the answer comes within a day"
        events.record(kinds.PROPOSER_BATCH(batch=pending.id), sentence, by=BY, campaign=campaign)
        _update(campaign, batch=vars(pending), proposer_retry_at=timezone.now() + LOOK_AGAIN_AFTER, proposer_problem="")
    return answer


def _collect(campaign: Campaign, source: BatchProposer, pending: Pending) -> Answer:
    """Look what came of a batch. One that cannot be looked at stays, with why on the campaign's page."""
    about = brief(campaign, pending.num_wanted)
    collected = source.collect(about, pending)
    if collected is None or collected.is_late:
        _look_later(campaign, collected)
        return Answer()
    answer = heard(campaign, about, lambda: collected)
    with transaction.atomic():
        _update(campaign, batch=None, batch_problem="")
        note_answer(campaign, answer, "propose")
    return answer


def _look_later(campaign: Campaign, late: Answer | None) -> None:
    """Its sentence goes when a look succeeds. Problems with answers stay: revisions are asked for meanwhile."""
    problem = visible(late.problem)[:500] if late else ""
    pause = timedelta(seconds=late.retry_after_s or 0) if late else LOOK_AGAIN_AFTER
    with transaction.atomic():
        if problem and problem != campaign.batch_problem:
            sentence = f"The batch could not be looked at: {problem}"
            events.record(kinds.PROPOSER_PROBLEM(), sentence, by=BY, campaign=campaign)
        _update(campaign, batch_problem=problem, proposer_retry_at=timezone.now() + max(pause, LOOK_AGAIN_AFTER))


def note_answer(campaign: Campaign, answer: Answer, purpose: str) -> None:
    """Charge what the answer cost and show, on the campaign page, why there was none."""
    problem = visible(answer.problem)
    num_problems = 0 if answer.drafts else campaign.num_problems + 1
    retry_at = timezone.now() + _pause(answer, num_problems) if num_problems else None
    with transaction.atomic():
        ledger.charge_claude(campaign, answer.usages, purpose)
        if problem and problem[:500] != campaign.proposer_problem:
            events.record(kinds.PROPOSER_PROBLEM(), problem, by=BY, campaign=campaign)
        _update(
            campaign,
            proposer_problem=problem[:500],
            proposer_retry_at=retry_at,
            num_problems=min(num_problems, 1_000),
        )


def _pause(answer: Answer, num_problems: int) -> timedelta:
    doubled = RETRY_AFTER_S * 2 ** min(num_problems - 1, 10)
    return timedelta(seconds=max(answer.retry_after_s or 0.0, min(doubled, RETRY_AFTER_AT_MOST_S)))


def _update(campaign: Campaign, **changes: Any) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(**changes)
    for field, value in changes.items():
        setattr(campaign, field, value)
