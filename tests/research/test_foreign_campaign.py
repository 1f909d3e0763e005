"""Carol begins a campaign on a foreign trainer: its metric and environment are taken over, its gates read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_runner import contract
from research.change.drafts import Edit
from research.gates import process
from research.models import Campaign, Proposal, Worker
from research.propose import briefing, drafting
from research.runs import leasing
from tests.builders import LOCK, make_campaign, make_override, make_proposal, make_worker

pytestmark = pytest.mark.django_db

TOML = """
[recipe]
name = "nano"
about = "A foreign trainer."
kind = "command"
editable = ["train.py"]
shown = ["prepare.py"]
[command]
run = ["{python}", "train.py", "{overrides}"]
[metrics]
reader = "json_lines"
metric = "accuracy"
unit = "percent"
direction = "higher"
[knobs.lr]
type = "float"
default = 0.1
low = 0.01
high = 1.0
help = "Peak."
"""
TRAIN = "import subprocess\nimport sys\n\nrate = 0.1\nprint('{\"accuracy\": %s}' % rate)\n"
FILES = {"recipe.toml": TOML, "train.py": TRAIN, "prepare.py": "DATA = 1\n", "lib/old.py": "print 'python 2'\n"}


@pytest.fixture
def begin(tmp_path: Path, settings: Any) -> Any:
    """Begins a campaign on the trainer; keywords replace words of recipe.toml, or set fields."""
    settings.RECIPES = tmp_path

    def _begin(toml: str = TOML, **fields: Any) -> Campaign:
        for name, text in (FILES | {"recipe.toml": toml}).items():
            (tmp_path / "nano" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "nano" / name).write_text(text)
        return make_campaign(recipe="nano", **fields)

    return _begin


def changed(campaign: Campaign, search: str, replace: str) -> Proposal:
    edit = Edit(path="train.py", search=search, replace=replace)
    proposal = make_proposal(campaign, overrides=(), edits=(edit,))
    process.check(proposal.revision)
    proposal.refresh_from_db()
    return proposal


def test_a_campaign_takes_over_the_trainers_metric_and_claude_is_told(begin: Any) -> None:
    campaign = begin()
    assert (campaign.metric, campaign.metric_unit, campaign.direction) == ("accuracy", "percent", "higher")
    assert not campaign.judges_self_reported
    brief = briefing.brief(campaign, 1)
    assert sorted(brief.files) == ["prepare.py", "recipe.toml", "train.py"]
    assert brief.word is not None and (brief.word.metric, brief.word.is_judged) == ("accuracy", False)


def test_its_gates_refuse_what_an_edit_brings_and_not_what_stood_there(begin: Any) -> None:
    campaign = begin()
    fine = make_proposal(campaign, overrides=(make_override(key="lr", value=0.2),))
    process.check(fine.revision)
    fine.refresh_from_db()
    assert fine.state == "checking", list(fine.revision.gates.values_list("name", "sentence"))
    assert changed(campaign, "rate = 0.1", "rate = 0.2 * len(sys.argv)").state == "checking"
    worse = changed(campaign, "rate = 0.1", "rate = len(subprocess.check_output(['date']))")
    assert worse.state == "blocked"
    assert "starts or steers other processes" in worse.revision.gates.get(name="code").sentence


def test_an_environment_that_no_worker_has_is_named(begin: Any) -> None:
    toml = TOML.replace("[metrics]", 'environment = "torch-2.6"\n[metrics]')
    with pytest.raises(ValueError, match=r"environment 'torch-2\.6', and no worker has it; there are none"):
        begin(toml)
    make_worker(name="gpu-1", environments={"torch-2.5": "5" * 64})
    with pytest.raises(ValueError, match=r"did you mean torch-2\.5\?"):
        begin(toml)
    assert not Campaign.objects.exists()


def test_a_run_is_claimed_only_where_its_packages_are(begin: Any) -> None:
    worker = make_worker(name="gpu-1", environments={"torch-2.6": "6" * 64})
    campaign = begin(TOML.replace("[metrics]", 'environment = "torch-2.6"\n[metrics]'))
    assert campaign.environment_sha256 == "6" * 64
    proposal = make_proposal(campaign, overrides=(make_override(key="lr", value=0.2),))
    process.check(proposal.revision)
    assert proposal.revision.approval["environment_sha256"] == "6" * 64

    def claimed(by: Worker, *environments: str) -> contract.Lease | None:
        said: dict[str, Any] = {"hardware_class": "cpu-x86_64", "sandbox_level": "bubblewrap", "lock_sha256": LOCK}
        return leasing.claim(by, contract.Claim(environments=list(environments), **said))

    assert claimed(make_worker(name="other")) is None
    assert claimed(worker, "5" * 64) is None
    lease = claimed(worker, "5" * 64, "6" * 64)
    assert lease is not None and lease.spec.approval.environment_sha256 == "6" * 64
    assert lease.spec.approval.digest() == lease.spec.digest


def test_a_budget_that_the_trainer_cannot_be_told_begins_nothing(begin: Any) -> None:
    with pytest.raises(ValueError, match='with ends = "told"'):
        begin(TOML.replace("[metrics]", 'ends = "told"\n[metrics]'))
    assert not Campaign.objects.exists()


def test_the_offline_proposer_turns_the_knobs_that_a_foreign_recipe_declares(begin: Any) -> None:
    campaign = begin()
    drafting.top_up(campaign)
    proposed = [proposal.revision.overrides for proposal in campaign.proposals.filter(arm="offline")]
    assert proposed and {override["key"] for overrides in proposed for override in overrides} == {"lr"}
