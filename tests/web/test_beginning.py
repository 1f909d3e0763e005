"""dana begins, checks, changes, clones and archives campaigns on the page; alice, who may not, reads why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from research.begin import checklist
from research.models import Campaign, Event, Proposal, Run, Worker
from research.record import approval
from research.review import decisions
from tests import builders
from tests.web.people import browser_of, text_of

pytestmark = pytest.mark.django_db
SHA = "d" * 64
NEW = {
    "recipe": "gpt", "recipe_commit": "", "name": "Tonight", "slug": "", "goal": "Fewer bits per byte.",
    "program": "Learning rates first.\r\nThen attention.", "dataset": "stdlib", "run_budget_kind": "tokens",
    "run_budget_amount": "655360", "metric": "val_bpb", "metric_unit": "", "direction": "lower", "target_bpb": "",
    "judges_self_reported": "False", "sandbox_level": "bubblewrap", "hardware_class": "", "budget_gpu_hours": "8",
    "budget_usd": "", "usd_per_gpu_hour": "2", "min_pairs": "3", "max_pairs": "6", "alpha": "0.05",
    "min_effect_bpb": "0.005", "approval_ttl_h": "24", "deadline_s": "600", "num_waiting": "3", "max_agent_open": "6",
    "in_batches": "False",
}  # fmt: skip


@pytest.fixture
def dana(db: None) -> User:
    """Leads the team: begins campaigns, sets their policy, steers them."""
    user = User.objects.create(username="dana", first_name="Dana", is_staff=True, password=builders.password_hash())
    codenames = ("add_campaign", "change_campaign", "steer_campaign", "add_proposal")
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return user


@pytest.fixture
def danas_browser(dana: User) -> Client:
    return browser_of(dana)


@pytest.fixture
def box(db: None) -> Worker:
    """A worker that was heard of just now, and has the corpus."""
    return builders.make_worker(
        hardware_class="cpu-x86_64", sandbox_level="bubblewrap", lock_sha256=approval.lock_sha256(),
        datasets={"stdlib": SHA}, hardware={"memory_mib": 8_000}, seen_at=timezone.now(),
    )  # fmt: skip


def words_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_dana_begins_a_campaign_planned_and_what_is_left_out_is_filled_in(danas_browser: Client, box: Worker) -> None:
    page = text_of(danas_browser, "/campaigns/new/")
    assert 'name="run_budget_amount" value="655360"' in page, "the recipe recommends it"
    assert 'name="dataset" value="stdlib"' in page, "the worker has it"
    assert '<option value="cpu-x86_64">' in page, "and is of this class"
    answer = danas_browser.post("/campaigns/new/", NEW | {"plan": "1"})
    assert answer["Location"] == "/campaigns/tonight/check/", answer.content.decode()[-3000:]
    campaign = Campaign.objects.get(slug="tonight")
    assert (campaign.state, campaign.dataset_sha256, campaign.recipe) == ("planned", SHA, "gpt")
    assert campaign.program == "Learning rates first.\nThen attention."
    assert campaign.programs.get().by == campaign.created_by
    assert Event.objects.get(kind="campaign.created").by == "user:dana"
    assert danas_browser.post("/campaigns/tonight/state/", {"state": "active"}).status_code == 302
    assert danas_browser.post("/campaigns/new/", NEW | {"name": "Morning", "start": "1"}).status_code == 302
    assert {one.state for one in Campaign.objects.all()} == {"active"}


def test_every_number_says_what_it_costs_while_it_is_typed(danas_browser: Client, box: Worker) -> None:
    seconds = NEW | {"run_budget_kind": "seconds", "run_budget_amount": "300"}
    said = words_of(danas_browser.post("/campaigns/new/costs/", seconds).content.decode())
    assert "A night of 8 h on one machine: about 91 runs, 14 to 29 verdicts." in said
    assert "A run takes about 5.2 min (its budget, with 15 s beside the training)." in said
    assert "a run costs about $0.18; the GPU-hours $16.00 together" in said.lower().replace("gpu-hours", "GPU-hours")
    assert "The first verdict takes 6 to 12 runs" in said
    long = words_of(danas_browser.post("/campaigns/new/costs/", seconds | {"deadline_s": "100"}).content.decode())
    assert "every run would be ended" in long
    tokens = words_of(danas_browser.post("/campaigns/new/costs/", NEW).content.decode())
    assert "not known before its first five steps" in tokens, "nothing was measured here, so nothing is claimed"
    wrong = danas_browser.post("/campaigns/new/costs/", NEW | {"run_budget_amount": "x"})
    assert "Say the budget of a run first" in wrong.content.decode()


FOREIGN = """\
[recipe]
name = "nano"
about = "A trainer of somebody's."
kind = "command"
editable = ["go.py"]
budget_seconds = 60.0
[command]
run = ["{python}", "go.py"]
[metrics]
reader = "json_lines"
metric = "accuracy"
unit = "percent"
direction = "higher"
"""


def test_reading_a_recipe_of_her_own_fills_in_what_it_says_and_keeps_what_she_typed(
    danas_browser: Client, box: Worker, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(FOREIGN)
    (tmp_path / "go.py").write_text("print()\n")
    typed = NEW | {"recipe": str(tmp_path), "name": "Hers", "alpha": "0.1"}
    page = danas_browser.post("/campaigns/new/", typed | {"read": "1"}).content.decode()
    for name, value in {"name": "Hers", "alpha": "0.1", "run_budget_amount": "60", "metric": "accuracy"}.items():
        assert f'name="{name}" value="{value}"' in page
    assert "self-reported by the trainer" in page
    assert not Campaign.objects.exists()
    hers = {"run_budget_kind": "seconds", "run_budget_amount": "60", "metric": "accuracy", "direction": "higher"}
    danas_browser.post("/campaigns/new/", typed | hers | {"metric_unit": "percent", "plan": "1"})
    campaign = Campaign.objects.get()
    assert (campaign.metric, campaign.metric_unit, campaign.direction) == ("accuracy", "percent", "higher")
    assert light_of(campaign, "Recipe") == "red", "its number is its own word, and nobody said that it is judged"


REFUSED = {
    "a slug twice": ({"slug": "first"}, "There is a campaign &#x27;first&#x27; already"),
    "a slug of ours": ({"slug": "new"}, "is an address of the pages"),
    "a dataset that nobody has": ({"dataset": "pile"}, "no worker has one called &#x27;pile&#x27;; there are: stdlib"),
    "a recipe that is not there": ({"recipe": "/nowhere"}, "there is no folder /nowhere"),
    "fewer at most than at least": ({"min_pairs": "7"}, "max_pairs 6 is below min_pairs 7"),
    "a price below zero": ({"usd_per_gpu_hour": "-1"}, "Must be 0 to 9,999"),
    "a run of no length": ({"run_budget_amount": "0"}, "Must be 1 to"),
    "no goal": ({"goal": ""}, "This field is required"),
    "another ruler": ({"metric": "val_loss"}, "the trusted scorer measures val_bpb, where lower is better"),
}


def test_what_cannot_begin_is_refused_beside_its_field_and_nothing_is_left(
    danas_browser: Client, box: Worker, campaign: Campaign, settings: Any
) -> None:
    for what, (over, sentence) in REFUSED.items():
        answer = danas_browser.post("/campaigns/new/", NEW | over | {"start": "1"})
        assert answer.status_code == 422, what
        assert sentence in answer.content.decode(), what
    assert Campaign.objects.count() == 1
    assert [one.name for one in Path(settings.REPOSITORIES).iterdir()] == ["first.git"]


def test_who_may_not_reads_why(alice: User, campaign: Campaign, charlie: User) -> None:
    her = browser_of(alice)
    assert her.get("/campaigns/new/").status_code == 403
    assert her.post("/campaigns/new/", NEW | {"start": "1"}).status_code == 403
    assert her.post("/campaigns/first/clone/", {"slug": "mine", "name": "Mine"}).status_code == 403
    assert her.post("/campaigns/first/state/", {"state": "archived"}).status_code == 403
    assert her.post("/campaigns/first/check/").status_code == 403
    assert "You may read these settings, not change them" in text_of(her, "/campaigns/first/settings/")
    assert her.post("/campaigns/first/settings/", {"goal": "Mine."}).status_code == 403
    assert Campaign.objects.get().goal == campaign.goal
    assert "Begin a campaign" not in text_of(her, "/campaigns/")
    assert browser_of(charlie).get("/campaigns/first/settings/").status_code == 403


def test_bob_who_steers_sets_the_pace_and_nothing_else(bobs_browser: Client, campaign: Campaign) -> None:
    page = text_of(bobs_browser, "/campaigns/first/settings/")
    assert 'name="num_waiting"' in page
    assert 'name="alpha"' not in page
    assert bobs_browser.post("/campaigns/first/settings/", {"num_waiting": "5", "alpha": "0.5"}).status_code == 302
    campaign.refresh_from_db()
    assert (campaign.num_waiting, campaign.alpha) == (5, 0.05)


def test_a_change_says_first_what_it_makes_stale_and_the_program_keeps_its_history(
    danas_browser: Client, campaign: Campaign, pending: Proposal, bob: User
) -> None:
    decisions.decide(builders.make_pending(campaign).pk, digest=_newest().revision.digest, choice="approve", by=bob)
    told = danas_browser.post("/campaigns/first/settings/costs/", {"max_pairs": "9"}).content.decode()
    assert "2 proposals go stale (1 waiting for review, 1 approved)" in words_of(told)
    asked = danas_browser.post("/campaigns/first/settings/", {"max_pairs": "9", "program": "Heads."})
    assert asked.status_code == 409
    assert "Save all the same" in asked.content.decode()
    assert Campaign.objects.get().max_pairs == 6, "nothing was saved yet"
    assert (
        danas_browser.post("/campaigns/first/settings/", {"program": "Heads.", "goal": "Less.\r\n"}).status_code == 302
    )
    knowingly = {"max_pairs": "9", "program": "Heads.\nThen rates.", "knowingly": "1"}
    assert danas_browser.post("/campaigns/first/settings/", knowingly).status_code == 302
    campaign.refresh_from_db()
    assert (campaign.max_pairs, campaign.program, campaign.goal) == (9, "Heads.\nThen rates.", "Less.")
    assert [one.text for one in campaign.programs.order_by("number")] == ["", "Heads.", "Heads.\nThen rates."]
    page = text_of(danas_browser, "/campaigns/first/program/")
    assert '<div class="add">Then rates.</div>' in page
    assert "Dana" in page
    refused = danas_browser.post("/campaigns/first/settings/", {"alpha": "2"})
    assert refused.status_code == 422
    assert "less than 1" in refused.content.decode()


def _newest() -> Proposal:
    return Proposal.objects.latest("pk")


def test_a_clone_begins_on_the_incumbent_and_an_archived_one_takes_no_proposals(
    danas_browser: Client, campaign: Campaign, pending: Proposal, bobs_browser: Client, bob: User
) -> None:
    answer = danas_browser.post("/campaigns/first/clone/", {"slug": "second", "name": "Second"})
    assert answer["Location"] == "/campaigns/second/check/"
    second = Campaign.objects.get(slug="second")
    assert (second.state, second.cloned_from, second.origin) == ("planned", campaign, "campaign first")
    assert (second.goal, second.max_pairs, second.dataset_sha256) == (campaign.goal, 6, SHA)
    assert danas_browser.post("/campaigns/first/clone/", {"slug": "second", "name": "x"}).status_code == 422
    assert danas_browser.post("/campaigns/first/state/", {"state": "archived", "reason": "done"}).status_code == 302
    campaign.refresh_from_db()
    assert (campaign.state, campaign.state_reason) == ("archived", "done")
    listed = text_of(danas_browser, "/campaigns/")
    assert "1 archived campaign" in listed
    assert "Archived: it stays readable" in text_of(danas_browser, "/campaigns/first/")
    assert f"P-{pending.pk}" not in text_of(bobs_browser, "/review/")
    with pytest.raises(Exception, match="is archived"):
        decisions.decide(pending.pk, digest=pending.revision.digest, choice="approve", by=bob)
    with pytest.raises(ValueError, match="is archived: it takes no proposals"):
        builders.drafting.by_hand(campaign, builders.make_draft(), by=User.objects.get(username="dana"))
    assert danas_browser.post("/campaigns/first/state/", {"state": "paused"}).status_code == 302
    assert Campaign.objects.get(slug="first").state == "paused", "brought back"


def light_of(campaign: Campaign, name: str) -> str:
    return next(line.light for line in checklist.lines(campaign) if line.name == name)


def test_check_before_you_start_tries_the_incumbent_on_a_worker_before_anything_else_runs(
    danas_browser: Client, box: Worker
) -> None:
    danas_browser.post("/campaigns/new/", NEW | {"plan": "1"})
    planned = Campaign.objects.get()
    assert light_of(planned, "Dataset") == "green"
    assert light_of(planned, "Trains in the sandbox") == "waiting"
    assert not checklist.is_green(checklist.lines(planned))
    assert danas_browser.post("/campaigns/tonight/check/").status_code == 302
    danas_browser.post("/campaigns/tonight/check/")
    tried = Run.objects.get()
    assert (tried.purpose, tried.revision, tried.state) == ("smoke", None, "queued"), "asked twice, queued once"
    assert light_of(planned, "Trains in the sandbox") == "running"
    lease = builders.ask(box)
    assert lease is not None and lease.spec.max_steps == 5
    builders.finish(lease, val_bpb=5.1)
    planned.refresh_from_db()
    assert (planned.state, planned.hardware_class) == ("planned", ""), "a try binds nothing, and starts nothing"
    Run.objects.update(peak_memory_mib=900.0, num_tokens=102_400)
    lines = {line.name: line for line in checklist.lines(planned)}
    assert {name: line.light for name, line in lines.items() if line.light != "green"} == {}
    assert "5.1000 bpb after the few steps" in text_of(danas_browser, "/campaigns/tonight/check/")
    assert "It can run" in text_of(danas_browser, "/campaigns/tonight/check/")
    Run.objects.update(peak_memory_mib=7_900.0)
    assert light_of(planned, "Memory fits") == "red"
    Worker.objects.update(datasets={"stdlib": "e" * 64})
    assert light_of(planned, "Dataset") == "red"
    Worker.objects.update(sandbox_level="landlock")
    assert "box has the sandbox landlock, wanted is bubblewrap" in words_of(
        text_of(danas_browser, "/campaigns/tonight/check/")
    )


def test_a_try_that_fails_says_so_and_may_be_made_again(danas_browser: Client, box: Worker) -> None:
    danas_browser.post("/campaigns/new/", NEW | {"plan": "1"})
    planned = Campaign.objects.get()
    danas_browser.post("/campaigns/tonight/check/")
    lease = builders.ask(box)
    assert lease is not None
    builders.fail(lease)
    assert "ran out of memory at step 3" in text_of(danas_browser, "/campaigns/tonight/check/")
    assert light_of(planned, "Trains in the sandbox") == "red"
    danas_browser.post("/campaigns/tonight/check/")
    assert Run.objects.filter(state="queued").count() == 1
    danas_browser.post("/campaigns/tonight/state/", {"state": "archived"})
    assert danas_browser.post("/campaigns/tonight/check/").status_code == 409
    assert text_of(danas_browser, f"/runs/{Run.objects.first().pk}/")  # type: ignore[union-attr]
