"""The first verb of the loop: ask a proposer, write what it answers, keep a set number waiting.

The proposer (Claude, or the catalogue without a key) is called outside any transaction: it may take minutes.
``proposing_since`` on the campaign, taken by compare-and-set, keeps two callers from asking at once.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F, Max, Q
from django.utils import timezone

from gpu_runner import contract
from research import (
    approval,
    dynamics,
    events,
    gates,
    learn,
    ledger,
    lifecycle,
    moves,
    patches,
    repeats,
    repository,
    stated,
    steer,
)
from research.claude.batches import Pending
from research.drafts import (
    Answer,
    BatchProposer,
    Brief,
    Draft,
    Edit,
    Override,
    Prediction,
    Proposer,
)
from research.models import Campaign, Proposal, Revision, Wave
from research.visible import visible

log = logging.getLogger(__name__)
ASKING_FOR_AT_MOST = timedelta(minutes=15)
RETRY_AFTER_S = 60.0  # doubled with every call in a row that gave no draft: a refusal is billed too
RETRY_AFTER_AT_MOST_S = 3600.0
LOOK_AGAIN_AFTER = timedelta(minutes=1)  # at a batch
LATE = "The batch could not be looked at: "
MAX_REVISIONS = 12
TRIES_AT_A_REVISION = 3
BY = "proposer"


def proposer(campaign: Campaign, purpose: str = "propose") -> Proposer:
    """Claude when there is a key, within what may be spent; else the offline catalogue, which says so."""
    if settings.ANTHROPIC_CONFIGURED:
        from research.claude.proposer import DEFAULT_MODEL, ClaudeProposer

        return ClaudeProposer(
            model=settings.ANTHROPIC_MODEL or DEFAULT_MODEL,
            fallback_model=settings.ANTHROPIC_FALLBACK_MODEL or None,
            allowance=ledger.allowance(campaign),
            sending=lambda usage: ledger.enter(campaign, usage, purpose),
        )
    from research.offline.proposer import OfflineProposer

    return OfflineProposer()


def num_missing(campaign: Campaign) -> int:
    """How many proposals the campaign should be asking for right now."""
    now = timezone.now()
    if campaign.state != "active" or (campaign.proposer_retry_at and campaign.proposer_retry_at > now):
        return 0
    # Agents have a limit of their own: as many as they like must not silence the proposer.
    waiting = campaign.proposals.filter(state__in=lifecycle.PROPOSAL_WAITING).exclude(arm="agent").count()
    return max(0, campaign.num_waiting - waiting)


def is_due(campaign: Campaign) -> bool:
    """Is it time to ask, or to look at a batch? That is done whatever became of the campaign: it is paid for."""
    waits = campaign.proposer_retry_at is not None and campaign.proposer_retry_at > timezone.now()
    return num_missing(campaign) > 0 or (campaign.batch is not None and not waits)


def top_up(campaign: Campaign) -> list[Proposal]:
    """Ask for as many proposals as are missing; none when somebody else is asking already."""
    if not is_due(campaign) or (since := _begin_asking(campaign)) is None:
        return []
    try:
        source = proposer(campaign)
        campaign.refresh_from_db(fields=["batch"])
        answer = _answer(campaign, source, num_missing(campaign))
        return write_wave(campaign, answer, arm=source.arm)
    finally:
        _end_asking(campaign, since)


def _answer(campaign: Campaign, source: Proposer, num_wanted: int) -> Answer:
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
    answer = _heard(campaign, about, lambda: source.draft(about))
    note_answer(campaign, answer, "propose")
    return replace(answer, drafts=answer.drafts[:num_wanted])


def _heard(campaign: Campaign, about: Brief, ask: Callable[[], Answer], apart_from: int | None = None) -> Answer:
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
        events.record("proposer.batch", sentence, by=BY, campaign=campaign, batch=pending.id)
        _update(campaign, batch=vars(pending), proposer_retry_at=timezone.now() + LOOK_AGAIN_AFTER, proposer_problem="")
    return answer


def _collect(campaign: Campaign, source: BatchProposer, pending: Pending) -> Answer:
    """Look what came of a batch. One that cannot be looked at stays, with why on the campaign's page."""
    about = brief(campaign, pending.num_wanted)
    collected = source.collect(about, pending)
    if collected is None or collected.is_late:
        _look_later(campaign, collected)
        return Answer()
    answer = _heard(campaign, about, lambda: collected)
    with transaction.atomic():
        _update(campaign, batch=None)
        note_answer(campaign, answer, "propose")
    return answer


