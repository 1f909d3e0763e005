"""What an agent from outside may do: propose, and answer a reviewer. It decides nothing."""

from __future__ import annotations

from dataclasses import replace

from django.db import transaction

from research import lifecycle
from research.change import patches
from research.change.drafts import Draft, Precedent
from research.gates import refused_at_once
from research.lifecycle import LostRace
from research.models import Campaign, Proposal, Revision
from research.propose import briefing, drafting
from research.record import learn, moves, repository, rights
from research.record.rights import Agent
from research.review import edit


class Full(Exception):
    """The campaign has as many open proposals of agents as it allows."""


class Repeated(Exception):
    """An earlier proposal made the same change, and is open or its outcome still stands."""

    def __init__(self, sentence: str, number: int) -> None:
        super().__init__(sentence)
        self.number = number


def submit(campaign: Campaign, draft: Draft, *, by: Agent) -> Proposal:
    """Propose, for the same gates and queue as any other. ``draft`` has no problems (``reply.one``).

    Raises PermissionDenied, LostRace (the campaign takes no proposals now), Full, Repeated, or ValueError with what
    gates would refuse.
    """
    rights.check(by, rights.propose, campaign)
    files = _checked(campaign, draft)
    with transaction.atomic():
        moves.hold(campaign)  # two agents at once must not pass the limit together, nor with the same change
        campaign.refresh_from_db(fields=["state", "max_agent_open"])
        if campaign.state != "active":
            raise LostRace(f"{campaign.name} is {campaign.state}: it takes no proposals until a person resumes it")
        _check_room(campaign)
        earlier = patches.answered_by(draft, learn.precedents(campaign), files)
        if earlier is not None and not _takes_up(draft, earlier):
            what = earlier.outcome or earlier.state.replace("_", " ")
            raise Repeated(f"P-{earlier.number} made the same change and is {what}: change something", earlier.number)
        return drafting.write(campaign, draft, arm="agent", by=by)


def _checked(campaign: Campaign, draft: Draft) -> dict[str, str]:
    """The incumbent's files, against which the draft was checked.

    Outside of any transaction, as it reads the repository.
    """
    files = repository.files_at(campaign, campaign.incumbent.commit)
    if problems := refused_at_once.problems(draft, files, sandbox_level=campaign.sandbox_level):
        raise ValueError("; ".join(problems))
    return files


def _takes_up(draft: Draft, earlier: Precedent) -> bool:
    """Whether the draft takes up a rejected proposal and says what has changed since."""
    return draft.returns is not None and draft.returns.proposal == earlier.number and earlier.state == "rejected"


def num_open(campaign: Campaign) -> int:
    return campaign.proposals.filter(arm="agent", state__in=lifecycle.PROPOSAL_OPEN).count()


def _check_room(campaign: Campaign) -> None:
    if (count := num_open(campaign)) >= campaign.max_agent_open:
        raise Full(
            f"{campaign.name} has {count} open proposals of agents and takes {campaign.max_agent_open}: "
            "wait until people have decided"
        )


def answer(proposal_id: int, draft: Draft, *, digest: str, by: Agent) -> Revision:
    """The next revision of an agent's own proposal that a reviewer sent back.

    Raises PermissionDenied, LostRace (there is another revision, or the proposal is not sent back), or ValueError.
    """
    proposal = Proposal.objects.select_related("campaign").get(pk=proposal_id)
    rights.check(by, rights.edit, proposal)
    _checked(proposal.campaign, draft)
    with transaction.atomic():
        proposal = moves.locked(proposal_id)
        shown = edit.still_as_shown(proposal, proposal.revision.number, digest)
        if proposal.state != "changes_requested":
            raise LostRace(f"P-{proposal.pk} is {proposal.state.replace('_', ' ')}: no reviewer asks for changes")
        if replace(draft, precedents=()) == briefing.draft_of(shown):
            raise ValueError(f"nothing differs from revision {shown.number}: do what the reviewer asks for")
        comment = shown.decisions.filter(choice="request_changes").latest("pk").reason
        return edit.put(proposal, draft, by=by, answers=comment)
