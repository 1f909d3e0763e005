"""Who may do what: one function for each right. Verbs ask here, and so do pages that show a button.

An actor is a person (the account), an agent (its token's scope), or a part of the house, which acts by the rules
of the loop or for the operator of this machine. A right is a function ``(by, on) -> str``: why ``by`` may not do
this to ``on``, empty where they may. ``on`` None asks whether ``by`` may do it anywhere at all.

    check(by, steer, campaign)       # in a verb: raises PermissionDenied
    may(user, steer, campaign)       # in a page: is the button shown?

Only ``_holds`` reads the permissions of accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from research.models import Campaign, Event, Proposal, Revision, Run, Worker
from research.record import kinds


class Part(str):
    """A part of the house, by the name that ``Event.by`` has for it."""

    __slots__ = ()


AUDIT = Part("audit")
COMMAND_LINE = Part("command line")  # whoever has this machine's shell: the operator
DISPATCH = Part("dispatch")
GATES = Part("gates")
JUDGE = Part("judge")
LEARN = Part("learn")
LEDGER = Part("ledger")
PROPOSER = Part("proposer")
RECONCILE = Part("reconcile")


@dataclass(frozen=True, kw_only=True)
class Agent:
    """An outside program with its token's scope. It never decides, and is no account that could be an author."""

    name: str
    campaign: int | None  # the only one that it sees; None: every one
    may_propose: bool
    may_begin: bool = False  # campaigns, which wait as planned for a person to start them


Actor = User | Agent | Part
T = TypeVar("T")
Right = Callable[[Actor, T], str]


def check(by: Actor, right: Right[T], on: T) -> None:
    """Raises PermissionDenied, in a sentence, unless ``by`` may do this to ``on``."""
    if why := right(by, on):
        raise PermissionDenied(why)


def may(by: Actor, right: Right[T], on: T) -> bool:
    return not right(by, on)


def name_of(by: Actor) -> str:
    """The actor's name in ``Event.by``: ``user:mira``, ``agent:scout``, ``judge``."""
    if isinstance(by, User):
        return f"user:{by.get_username()}"
    return f"agent:{by.name}" if isinstance(by, Agent) else str(by)


def in_words(by: Actor) -> str:
    """The actor's name for the beginning of a sentence."""
    if isinstance(by, User):
        return by.get_full_name() or by.get_username()
    return f"The agent {by.name}" if isinstance(by, Agent) else str(by)


def worker(its: Worker | None) -> Part:
    """The actor for a machine that holds a lease; its row may have been removed since."""
    return Part(f"worker:{its.name if its else 'gone'}")


def proposer(arm: str) -> Part:
    return Part(f"{PROPOSER}:{arm}")


# --- what an account holds ------------------------------------------------------------------------


def is_member(user: User | AnonymousUser) -> bool:
    """Whether ``user`` is a member of this workspace, and so sees all of it. Only members do anything in it."""
    return user.is_active and user.is_staff


def _holds(by: Actor, *permissions: str) -> bool:
    """Whether ``by`` holds one of ``permissions``. Parts of the house hold all, agents none."""
    if isinstance(by, User):
        return is_member(by) and any(map(by.has_perm, permissions))
    return isinstance(by, Part)


def _needs(by: Actor, permission: str, refusal: str) -> str:
    return "" if _holds(by, permission) else refusal


# --- proposals ------------------------------------------------------------------------------------


def propose(by: Actor, campaign: Campaign | None) -> str:
    """Propose an experiment, which goes into the gates."""
    if isinstance(by, Agent):
        return _agent_may_propose(by, campaign)
    refusal = "Proposing needs the researcher role. An administrator can give it to you."
    return _needs(by, "research.add_proposal", refusal)


def propose_by_hand(by: Actor, campaign: Campaign | None) -> str:
    """Propose as a person, who becomes its author."""
    return propose(by, campaign) if isinstance(by, User) else "Only people propose by hand."


def _agent_may_propose(by: Agent, campaign: Campaign | None) -> str:
    if not by.may_propose:
        return f"scope: the token of {by.name} may only read; make one with the scope propose"
    if campaign is not None and by.campaign not in (None, campaign.pk):
        return f"campaign: the token of {by.name} is not for {campaign.name}"
    return ""


def edit(by: Actor, proposal: Proposal | None) -> str:
    """Give a proposal its next revision, as its author. Agents may only revise their own proposals."""
    if isinstance(by, Agent):
        return _agent_may_edit(by, proposal)
    if _holds(by, "research.add_proposal", "research.add_decision"):
        return ""
    return "Editing a proposal needs the researcher or the reviewer role."


def _agent_may_edit(by: Agent, proposal: Proposal | None) -> str:
    if why := _agent_may_propose(by, None if proposal is None else proposal.campaign):
        return why
    if proposal is None or _is_own(by, proposal):
        return ""
    return f"P-{proposal.pk} is not of the agent {by.name}: only its own can be revised"


def _is_own(by: Agent, proposal: Proposal) -> bool:
    """As the sealed event says, since a row beside it could be added by hand."""
    first = Event.objects.filter(kind=kinds.PROPOSAL["drafted"], proposal=proposal).order_by("pk").first()
    return first is not None and first.by == name_of(by)


def decide(by: Actor, proposal: Proposal | None) -> str:
    """Approve, reject or send back: reviewers only, and no author of any part of it."""
    if not isinstance(by, User) or not _holds(by, "research.add_decision"):
        return "Decisions need the reviewer role."
    if proposal is not None and by.pk in authors_of(proposal):
        return "Nobody decides on their own proposal."
    return ""


