"""Whose turn it is to ask: a row per campaign and arm, which takes over what an older version knew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps.registry import Apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from research.models import Turn
from research.propose import turns
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)
NOW = timezone.now()
BATCH = {"id": "msgbatch_1", "num_wanted": 3, "usd_at_most": "0.52"}
NONE = {
    "proposing_since": None, "proposer_retry_at": None, "proposer_problem": "", "num_problems": 0, "batch": None,
    "batch_problem": "",
}  # fmt: skip
CARRIED = {
    "retry_at": "proposer_retry_at", "problem": "proposer_problem", "num_problems": "num_problems", "batch": "batch",
    "batch_problem": "batch_problem", "taken_at": "proposing_since",
}  # fmt: skip


def migrated(name: str) -> Apps:
    executor = MigrationExecutor(connection)
    executor.migrate([("research", name)])
    return MigrationExecutor(connection).loader.project_state([("research", name)]).apps


@pytest.fixture
def before() -> Iterator[Apps]:
    """A database of the version before."""
    yield migrated("0017_watched")
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def campaign_of(apps: Apps, slug: str, **over: Any) -> Any:
    fields = {"dataset_sha256": "d" * 64, "run_budget_amount": 1.0, "slug": slug, "name": slug} | NONE | over
    return apps.get_model("research", "Campaign").objects.create(**fields)


def test_what_a_campaign_knew_of_its_proposer_is_carried_over_and_back(before: Apps) -> None:
    asked = {
        "proposing_since": NOW, "proposer_retry_at": NOW + timedelta(minutes=4), "batch": BATCH,
        "proposer_problem": "Claude's answer is not JSON.", "batch_problem": "It answers 529.", "num_problems": 3,
    }  # fmt: skip
    claude, quiet = campaign_of(before, "claude", **asked), campaign_of(before, "quiet")
    offline = campaign_of(before, "offline", proposer_problem="Nothing is left in the catalogue.", num_problems=1)
    before.get_model("research", "Wave").objects.create(campaign_id=offline.pk, arm="offline")

    migrated("0019_turns_apart")
    assert not Turn.objects.filter(campaign=quiet.pk).exists()
    (turn,) = Turn.objects.filter(campaign=claude.pk)
    assert turn.arm == "claude"
    assert {name: getattr(turn, name) for name in CARRIED} == {name: asked[was] for name, was in CARRIED.items()}
    turn = Turn.objects.get(campaign=offline.pk)
    assert (turn.arm, turn.problem, turn.num_problems) == ("offline", "Nothing is left in the catalogue.", 1)

    again = migrated("0017_watched").get_model("research", "Campaign").objects
    assert again.filter(pk=claude.pk).values(*asked).get() == asked
    assert again.filter(pk=quiet.pk).values(*NONE).get() == NONE


def test_one_arm_is_asked_while_another_answers(settings: Any) -> None:
    campaign = builders.make_campaign()
    settings.ANTHROPIC_CONFIGURED = True
    claudes = turns.begin(campaign)
    assert claudes is not None and turns.begin(campaign) is None, "each by one caller at a time"
    settings.ANTHROPIC_CONFIGURED = False
    catalogues = turns.begin(campaign)
    assert catalogues is not None
    turns.end(catalogues)
    free = dict(Turn.objects.values_list("arm", "taken_at"))
    assert free == {"claude": claudes.taken_at, "offline": None}


def test_a_page_tells_of_the_arm_that_is_asked_and_of_batches_that_are_paid_for(settings: Any) -> None:
    campaign = builders.make_campaign()
    settings.ANTHROPIC_CONFIGURED = True
    Turn.objects.filter(pk=turns.of(campaign).pk).update(problem="Claude's answer is not JSON.")
    assert [turn.problem for turn in turns.shown(campaign)] == ["Claude's answer is not JSON."]
    settings.ANTHROPIC_CONFIGURED = False
    assert turns.shown(campaign) == [], "nobody asks Claude any more"
    Turn.objects.update(batch=BATCH)
    assert [turn.arm for turn in turns.shown(campaign)] == ["claude"]
