"""What follows what: an event rings once it is committed, and the control worker knows every bell."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from research import lifecycle
from research.gates import process
from research.loop import follow, tasks
from research.models import Campaign, Revision, Run, Turn
from research.propose import drafting, turns
from research.record import moves
from research.review import decisions
from research.runs import dispatch
from tests import builders
from tests.conftest import Bells
from webapp.celery import app

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_bell_is_answered_and_every_state_is_one() -> None:
    app.loader.import_default_modules()
    bells = {bell for bell, _ in follow.AFTER.values()} - {"workers"}
    assert {app.tasks[bell].__module__ for bell in bells} == {tasks.__name__}
    tables = {"proposal": lifecycle.PROPOSAL, "run": lifecycle.RUN, "campaign": lifecycle.CAMPAIGN}
    moved = [kind.split(".") for kind in follow.AFTER if kind.partition(".")[0] in tables]
    assert [state for what, state in moved if state not in tables[what]] == []


def test_bob_approves_and_the_control_worker_makes_the_runs_not_his_request(bob: User, bells: Bells) -> None:
    proposal = builders.make_pending(builders.make_campaign())
    bells.clear()
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    assert bells == [("control.advance", (proposal.campaign_id,))]
    assert not Run.objects.filter(purpose="candidate").exists()
    bells.clear()
    tasks.advance(proposal.campaign_id)
    queued = Run.objects.filter(purpose="candidate").order_by("pk").values_list("pk", flat=True)
    assert bells == [("gpu_runner.ring", (run,)) for run in queued], "every run may wake a worker of its own"


def test_what_is_rolled_back_rings_nobody(bob: User, bells: Bells) -> None:
    proposal = builders.make_pending(builders.make_campaign())
    bells.clear()
    with transaction.atomic():
        decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
        transaction.set_rollback(True)
    assert bells == []


def test_a_queued_run_that_no_worker_came_for_rings_again_and_not_before(bells: Bells) -> None:
    campaign = builders.make_campaign()
    dispatch.advance(campaign)
    bells.clear()
    dispatch.advance(campaign)
    assert bells == []
    Run.objects.update(rung_at=Run.objects.earliest("pk").created_at - 2 * dispatch.RING_AGAIN_AFTER)
    dispatch.advance(campaign)
    assert [name for name, _ in bells] == ["gpu_runner.ring"]


def test_bob_resumes_and_the_campaign_goes_on_at_once(bob: User, bells: Bells) -> None:
    campaign = builders.make_campaign()
    moves.move_campaign(campaign, "paused", by=bob, reason="a look")
    assert bells == []
    moves.move_campaign(campaign, "active", by=bob, reason="seen")
    assert bells == [("control.look_after", (campaign.pk,))]


def test_a_second_look_of_the_gates_that_ends_late_changes_nothing_any_more(bells: Bells) -> None:
    campaign = builders.make_campaign()
    early = builders.make_proposal(campaign)
    process.check(early.revision)
    late = Revision.objects.select_related("proposal__campaign").get(proposal=early)
    late.proposal.state = "checking"  # as it was when the second one began
    builders.finish(builders.claim(builders.make_worker()), val_bpb=5.0)
    found = list(early.revision.gates.values())
    process.recheck(late)
    early.refresh_from_db()
    assert early.state == "pending_review"
    assert list(early.revision.gates.values()) == found, "what bob reads stays what was found"


def test_who_waited_for_a_turn_to_ask_looks_again_whether_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, begin = builders.make_campaign(), turns.begin

    def after_somebody_else(mine: Campaign) -> object:
        Turn.objects.update(retry_at=timezone.now() + timedelta(hours=1))
        return begin(mine)

    monkeypatch.setattr(turns, "begin", after_somebody_else)
    assert drafting.top_up(campaign) == []
    assert not campaign.proposals.exists()
    campaign.refresh_from_db()
    assert turns.of(campaign).taken_at is None