def override(by: Actor, proposal: Proposal) -> str:
    """Move a proposal on to review: the gates may, and so may two people who may decide on it, against the gates."""
    return "" if isinstance(by, Part) else decide(by, proposal)


def check_again(by: Actor, proposal: Proposal) -> str:
    """Send a blocked proposal through the gates again."""
    if _holds(by, "research.add_proposal", "research.add_decision"):
        return ""
    return "Having gates look again needs the researcher role."


def withdraw(by: Actor, proposal: Proposal) -> str:
    """Withdraw a proposal and stop its runs: its author, or a reviewer."""
    if isinstance(by, User) and is_member(by) and by.pk == proposal.author_id:
        return ""
    return _needs(by, "research.add_decision", "Withdrawing somebody else's proposal needs the reviewer role.")


def authors_of(proposal: Proposal) -> set[int]:
    """Accounts that wrote any part of ``proposal``: none of them decides on it."""
    wrote = {proposal.author_id, *proposal.revisions.values_list("author", flat=True)}
    return {number for number in wrote if number is not None}


def is_of(person: User) -> Q:
    """A filter on Proposal: those of which ``person`` wrote any part. ``authors_of`` as a query."""
    wrote = Revision.objects.filter(proposal=OuterRef("pk"), author=person)
    return Q(Q(author=person) | Q(Exists(wrote)))


def decidable(by: User) -> QuerySet[Proposal]:
    """All proposals on which ``by`` may decide. ``decide`` as a query."""
    if not may(by, decide, None):
        return Proposal.objects.none()
    return Proposal.objects.exclude(is_of(by))


def num_deciders(without: set[int]) -> int:
    """How many members may decide, without those in ``without``."""
    reviewers = User.objects.with_perm("research.add_decision", backend="django.contrib.auth.backends.ModelBackend")
    return reviewers.filter(is_staff=True).exclude(pk__in=without).count()


# --- campaigns and runs ---------------------------------------------------------------------------


def begin(by: Actor, _: None) -> str:
    if isinstance(by, Agent):
        return (
            "" if by.may_begin else f"scope: the token of {by.name} begins no campaigns; make one with the scope begin"
        )
    return _needs(by, "research.add_campaign", "Beginning a campaign needs the right to add campaigns.")


def steer(by: Actor, campaign: Campaign | None) -> str:
    """Pause, resume or halt a campaign."""
    return _needs(by, "research.steer_campaign", "Pausing and halting a campaign needs the right to steer it.")


def try_out(by: Actor, campaign: Campaign | None) -> str:
    """Let a few steps of the incumbent run, to see whether a campaign can start."""
    if _holds(by, "research.steer_campaign", "research.add_campaign"):
        return ""
    return "Trying a campaign out needs the right to steer or to add campaigns."


def write_notes(by: Actor, campaign: Campaign | None) -> str:
    return _needs(by, "research.steer_campaign", "Steering notes need the right to steer campaigns.")


def import_history(by: Actor, campaign: Campaign | None) -> str:
    """Bring experiments of another loop into a campaign, where proposers read them, and take them out again."""
    if _holds(by, "research.steer_campaign", "research.change_campaign"):
        return ""
    return "Importing past experiments needs the right to steer or to change campaigns."


def set_pace(by: Actor, campaign: Campaign | None) -> str:
    """Set how many proposals wait for people, and how they are asked for."""
    if _holds(by, "research.steer_campaign", "research.change_campaign"):
        return ""
    return "Setting the pace of a campaign needs the right to steer or to change it."


def set_policy(by: Actor, campaign: Campaign | None) -> str:
    """Set a campaign's goal, budget and policy."""
    refusal = "Setting goal, budget and policy needs the right to change campaigns."
    return _needs(by, "research.change_campaign", refusal)


def stop(by: Actor, run: Run | None) -> str:
    return _needs(by, "research.steer_campaign", "Stopping a run needs the right to steer campaigns.")


def cancel(by: Actor, run: Run) -> str:
    """Stop a run: with the right to steer or, for a candidate, to withdraw its proposal."""
    if run.purpose == "candidate" and run.revision is not None and may(by, withdraw, run.revision.proposal):
        return ""
    return stop(by, run)


def resolve(by: Actor, run: Run) -> str:
    """Say what a quarantined score counts for: whoever may decide on the change that was measured."""
    if not isinstance(by, User) or not _holds(by, "research.add_decision"):
        return "Deciding on a score needs the reviewer role."
    measured = run.revision.proposal if run.revision else run.incumbent.proposal
    return "" if measured is None else decide(by, measured)


# --- the house ------------------------------------------------------------------------------------


def only_the_house(by: Actor, _: Model | None) -> str:
    """A move that follows from the rules of the loop, or that the operator makes on this machine."""
    return "" if isinstance(by, Part) else "Nobody does this by hand: it follows from the rules of the loop."


def enrol_workers(by: Actor, _: None) -> str:
    return _needs(by, "research.add_worker", "Enrolling a GPU machine needs the right to add workers.")


def switch_workers(by: Actor, its: Worker | None) -> str:
    return _needs(by, "research.change_worker", "Switching a worker off or on needs the right to change workers.")


def keep_tokens(by: Actor, campaign: Campaign | None) -> str:
    """Make and revoke tokens of agents, in ``campaign`` or everywhere."""
    return _needs(by, "webapp.add_agenttoken", "Tokens of agents need the right to add them.")


def keep_webhooks(by: Actor, endpoint: Model | None) -> str:
    return _needs(by, "notify.change_endpoint", "Webhooks need the right to change endpoints.")
