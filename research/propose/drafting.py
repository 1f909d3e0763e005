"""The loop's first verb: asks a proposer for drafts and writes them as proposals, until enough wait for people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from gpu_runner import contract
from research import lifecycle
from research.change import patches
from research.change.drafts import Answer, Draft
from research.change.visible import visible
from research.gates import refused_at_once
from research.models import Campaign, Proposal, Revision, Turn, Wave
from research.propose import statement, turns
from research.propose.briefing import brief, draft_of
from research.record import approval, events, kinds, ledger, moves, repository, rights
from research.record.rights import Actor

MAX_REVISIONS = 12
TRIES_AT_A_REVISION = 3
REBASED_AGAIN_AFTER = timedelta(minutes=1)  # where a rebase was in vain


def num_missing(turn: Turn) -> int:
    """How many proposals to ask for now."""
    campaign = turn.campaign
    if campaign.state != "active" or turns.rests(turn):
        return 0
    # Agents have a limit of their own: as many as they like must not silence the proposer.
    own = campaign.proposals.exclude(arm="agent")
    waiting = own.filter(state__in=lifecycle.PROPOSAL_WAITING).count()
    # Smoke runs go first, so with approvals as fast as drafts no other run would ever start.
    crowded = max(0, own.filter(state="approved").count() - campaign.num_waiting)
    return max(0, campaign.num_waiting - waiting - crowded)


def is_due(turn: Turn) -> bool:
    """Whether to ask, or to look at a batch.

    A batch is looked at in any state of the campaign, since it is paid for.
    """
    return num_missing(turn) > 0 or (turn.batch is not None and not turns.rests(turn))


def top_up(campaign: Campaign) -> list[Proposal]:
    """Ask for as many proposals as are missing; none while another caller asks."""
    if not is_due(turns.of(campaign)) or (turn := turns.begin(campaign)) is None:
        return []
    try:
        campaign.refresh_from_db()
        if not is_due(turn):  # somebody asked while we waited for our turn
            return []
        source = turns.proposer(turn)
        answer = turns.answer_of(turn, source, num_missing(turn))
        return write_wave(campaign, answer, arm=source.arm)
    finally:
        turns.end(turn)


def write_wave(campaign: Campaign, answer: Answer, *, arm: str) -> list[Proposal]:
    """Write the drafts of an answer. One that fails (the incumbent moved meanwhile, say) does not stop the others."""
    if not answer.drafts:
        return []
    wave = Wave.objects.create(
        campaign=campaign, arm=arm, design=answer.design, **statement.origin_fields(answer.drafts[0])
    )
    written = []
    for draft in answer.drafts:
        try:
            written.append(write(campaign, draft, arm=arm, by=rights.proposer(arm), wave=wave))
        except ValueError as error:
            problem = f"{draft.title!r} could not be written down: {error}"
            turns.note_answer(turns.of(campaign, arm), Answer(problem=problem), "propose")
    if not written:
        wave.delete()
    return written


def write(
    campaign: Campaign,
    draft: Draft,
    *,
    arm: str,
    by: Actor,
    author: User | None = None,
    wave: Wave | None = None,
) -> Proposal:
    """Write a draft as a Proposal with its first Revision, for the gates. Raises PermissionDenied."""
    rights.check(by, rights.propose, campaign)
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
        revision = write_revision(proposal, draft)
        fact = kinds.PROPOSAL["drafted"].of(kinds.Drafted(wave=wave.pk if wave else None, revision=revision.number))
        rows = [proposal, revision, *([wave] if wave else [])]
        sentence = f"Proposed: P-{proposal.pk} {proposal.title}"
        events.record(fact, sentence, by=rights.name_of(by), campaign=campaign, proposal=proposal, rows=rows)
    return proposal


def by_hand(campaign: Campaign, draft: Draft, *, by: User) -> Proposal:
    """Write a person's own experiment, for the same gates and queue as any other.

    Raises PermissionDenied, or ValueError with every problem in a sentence.
    """
    rights.check(by, rights.propose_by_hand, campaign)
    if campaign.state == "archived":
        raise ValueError(f"{campaign.name} is archived: it takes no proposals until somebody brings it back")
    files = repository.files_at(campaign, campaign.incumbent.commit)
    problems = patches.problems_with(draft, contract.parse_recipe(files["recipe.toml"]), files)
    if problems := problems or refused_at_once.problems(draft, files, sandbox_level=campaign.sandbox_level):
        raise ValueError("; ".join(problems))
    return write(campaign, draft, arm="human", by=by, author=by)


def write_revision(
    proposal: Proposal,
    draft: Draft,
    *,
    origin: str = "drafted",
    answers: str = "",
    reply: str = "",
    author: User | None = None,
) -> Revision:
    """Write the next revision of ``proposal``, on the present incumbent."""
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
        **statement.fields(campaign, draft),
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

    A proposal from outside waits for its author or a person who edits it; the proposer does not rewrite it. In a
    campaign that is not active it waits until a person resumes that.

    Raises LostRace when another revision came while the proposer wrote: only the revision it read is answered or
    withdrawn.
    """
    if proposal.arm in Proposal.FROM_OUTSIDE or proposal.campaign.state != "active":
        return
    campaign = proposal.campaign
    previous = proposal.revision
    comment = previous.decisions.filter(choice="request_changes").latest("pk").reason
    if (turn := turns.begin(campaign)) is None:
        return
    source = turns.proposer(turn, "revise")
    try:
        about = brief(campaign, 1, revising=previous)
        draft = draft_of(previous)
        answer = turns.heard(turn, about, lambda: source.revise(about, draft, comment), apart_from=proposal.pk)
        if not answer.drafts and source.arm == "claude" and _may_try_again(previous, answer):
            _note_unanswered(turn, previous, answer)
            return
        ledger.charge_claude(campaign, answer.usages, "revise")
    finally:
        turns.end(turn)
    if answer.drafts:
        sentence = f"P-{proposal.pk} was revised"
        draft = answer.drafts[0]
        with _still_on(previous):
            _redraft(proposal, draft, origin="answered", sentence=sentence, answers=comment, reply=answer.design)
        return
    sentence = f"P-{proposal.pk} was withdrawn: {answer.problem or 'no revision came'}"
    with _still_on(previous):
        moves.move_proposal(proposal, "withdrawn", by=rights.PROPOSER, sentence=sentence)


