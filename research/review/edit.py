"""A person's edit of a proposal: a new revision by them, through every gate again, on which others decide."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from gpu_runner import contract
from research import lifecycle
from research.change import patches
from research.change.drafts import Draft
from research.gates import refused_at_once
from research.lifecycle import LostRace
from research.models import Proposal, Revision
from research.propose import briefing, drafting
from research.record import kinds, moves, repository, rights
from research.record.rights import Actor


def edit(proposal_id: int, draft: Draft, *, number: int, digest: str, by: User) -> Revision:
    """Put ``draft`` in place of revision ``number``, the one that was shown.

    Its author is ``by``, who may then decide on no revision of this proposal. Raises PermissionDenied, ValueError
    with every problem in a sentence, LostRace (there is another revision, or none can be edited now).
    """
    proposal = Proposal.objects.select_related("campaign").get(pk=proposal_id)
    rights.check(by, rights.edit, proposal)
    _check(proposal, draft)
    with transaction.atomic():
        proposal = moves.locked(proposal_id)
        shown = still_as_shown(proposal, number, digest)
        if draft == briefing.draft_of(shown):
            raise ValueError(f"Nothing differs from revision {number}: change something, or decide on it as it is")
        return put(proposal, draft, by=by)


def _check(proposal: Proposal, draft: Draft) -> None:
    """Check the draft. Outside of the transaction, as it reads the repository."""
    campaign = proposal.campaign
    files = repository.files_at(campaign, campaign.incumbent.commit)
    problems = patches.problems_with(draft, contract.parse_recipe(files["recipe.toml"]), files)
    if problems := problems or refused_at_once.problems(draft, files, sandbox_level=campaign.sandbox_level):
        raise ValueError("; ".join(problems))


def still_as_shown(proposal: Proposal, number: int, digest: str) -> Revision:
    """The newest revision. LostRace unless it is the one shown and can be edited; ValueError at MAX_REVISIONS."""
    name, revision = f"P-{proposal.pk}", proposal.revision
    if (revision.number, revision.digest) != (number, digest):
        raise LostRace(f"{name} changed meanwhile: revision {revision.number} is on the table now")
    if proposal.state not in lifecycle.PROPOSAL_EDITABLE:
        raise LostRace(f"{name} is already {proposal.state.replace('_', ' ')}: it can no longer be edited")
    if revision.number >= drafting.MAX_REVISIONS:
        raise ValueError(f"{name} has {revision.number} revisions, as many as one may have: propose it anew")
    return revision


def put(proposal: Proposal, draft: Draft, *, by: Actor, answers: str = "") -> Revision:
    """Write the next revision, for the gates. Must run in the transaction that holds ``proposal``."""
    rights.check(by, rights.edit, proposal)
    was = proposal.revision.digest
    author = by if isinstance(by, User) else None
    origin = "answered" if answers else "edited"
    revision = drafting.write_revision(proposal, draft, origin=origin, author=author, answers=answers)
    told = kinds.Drafted(revision=revision.number, was=was)
    what = "revised" if answers else "edited"
    sentence = f"{rights.in_words(by)} {what} P-{proposal.pk} {proposal.title}: revision {revision.number}"
    moves.move_proposal(proposal, "drafted", by=by, sentence=sentence, payload=told, title=draft.title[:200])
    return revision