def _look_later(campaign: Campaign, late: Answer | None) -> None:
    """Its sentence goes when a look succeeds. Problems that were counted stay: revisions are asked for meanwhile."""
    problem = f"{LATE}{visible(late.problem)}"[:500] if late else ""
    pause = timedelta(seconds=late.retry_after_s or 0) if late else LOOK_AGAIN_AFTER
    with transaction.atomic():
        if problem and problem != campaign.proposer_problem:
            events.record("proposer.problem", problem, by=BY, campaign=campaign)
        if problem or campaign.proposer_problem.startswith(LATE):
            _update(campaign, proposer_problem=problem)
        _update(campaign, proposer_retry_at=timezone.now() + max(pause, LOOK_AGAIN_AFTER))


def write_wave(campaign: Campaign, answer: Answer, *, arm: str) -> list[Proposal]:
    """One bad draft (the incumbent moved while it was written, say) must not take the others along."""
    if not answer.drafts:
        return []
    wave = Wave.objects.create(
        campaign=campaign, arm=arm, design=answer.design, **stated.origin_fields(answer.drafts[0])
    )
    written = []
    for draft in answer.drafts:
        try:
            written.append(write(campaign, draft, arm=arm, wave=wave))
        except ValueError as error:
            problem = f"{draft.title!r} could not be written down: {error}"
            note_answer(campaign, Answer(problem=problem), "propose")
    if not written:
        wave.delete()
    return written


def is_free(campaign: Campaign) -> bool:
    """Is nobody asking? Whoever has been for so long has died."""
    return campaign.proposing_since is None or campaign.proposing_since < timezone.now() - ASKING_FOR_AT_MOST


def _begin_asking(campaign: Campaign) -> datetime | None:
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
            events.record("proposer.lost", sentence, by=BY, campaign=campaign)
    return now


def _end_asking(campaign: Campaign, since: datetime) -> None:
    """Unless it was taken from us meanwhile."""
    Campaign.objects.filter(pk=campaign.pk, proposing_since=since).update(proposing_since=None)


def note_answer(campaign: Campaign, answer: Answer, purpose: str) -> None:
    """Charge what the answer cost and show, on the campaign page, why there was none."""
    problem = visible(answer.problem)
    num_problems = 0 if answer.drafts else campaign.num_problems + 1
    retry_at = timezone.now() + _pause(answer, num_problems) if num_problems else None
    with transaction.atomic():
        ledger.charge_claude(campaign, answer.usages, purpose)
        if problem and problem[:500] != campaign.proposer_problem:
            events.record("proposer.problem", problem, by=BY, campaign=campaign)
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


def write(
    campaign: Campaign,
    draft: Draft,
    *,
    arm: str,
    author: User | None = None,
    by: str = "",
    wave: Wave | None = None,
) -> Proposal:
    """Write a draft as a Proposal with its first Revision and send it to the gates."""
    by = by or (f"user:{author.get_username()}" if author else f"{BY}:{arm}")
    with transaction.atomic():
        proposal = Proposal.objects.create(
            campaign=campaign,
            arm=arm,
            title=draft.title[:200],
            source=draft.source[:200],
            author=author,
            wave=wave,
        )
        proposal.precedents.set(campaign.proposals.filter(pk__in=draft.precedents))
        write_revision(proposal, draft)
        sentence = f"P-{proposal.pk} {proposal.title}"
        in_wave = wave.pk if wave else None
        events.record("proposal.drafted", sentence, by=by, campaign=campaign, proposal=proposal, wave=in_wave)
        transaction.on_commit(lambda: gates.request(proposal))
    return proposal