@contextmanager
def _still_on(revision: Revision) -> Iterator[None]:
    """A transaction that locks the proposal; LostRace where it has another revision by now."""
    with transaction.atomic():
        newest = moves.locked(revision.proposal_id).revision
        if newest != revision:
            raise lifecycle.LostRace(f"P-{revision.proposal_id} changed: revision {newest.number} is on the table now")
        yield


def _may_try_again(revision: Revision, answer: Answer) -> bool:
    """Whether to ask for the revision again later: a reviewer wanted this proposal.

    Failures of the service count as no try. Other calls without a draft are paid for: TRIES_AT_A_REVISION bounds them.
    """
    tries = revision.proposal.events.filter(kind=kinds.UNANSWERED, payload__revision=revision.number)
    return answer.retry_after_s is not None or tries.count() + 1 < TRIES_AT_A_REVISION


def _note_unanswered(turn: Turn, revision: Revision, answer: Answer) -> None:
    campaign, proposal = revision.proposal.campaign, revision.proposal
    with transaction.atomic():
        turns.note_answer(turn, answer, "revise")
        if answer.retry_after_s is None:
            sentence = f"P-{proposal.pk} was asked for a revision and got none: {visible(answer.problem)}"
            fact = kinds.UNANSWERED(revision=revision.number)
            events.record(fact, sentence, by=rights.PROPOSER, campaign=campaign, proposal=proposal)


def rebase(proposal: Proposal) -> None:
    """Bring a stale proposal onto the present incumbent, or withdraw it with the reason."""
    revision = proposal.revision
    if _was_in_vain(revision) and proposal.state_at > timezone.now() - REBASED_AGAIN_AFTER:
        return  # reconcile rings again
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
    moves.move_proposal(proposal, "withdrawn", by=rights.PROPOSER, sentence=f"P-{proposal.pk} was withdrawn: {problem}")


def _was_in_vain(revision: Revision) -> bool:
    """Whether the last rebase changed nothing and its smoke run was called off all the same.

    It happens where processes of this house are installed from different lock files: each finds the other's outdated.
    """
    before = revision.proposal.revisions.filter(number=revision.number - 1, digest=revision.digest)
    called_off = revision.runs.filter(purpose="smoke", state="cancelled")
    return revision.origin == "rebased" and before.exists() and called_off.exists()


def _why_rebased(revision: Revision) -> str:
    name, now = f"P-{revision.proposal_id}", revision.proposal.campaign.incumbent
    if now != revision.incumbent:
        return f"{name} was rebased from {revision.incumbent.commit[:7]} onto the incumbent {now.commit[:7]}"
    return f"{name} goes through the gates again, under today's conditions"


def _redraft(
    proposal: Proposal, draft: Draft, *, origin: str, sentence: str, answers: str = "", reply: str = ""
) -> None:
    with transaction.atomic():
        moves.hold_proposal(proposal)
        revision = write_revision(proposal, draft, origin=origin, answers=answers, reply=reply)
        told = kinds.Drafted(revision=revision.number)
        title = draft.title[:200]
        moves.move_proposal(proposal, "drafted", by=rights.PROPOSER, sentence=sentence, payload=told, title=title)
