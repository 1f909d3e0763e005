"""Turns: which caller may ask an arm for drafts, the answer (at once or in a batch), and what it cost.

    begin -> answer_of | heard -> note_answer -> end

The proposer (Claude, or the catalogue without a key) is called outside of any transaction, since it may take minutes.
Each arm of a campaign has a ``Turn``; its ``taken_at``, written by compare-and-set, keeps two callers from asking
at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from research.arms.claude.pending import Pending
from research.change.drafts import Answer, BatchProposer, Brief, Proposer
from research.change.visible import visible
from research.models import Campaign, Turn
from research.propose import repeats
from research.propose.briefing import brief
from research.record import events, kinds, ledger, rights

log = logging.getLogger(__name__)
ASKING_FOR_AT_MOST = timedelta(minutes=15)
RETRY_AFTER_S = 60.0  # doubled with every call in a row that gave no draft: a refusal is billed too
RETRY_AFTER_AT_MOST_S = 3600.0
LOOK_AGAIN_AFTER = timedelta(minutes=1)  # at a batch


def asked(campaign: Campaign) -> str:
    """The arm that ``campaign`` asks now: "claude" with a key, else "offline"."""
    return "claude" if settings.ANTHROPIC_CONFIGURED else "offline"


def of(campaign: Campaign, arm: str = "") -> Turn:
    """The turn of ``arm``, by default of the arm that is asked now."""
    turn, _ = campaign.turns.get_or_create(arm=arm or asked(campaign))
    return turn


def shown(campaign: Campaign) -> list[Turn]:
    """Turns to show to people: of the arm that is asked now, and those with a batch under way."""
    arm = asked(campaign)
    return [turn for turn in campaign.turns.order_by("pk") if turn.arm == arm or turn.batch]


def proposer(turn: Turn, purpose: str = "propose") -> Proposer:
    """The proposer of the turn's arm; Claude with an allowance of what may be spent."""
    if turn.arm == "claude":
        from research.arms.claude.proposer import DEFAULT_MODEL, ClaudeProposer

        campaign = turn.campaign
        return ClaudeProposer(
            model=settings.ANTHROPIC_MODEL or DEFAULT_MODEL,
            fallback_model=settings.ANTHROPIC_FALLBACK_MODEL or None,
            allowance=ledger.allowance(campaign),
            sending=lambda usage: ledger.enter(campaign, usage, purpose),
            heard=lambda usage: ledger.enter_usage(usage, purpose),
        )
    from research.arms.offline.proposer import OfflineProposer

    return OfflineProposer()


def is_free(turn: Turn) -> bool:
    """Whether no caller has the turn. One that has had it for too long has died."""
    return turn.taken_at is None or turn.taken_at < timezone.now() - ASKING_FOR_AT_MOST


def rests(turn: Turn) -> bool:
    """Whether it is too early to ask again, or to look at a batch."""
    return turn.retry_at is not None and turn.retry_at > timezone.now()


def begin(campaign: Campaign) -> Turn | None:
    """Take the turn; None while another caller has it. Writes off requests that a restart left without an answer."""
    turn, now = of(campaign), timezone.now()
    free = Q(taken_at=None) | Q(taken_at__lt=now - ASKING_FOR_AT_MOST)
    with transaction.atomic():
        if Turn.objects.filter(free, pk=turn.pk).update(taken_at=now) != 1:
            return None
        if turn.arm == "claude" and (num := ledger.write_off(campaign)):
            sentence = (
                f"Requests to Claude left without an answer by a restart: {num}, counted with the most they can cost"
            )
            events.record(kinds.PROPOSER_LOST(), sentence, by=rights.PROPOSER, campaign=campaign)
    return campaign.turns.get(pk=turn.pk)  # as whoever asked before left it


def end(turn: Turn) -> None:
    """Give the turn back, unless another caller has taken it meanwhile."""
    Turn.objects.filter(pk=turn.pk, taken_at=turn.taken_at).update(taken_at=None)


def answer_of(turn: Turn, source: Proposer, num_wanted: int) -> Answer:
    if isinstance(source, BatchProposer) and turn.batch:
        return _collect(turn, source, Pending(**turn.batch))
    if isinstance(source, BatchProposer) and turn.campaign.in_batches:
        return _submit(turn, source, num_wanted)
    return _ask(turn, source, num_wanted)