def by_hand(campaign: Campaign, draft: Draft, *, by: User) -> Proposal:
    """A person's own experiment: into the same gates and the same queue as any other.

    Raises PermissionDenied, or ValueError with every problem in a sentence.
    """
    if not by.has_perm("research.add_proposal"):
        raise PermissionDenied("Proposing needs the researcher role.")
    files = repository.files_at(campaign, campaign.incumbent.commit)
    if problems := patches.problems_with(draft, contract.parse_recipe(files["recipe.toml"]), files):
        raise ValueError("; ".join(problems))
    return write(campaign, draft, arm="human", author=by)


def write_revision(
    proposal: Proposal,
    draft: Draft,
    *,
    origin: str = "drafted",
    answers: str = "",
    reply: str = "",
    author: User | None = None,
) -> Revision:
    """The next immutable revision of ``proposal``, on the present incumbent."""
    campaign = proposal.campaign
    incumbent = campaign.incumbent
    patch = patches.to_patch(repository.files_at(campaign, incumbent.commit), draft.edits)
    signed = approval.of(campaign, incumbent, patch, {o.key: o.value for o in draft.overrides})
    return Revision.objects.create(
        proposal=proposal,
        number=proposal.revisions.count() + 1,
        incumbent=incumbent,
        hypothesis=draft.hypothesis,
        mechanism=draft.mechanism,
        refuted_if=draft.refuted_if,
        effect_bpb=draft.prediction.effect_bpb,
        low_bpb=draft.prediction.low_bpb,
        high_bpb=draft.prediction.high_bpb,
        chance_to_win=draft.prediction.chance_to_win,
        **stated.fields(campaign, draft),
        overrides=[vars(o) for o in draft.overrides],
        edits=[vars(e) for e in draft.edits],
        patch=patch,
        origin=origin,
        author=author,
        answers=answers,
        reply=reply,
        approval=signed.model_dump(mode="json"),
        digest=signed.digest(),
    )


def revise(proposal: Proposal) -> None:
    """Answer a reviewer's request for changes with a new revision, or withdraw with the reason.

    What was proposed from outside waits for its author, or whoever edits it: it is not the proposer's to rewrite.
    """
    if proposal.arm in Proposal.FROM_OUTSIDE:
        return
    campaign = proposal.campaign
    previous = proposal.revision
    comment = previous.decisions.filter(choice="request_changes").latest("pk").reason
    if (since := _begin_asking(campaign)) is None:
        return
    source = proposer(campaign, "revise")
    try:
        about = brief(campaign, 1, revising=previous)
        draft = draft_of(previous)
        answer = _heard(campaign, about, lambda: source.revise(about, draft, comment), apart_from=proposal.pk)
        if not answer.drafts and source.arm == "claude" and _may_try_again(previous, answer):
            _note_unanswered(previous, answer)
            return
        ledger.charge_claude(campaign, answer.usages, "revise")
    finally:
        _end_asking(campaign, since)
    if answer.drafts:
        sentence = f"P-{proposal.pk} was revised"
        draft = answer.drafts[0]
        _redraft(proposal, draft, origin="answered", sentence=sentence, answers=comment, reply=answer.design)
        return
    sentence = f"P-{proposal.pk} was withdrawn: {answer.problem or 'no revision came'}"
    moves.move_proposal(proposal, "withdrawn", by=BY, sentence=sentence)


def _may_try_again(revision: Revision, answer: Answer) -> bool:
    """The reviewer wanted this one. What the service could not do is no try; an answer that is none is paid for."""
    tries = revision.proposal.events.filter(kind="proposal.unanswered", payload__revision=revision.number)
    return answer.retry_after_s is not None or tries.count() + 1 < TRIES_AT_A_REVISION


