"""dana runs the house from a shell: ``manage.py campaign``, and the record holds what was done."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from research.models import Campaign, Event
from research.record import approval, audit, chain, repository
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)
SHA = "d" * 64


def campaign(*words: str | Path) -> str:
    out = io.StringIO()
    call_command("campaign", *map(str, words), stdout=out)
    return out.getvalue()


def asked(*words: str | Path) -> Any:
    return json.loads(campaign(*words, "--json"))


@pytest.fixture
def box(db: None) -> None:
    builders.make_worker(
        hardware_class="cpu-x86_64", sandbox_level="bubblewrap", lock_sha256=approval.lock_sha256(),
        datasets={"stdlib": SHA}, hardware={"memory_mib": 8_000}, seen_at=timezone.now(),
    )  # fmt: skip


NIGHT = ("create", "--slug", "night", "--name", "Night", "--goal", "Less.", "--run-budget-kind", "seconds",
         "--run-budget-amount", "300")  # fmt: skip


def test_a_campaigns_whole_life_from_a_shell_is_in_the_record(box: None, tmp_path: Path) -> None:
    program = tmp_path / "program.md"
    program.write_text("Learning rates first.\n")
    said = asked(*NIGHT, "--program-file", program, "--dry-run")
    assert said["would"] == "create"
    assert said["forecast"]["night"] == "A night of 8 h on one machine: about 91 runs, 14 to 29 verdicts."
    assert not Campaign.objects.exists(), "a dry run makes nothing"
    made = asked(*NIGHT, "--program-file", program, "--planned")
    assert (made["state"], made["dataset_sha256"], made["origin"]) == ("planned", SHA, "shipped: gpt")
    assert made["program"] == "Learning rates first.\n".strip()
    assert [one["slug"] for one in asked("list")] == ["night"]
    assert "night" in campaign("list")
    with pytest.raises(SystemExit):
        campaign("check", "night", "--no-try")
    for verb, state in (("start", "active"), ("pause", "paused"), ("resume", "active"), ("halt", "halted")):
        assert f'"{state}"' in campaign(verb, "night", "--dry-run", "--json")
        assert Campaign.objects.get().state != state
        assert asked(verb, "night", "--reason", "by hand")["state"] == state
    copy = asked("clone", "night", "second", "--name", "Second")
    assert (copy["state"], copy["cloned_from"], copy["run_budget_amount"]) == ("planned", "night", 300.0)
    assert asked("archive", "night")["state"] == "archived"
    assert [one["slug"] for one in asked("list")] == ["second"]
    assert [one["slug"] for one in asked("list", "--archived")] == ["second", "night"]
    assert asked("show", "night")["state_reason"] == "asked for at the command line"
    chain.chain()
    assert audit.verify().findings == []
    assert set(Event.objects.exclude(campaign=None).values_list("by", flat=True)) == {"command line"}


REFUSED = {
    "a slug that is not there": (("show", "none"), "slug: there is no campaign 'none'; there are: first"),
    "a move that is not there": (("resume", "first"), "active cannot become active"),
    "a slug that is taken": ((*NIGHT, "--slug", "first"), "slug: There is a campaign 'first' already"),
    "a folder without a recipe": ((*NIGHT, "--recipe", "/tmp"), "recipe: "),
    "no number": ((*NIGHT, "--alpha", "much"), "alpha: Enter a number."),
    "a clone of a taken slug": (("clone", "first", "first", "--dry-run"), "slug: there is a campaign 'first' already"),
}


def test_what_is_refused_is_a_sentence_that_names_the_field(box: None) -> None:
    builders.make_campaign()
    for words, sentence in REFUSED.values():
        with pytest.raises(CommandError, match=sentence):
            campaign(*words)
    assert Campaign.objects.count() == 1


def test_the_shell_takes_a_folder_beside_it_and_a_dry_run_looks_at_all_of_it(
    box: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "recipe.toml").write_text('[recipe]\nname = "mine"\neditable = ["train.py"]\nbudget_seconds = 60.0\n')
    (mine / "train.py").write_text("def train(run):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    words = ("create", "--recipe", "./mine", "--name", "Mine", "--goal", "Less.", "--slug", "mine")
    assert "would begin on mine" in campaign(*words, "--dry-run")
    made = asked(*words)
    assert (made["recipe"], made["origin"]) == ("mine", str(mine))
    assert (made["run_budget_kind"], made["run_budget_amount"]) == ("seconds", 60.0), "as the recipe recommends"
    one = Campaign.objects.get()
    assert repository.files_at(one, one.incumbent.commit)["train.py"].startswith("def train")
    (mine / "train.py").unlink()
    with pytest.raises(CommandError, match=r"recipe: there is no train.py at the top of .*/mine"):
        campaign(*words, "--slug", "other", "--dry-run")