def _ask(turn: Turn, source: Proposer, num_wanted: int) -> Answer:
    about = brief(turn.campaign, num_wanted)
    answer = heard(turn, about, lambda: source.draft(about))
    note_answer(turn, answer, "propose")
    return replace(answer, drafts=answer.drafts[:num_wanted])


def heard(turn: Turn, about: Brief, ask: Callable[[], Answer], apart_from: int | None = None) -> Answer:
    """The answer without repeats. Its cost is kept, whatever is wrong with the answer or with us."""
    said = _unless_broken(turn, ask)
    screened = _unless_broken(turn, lambda: repeats.screened(said, about, apart_from=apart_from))
    return replace(screened, usages=said.usages)


def _unless_broken(turn: Turn, ask: Callable[[], Answer]) -> Answer:
    """The answer; one with a problem where our code raised, so that the arm pauses.

    Otherwise it would be asked, and paid, again every few seconds.
    """
    try:
        return ask()
    except Exception as error:
        log.exception("campaign %s: the proposer's answer could not be used", turn.campaign.slug)
        fault = f"a fault of ours ({type(error).__name__}, see the log)"
        return Answer(problem=f"The proposer's answer could not be used because of {fault}.")


def _submit(turn: Turn, source: BatchProposer, num_wanted: int) -> Answer:
    """Submit a batch. It outlives this process, so the most that it can cost is on record before it is sent."""
    pending, answer = source.submit(brief(turn.campaign, num_wanted), lambda sent: _update(turn, batch=vars(sent)))
    if pending is None:
        with transaction.atomic():
            _update(turn, batch=None)
            note_answer(turn, answer, "propose")
        return answer
    with transaction.atomic():
        sentence = f"Claude was asked for {num_wanted} in a batch, at half price; the answer comes within a day"
        events.record(kinds.PROPOSER_BATCH(batch=pending.id), sentence, by=rights.PROPOSER, campaign=turn.campaign)
        _update(turn, batch=vars(pending), retry_at=timezone.now() + LOOK_AGAIN_AFTER, problem="")
    return answer


def _collect(turn: Turn, source: BatchProposer, pending: Pending) -> Answer:
    """Look at the batch. One that cannot be looked at stays, and the campaign's page says why."""
    about = brief(turn.campaign, pending.num_wanted)
    collected = source.collect(about, pending)
    if collected is None or collected.is_late:
        _look_later(turn, collected)
        return Answer()
    answer = heard(turn, about, lambda: collected)
    with transaction.atomic():
        _update(turn, batch=None, batch_problem="")
        note_answer(turn, answer, "propose")
    return answer


def _look_later(turn: Turn, late: Answer | None) -> None:
    """Set the next look at the batch. Its problem goes when a look succeeds; problems with answers stay."""
    problem = visible(late.problem)[:500] if late else ""
    pause = timedelta(seconds=late.retry_after_s or 0) if late else LOOK_AGAIN_AFTER
    with transaction.atomic():
        if problem and problem != turn.batch_problem:
            sentence = f"The batch could not be looked at: {problem}"
            events.record(kinds.PROPOSER_PROBLEM(), sentence, by=rights.PROPOSER, campaign=turn.campaign)
        _update(turn, batch_problem=problem, retry_at=timezone.now() + max(pause, LOOK_AGAIN_AFTER))


def note_answer(turn: Turn, answer: Answer, purpose: str) -> None:
    """Charge the answer's cost, keep its problem for the campaign page, and set the pause where there was no draft."""
    problem = visible(answer.problem)
    num_problems = 0 if answer.drafts else turn.num_problems + 1
    retry_at = timezone.now() + _pause(answer, num_problems) if num_problems else None
    with transaction.atomic():
        ledger.charge_claude(turn.campaign, answer.usages, purpose)
        if problem and problem[:500] != turn.problem:
            events.record(kinds.PROPOSER_PROBLEM(), problem, by=rights.PROPOSER, campaign=turn.campaign)
        _update(turn, problem=problem[:500], retry_at=retry_at, num_problems=min(num_problems, 1_000))


def _pause(answer: Answer, num_problems: int) -> timedelta:
    doubled = RETRY_AFTER_S * 2 ** min(num_problems - 1, 10)
    return timedelta(seconds=max(answer.retry_after_s or 0.0, min(doubled, RETRY_AFTER_AT_MOST_S)))


def _update(turn: Turn, **changes: Any) -> None:
    Turn.objects.filter(pk=turn.pk).update(**changes)
    for field, value in changes.items():
        setattr(turn, field, value)