def _note_unanswered(revision: Revision, answer: Answer) -> None:
    campaign, proposal = revision.proposal.campaign, revision.proposal
    with transaction.atomic():
        note_answer(campaign, answer, "revise")
        if answer.retry_after_s is None:
            sentence = f"P-{proposal.pk} was asked for a revision and got none: {visible(answer.problem)}"
            kind, number = "proposal.unanswered", revision.number
            events.record(kind, sentence, by=BY, campaign=campaign, proposal=proposal, revision=number)


def rebase(proposal: Proposal) -> None:
    """Bring a stale proposal onto the present incumbent, or withdraw it with the reason."""
    revision = proposal.revision
    if revision.number >= MAX_REVISIONS:
        problem = f"it was revised {revision.number} times"
    else:
        try:
            _redraft(proposal, draft_of(revision), origin="rebased", sentence=_why_rebased(revision))
            return
        except ValueError as error:
            if isinstance(error, lifecycle.IllegalMove):
                raise
            problem = f"it no longer applies to the incumbent: {error}"
    moves.move_proposal(proposal, "withdrawn", by=BY, sentence=f"P-{proposal.pk} was withdrawn: {problem}")


def _why_rebased(revision: Revision) -> str:
    name, now = f"P-{revision.proposal_id}", revision.proposal.campaign.incumbent
    if now != revision.incumbent:
        return f"{name} was rebased from {revision.incumbent.commit[:7]} onto the incumbent {now.commit[:7]}"
    return f"{name} goes through the gates again, under today's conditions"


def _redraft(
    proposal: Proposal, draft: Draft, *, origin: str, sentence: str, answers: str = "", reply: str = ""
) -> None:
    with transaction.atomic():
        moves.move_proposal(proposal, "drafted", by=BY, sentence=sentence, title=draft.title[:200])
        write_revision(proposal, draft, origin=origin, answers=answers, reply=reply)
        transaction.on_commit(lambda: gates.request(proposal))


def draft_of(revision: Revision) -> Draft:
    """The draft that ``revision`` was written from."""
    return Draft(
        title=revision.proposal.title,
        hypothesis=revision.hypothesis,
        mechanism=revision.mechanism,
        refuted_if=revision.refuted_if,
        prediction=Prediction(
            effect_bpb=revision.effect_bpb,
            low_bpb=revision.low_bpb,
            high_bpb=revision.high_bpb,
            chance_to_win=revision.chance_to_win,
        ),
        overrides=tuple(Override(**o) for o in revision.overrides),
        edits=tuple(Edit(**e) for e in revision.edits),
        **stated.of(revision),
        source=revision.proposal.source,
    )


def _open(campaign: Campaign) -> list[Revision]:
    """The newest revisions of proposals that are not over."""
    rows = Revision.objects.filter(proposal__campaign=campaign, proposal__state__in=lifecycle.PROPOSAL_OPEN)
    return list(rows.annotate(newest=Max("proposal__revisions__number")).filter(number=F("newest")))


def brief(campaign: Campaign, num_wanted: int, revising: Revision | None = None) -> Brief:
    """Everything a proposer may know of ``campaign``."""
    incumbent = campaign.incumbent
    files = repository.files_at(campaign, incumbent.commit)
    return Brief(
        campaign=campaign.name,
        goal=campaign.goal,
        program=campaign.program,
        recipe_toml=files["recipe.toml"],
        files=files,
        incumbent_bpb=learn.incumbent_bpb(incumbent),
        noise_sd_bpb=learn.noise(campaign).sd_bpb,
        min_effect_bpb=campaign.min_effect_bpb,
        run_budget=ledger.budget_in_words(campaign.run_budget),
        hardware=campaign.hardware_class or "not known yet",
        budget_left=ledger.left_in_words(campaign),
        precedents=learn.precedents(campaign),
        num_wanted=num_wanted,
        seed=secrets.randbits(31),
        dynamics=dynamics.of_campaign(campaign, incumbent, [revising] if revising else _open(campaign)),
        log_tails=dynamics.log_tails(campaign),
        notes=steer.notes(campaign),
        num_since_keep=learn.num_since_keep(incumbent),
    )
