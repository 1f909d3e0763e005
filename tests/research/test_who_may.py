"""Every verb asks who acts: whoever has not the right to it is refused in a sentence, and nothing changes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from research import lifecycle
from research.begin import checklist
from research.change.drafts import Draft
from research.gates import overridden, process
from research.models import Campaign, Proposal, Run, Score
from research.propose import drafting, histories, notes
from research.record import campaigns, chain, kinds, moves, rights
from research.record.rights import DISPATCH, Actor, Agent, Part
from research.review import decisions, edit, outside, override, quarantined
from research.runs import dispatch, ending, remeasure, workers
from tests import builders
from tests.history.tables import make_reading
from webapp.api import tokens
from webapp.beginning import steering
from webapp.models import AgentToken
from webapp.notify import deliver, outbox
from webapp.notify.models import KINDS, Delivery, Endpoint

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
SCOUT = Agent(name="scout", campaign=None, may_propose=True)
READER = Agent(name="scout", campaign=None, may_propose=False)
SIGNED = kinds.Overridden(digest="", gates=[], reason="", decision=0)


class Scene:
    """A campaign with something in it for every verb. Root administers: has every right, and wrote nothing."""

    def __init__(self) -> None:
        self.root = User.objects.create_superuser("root")
        self.campaign = builders.make_campaign()
        self.pending = builders.make_pending(self.campaign)
        self.blocked = builders.make_blocked(self.campaign)
        self.sent_back = self._sent_back()
        self.doubted, self.live, self.queued = self._runs()
        self.note = notes.note(self.campaign, "Look at attention.", by=self.root)
        self.imported = histories.bring(self.campaign, make_reading("f6071e2\t1.6\t1\tkeep\tolder"), by=self.root)
        self.paused = builders.make_campaign(slug="paused")
        moves.move_campaign(self.paused, "paused", by=self.root, reason="a look")
        self.worker = builders.make_worker()
        tokens.make("scout", campaign=self.campaign, by=self.root)
        self.token = AgentToken.objects.get()
        self.endpoint = Endpoint.objects.create(description="Tracker", url="https://t.example/", kinds=list(KINDS))
        self.off = Endpoint.objects.create(description="Off", url="https://o.example/", kinds=[], enabled=False)
        self.delivery = outbox.put_test(self.endpoint, by=self.root)
        Delivery.objects.update(state="failed")

    def as_it_was(self) -> None:
        """What is held in hand, too, once the database is."""
        for row in vars(self).values():
            row.refresh_from_db()

    def _sent_back(self) -> Proposal:
        """What an agent proposed, and a reviewer asks changes of."""
        proposal = builders.pass_gates(outside.submit(self.campaign, draft(0.3), by=SCOUT))
        self.decide(proposal, "request_changes", by=self.root)
        return Proposal.objects.get(pk=proposal.pk)

    def _runs(self) -> tuple[Run, Run, Run]:
        """Of the incumbent: one whose score waits for a person, one that a worker has, and one that nobody has."""
        dispatch.advance(self.campaign)
        leases = [builders.claim(builders.make_worker()) for _ in range(2)]
        assert leases[0] is not None and leases[1] is not None
        doubted = builders.finish(leases[0], val_bpb=1.6)
        Score.objects.filter(run=doubted).update(outcome="quarantined")
        return doubted, Run.objects.get(pk=leases[1].spec.run_id), Run.objects.get(state="queued")

    def decide(self, proposal: Proposal, choice: str, *, by: User) -> None:
        digest = proposal.revision.digest
        decisions.decide(proposal.pk, digest=digest, choice=choice, category="later", reason="Not like this.", by=by)

    def sign(self, by: User) -> None:
        revision = self.blocked.revision
        sha256 = overridden.sha256_of(overridden.failed(revision))
        override.sign(self.blocked.pk, digest=revision.digest, gates_sha256=sha256, reason="It is wrong.", by=by)

    def edit(self, by: User) -> None:
        revision = self.pending.revision
        edit.edit(self.pending.pk, draft(0.2), number=revision.number, digest=revision.digest, by=by)

    def answer(self, by: Agent) -> None:
        outside.answer(self.sent_back.pk, draft(0.2), digest=self.sent_back.revision.digest, by=by)

    def move(self, proposal: Proposal, new: str, by: Actor) -> None:
        moves.move_proposal(proposal, new, by=by, sentence="It moves", payload=said(new))


def said(new: str) -> kinds.Payload:
    """What the event of a move to ``new`` has to say."""
    decided = kinds.Decided(digest="", reason="", decision=0)
    return decided if kinds.Decided in kinds.PROPOSAL[new].shapes else {}


def draft(value: float) -> Draft:
    return builders.make_draft(title=f"Warm up for {value}", overrides=(builders.make_override(value=value),))


Verb = Callable[[Scene, Any], object]
# module.function -> how it is called. Whoever writes another one that somebody can call adds it here.
PEOPLE: dict[str, Verb] = {
    "research.review.decisions.decide": lambda scene, by: scene.decide(scene.pending, "approve", by=by),
    "research.review.override.sign": Scene.sign,
    "research.review.override.check_again": lambda scene, by: override.check_again(scene.blocked.pk, by=by),
    "research.review.override.withdraw": lambda scene, by: override.withdraw(scene.pending.pk, reason="Old.", by=by),
    "research.review.quarantined.resolve": lambda scene, by: quarantined.resolve(
        scene.doubted.pk, choice="accept", reason="Seen.", by=by
    ),
    "research.review.edit.edit": Scene.edit,
    "research.review.edit.put": lambda scene, by: edit.put(scene.pending, draft(0.2), by=by),
    "research.gates.process.go_on": lambda scene, by: process.go_on(
        scene.blocked.revision, by=by, sentence="On.", payload=SIGNED, rows=[]
    ),
    "research.propose.drafting.by_hand": lambda scene, by: drafting.by_hand(scene.campaign, draft(0.4), by=by),
    "research.propose.drafting.write": lambda scene, by: drafting.write(scene.campaign, draft(0.4), arm="human", by=by),
    "research.propose.notes.note": lambda scene, by: notes.note(scene.campaign, "And at heads.", by=by),
    "research.propose.notes.retire": lambda scene, by: notes.retire(scene.campaign, scene.note.pk, by=by),
    "research.propose.histories.bring": lambda scene, by: histories.bring(scene.campaign, make_reading(), by=by),
    "research.propose.histories.archive": lambda scene, by: histories.archive(scene.campaign, scene.imported.pk, by=by),
    "research.record.campaigns.create": lambda scene, by: builders.make_campaign(slug="third", by=by),
    "research.record.campaigns.clone": lambda scene, by: campaigns.clone(scene.campaign, slug="third", by=by),
    "research.begin.checklist.try_out": lambda scene, by: checklist.try_out(scene.campaign, by=by),
    "research.runs.ending.archive": lambda scene, by: ending.archive(scene.campaign, by=by, reason="Done."),
    "webapp.beginning.steering.steer": lambda scene, by: steering.steer(
        scene.campaign, "paused", by=by, reason="Soon."
    ),
    "research.record.campaigns.change": lambda scene, by: campaigns.change(scene.campaign, by=by, num_waiting=1),
    "research.record.moves.move_campaign": lambda scene, by: moves.move_campaign(
        scene.campaign, "paused", by=by, reason="a look"
    ),
    "research.record.moves.move_proposal": lambda scene, by: scene.move(scene.pending, "approved", by),
    "research.record.moves.move_run": lambda scene, by: moves.move_run(
        scene.queued, "cancelled", by=by, sentence="It is cancelled"
    ),
    "research.record.moves.move_score": lambda scene, by: moves.move_score(
        scene.doubted, "ok", by=by, sentence="It counts", choice="accept", reason="Seen."
    ),
    "research.runs.ending.stop_run": lambda scene, by: ending.stop_run(
        scene.live, kind=lifecycle.Stop.PERSON, by=by, reason="flat"
    ),
    "research.runs.ending.cancel_queued": lambda scene, by: ending.cancel_queued(
        scene.pending.revision, by=by, reason="old"
    ),
    "research.runs.ending.halt": lambda scene, by: ending.halt(scene.campaign, by=by, reason="wrong corpus"),
    "research.runs.ending.resume": lambda scene, by: ending.resume(scene.paused, by=by, reason="seen"),
    "research.runs.remeasure.set_aside": lambda scene, by: remeasure.set_aside(scene.campaign, by=by),
    "research.runs.workers.enrol": lambda scene, by: workers.enrol("box-2", by=by),
    "research.runs.workers.switch": lambda scene, by: workers.switch(scene.worker, False, by=by),
    "webapp.api.tokens.make": lambda scene, by: tokens.make("eye", campaign=scene.campaign, by=by),
    "webapp.api.tokens.revoke": lambda scene, by: tokens.revoke(scene.token, by=by),
    "webapp.notify.deliver.switch_off": lambda scene, by: deliver.switch_off(scene.endpoint, "Enough.", by=by),
    "webapp.notify.deliver.switch_on": lambda scene, by: deliver.switch_on(scene.off, by=by),
    "webapp.notify.deliver.rotate": lambda scene, by: deliver.rotate(scene.endpoint, by=by),
    "webapp.notify.deliver.replay": lambda scene, by: deliver.replay(scene.delivery, by=by),
    "webapp.notify.outbox.put_test": lambda scene, by: outbox.put_test(scene.endpoint, by=by),
}
AGENTS: dict[str, Verb] = {
    "research.review.outside.submit": lambda scene, by: outside.submit(scene.campaign, draft(0.4), by=by),
    "research.review.outside.answer": Scene.answer,
}
HOUSE: dict[str, Verb] = {
    "research.runs.ending.give_back": lambda scene, by: ending.give_back(scene.live, by=by, why="it is silent"),
    "research.record.chain.begin": lambda scene, by: chain.begin("It begins anew", by=by),
}


@pytest.fixture
def scene(db: None) -> Scene:
    return Scene()


@pytest.fixture
def former(db: None) -> User:
    """Has every right but is no member any more."""
    user = User.objects.create(username="former")
    user.user_permissions.set(Permission.objects.all())
    return user


def everything() -> dict[str, list[Any]]:
    """All rows of the database."""
    return {model._meta.label: list(model._base_manager.order_by("pk").values()) for model in apps.get_models()}


@contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def refused(scene: Scene, name: str, verb: Verb, actors: list[Any]) -> None:
    before = everything()
    for actor in actors:
        with pytest.raises(PermissionDenied, match=r"\w{3,}"):
            verb(scene, actor)
    assert everything() == before, name


def test_nobody_does_what_they_have_no_right_to_and_nothing_changes(
    scene: Scene, alice: User, charlie: User, former: User
) -> None:
    strangers = [charlie, former, alice, "user:root", None]
    for name, verb in PEOPLE.items():
        agents = [READER] if name.endswith(".drafting.write") else [SCOUT, READER]
        refused(scene, name, verb, [*strangers, *agents])
    elsewhere = [Agent(name="scout", campaign=scene.paused.pk, may_propose=True), READER]
    for name, verb in AGENTS.items():
        refused(scene, name, verb, [*strangers, *elsewhere])
    for name, verb in HOUSE.items():
        refused(scene, name, verb, [*strangers, SCOUT, scene.root])


def test_whoever_has_the_right_does_it(scene: Scene) -> None:
    may: list[tuple[dict[str, Verb], Any]] = [(PEOPLE, scene.root), (AGENTS, SCOUT), (HOUSE, Part("test"))]
    for verbs, actor in may:
        for name, verb in verbs.items():
            before = everything()
            with undone():
                verb(scene, actor)
                assert everything() != before or name.endswith(("cancel_queued", "set_aside")), name
            scene.as_it_was()


def test_whoever_begins_a_campaign_stands_on_it(db: None) -> None:
    root = User.objects.create_superuser("root")
    campaign = builders.make_campaign(by=root)
    assert Campaign.objects.get(created_by=root) == campaign
    assert campaign.events.get(kind="campaign.created").by == "user:root"


def test_another_agent_answers_nothing_that_scout_proposed(scene: Scene) -> None:
    stranger = Agent(name="eye", campaign=None, may_propose=True)
    with pytest.raises(PermissionDenied, match="is not of the agent eye: only its own can be revised"):
        scene.answer(stranger)


def test_no_verb_that_forgets_to_ask_gets_a_proposal_moved(scene: Scene, alice: User) -> None:
    for new in lifecycle.PROPOSAL:
        for actor in (alice, SCOUT):
            with pytest.raises(PermissionDenied):
                scene.move(scene.pending, new, actor)
    assert Proposal.objects.get(pk=scene.pending.pk).state == "pending_review"


def test_no_part_of_the_house_decides_for_people(scene: Scene) -> None:
    for new in ("approved", "rejected", "changes_requested"):
        with pytest.raises(PermissionDenied, match="Decisions need the reviewer role"):
            scene.move(scene.pending, new, DISPATCH)


def test_bob_steers_and_sets_the_pace_but_not_what_a_result_means(scene: Scene, bob: User) -> None:
    campaigns.change(scene.campaign, by=bob, num_waiting=7)
    for settings in ({"alpha": 0.2}, {"num_waiting": 8, "budget_usd": 3}):
        with pytest.raises(PermissionDenied, match="Setting goal, budget and policy"):
            campaigns.change(scene.campaign, by=bob, **settings)
    with pytest.raises(ValueError, match="dataset: is fixed when a campaign begins"):
        campaigns.change(scene.campaign, by=scene.root, dataset="other")
    there = Campaign.objects.get(pk=scene.campaign.pk)
    assert (there.num_waiting, there.alpha, there.budget_usd) == (7, 0.05, None)


def test_what_stands_in_an_event_says_who_it_was() -> None:
    assert rights.name_of(User(username="mira")) == "user:mira"
    assert rights.name_of(SCOUT) == "agent:scout"
    assert rights.name_of(rights.proposer("claude")) == "proposer:claude"
    assert rights.name_of(rights.worker(None)) == "worker:gone"


def test_what_an_account_holds_is_asked_in_one_place() -> None:
    asking = {
        path.relative_to(ROOT).as_posix()
        for package in ("research", "webapp")
        for path in (ROOT / package).rglob("*.py")
        if {"has_perm", "has_perms", "with_perm", "is_staff"} & attributes(path) and "migrations" not in path.parts
    }
    assert asking == {"research/record/rights.py"}


def attributes(path: Path) -> set[str]:
    return {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}


# --- nobody can forget it -------------------------------------------------------------------------

ACTORS = {"Actor", "User", "Agent", "Part"}
# Public functions that write events and take nobody who acts, room by room: what the loop does by its own rules, what
# a machine does under its lease, and signing in.
BY_ITSELF = {
    "research.gates.process": "check recheck after_smoke",
    "research.judge.judge": "consider write_verdict",
    "research.loop.reconcile": "look_after",
    "research.propose.drafting": "revise rebase",
    "research.propose.turns": "begin answer_of note_answer",
    "research.record.learn": "record",
    "research.record.ledger": "charge_run enter write_off charge_claude enter_usage",
    "research.record.moves": "bind",
    "research.record.repairs": "repair",
    "research.runs.dispatch": "advance pause_in_doubt queue",
    "research.runs.ending": "pause_for_baseline",
    "research.runs.leasing": "claim",
    "research.runs.report": "accept end",
    "webapp.pages.accounts.links": "redeem",
}


def functions() -> Iterator[tuple[str, ast.FunctionDef, dict[str, ast.FunctionDef]]]:
    """module.function, itself, and all of its module's by name; without views, which hand over whom they answer."""
    for package in ("research", "webapp"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            tree = ast.parse(path.read_text())
            own = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name, node in own.items():
                if not name.startswith("_") and "request" not in [given.arg for given in node.args.args]:
                    yield f"{module}.{name}", node, own


def takes(node: ast.FunctionDef) -> bool:
    """Does it take who acts?"""
    given = [*node.args.args, *node.args.kwonlyargs]
    return any(a.arg == "by" and a.annotation is not None and ast.unparse(a.annotation) in ACTORS for a in given)


def writes(node: ast.FunctionDef, own: dict[str, ast.FunctionDef], seen: frozenset[str] = frozenset()) -> bool:
    """Does it move something or write an event, itself or by private functions of its module?"""
    for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
        called = ast.unparse(call.func)
        if called.startswith("moves.move_") or called == "events.record":
            return True
        inner = own.get(called)
        if called.startswith("_") and inner is not None and called not in seen and writes(inner, own, seen | {called}):
            return True
    return False


def test_a_verb_that_takes_who_acts_is_in_the_tables_above() -> None:
    taking = {name for name, node, _ in functions() if takes(node) and not name.startswith("research.record.rights.")}
    assert taking - {"research.review.decisions.waiting_for"} == PEOPLE.keys() | AGENTS.keys() | HOUSE.keys()


def test_what_writes_events_takes_who_acts_or_is_done_by_the_loop_itself() -> None:
    writing = {name for name, node, own in functions() if writes(node, own) and not takes(node)}
    assert writing == {f"{module}.{name}" for module, names in BY_ITSELF.items() for name in names.split()}
