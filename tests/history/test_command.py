"""alice imports from a shell: what it says, what it changes, and what it refuses in one sentence."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from research.models import Campaign, Import, PastExperiment
from tests import builders
from tests.history import trackers
from tests.history.repositories import begin, commit
from tests.history.tables import HEADER, ROWS, results_tsv

pytestmark = pytest.mark.django_db


def told(*arguments: Any) -> str:
    out = io.StringIO()
    call_command("import", *map(str, arguments), stdout=out)
    return out.getvalue()


def refused(*arguments: Any) -> str:
    with pytest.raises(CommandError) as why:
        told(*arguments)
    assert not Import.objects.exists()
    return str(why.value)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "results.tsv"
    path.write_bytes(results_tsv(*ROWS, "prose alone"))
    return path


def test_a_dry_run_says_all_and_changes_nothing(table: Path) -> None:
    said = told("autoresearch", table, "--dry-run")
    assert said.splitlines() == [
        "results.tsv: 6 rows read, 5 experiments, 1 refused",
        "columns: commit -> commit, val_bpb -> metric, memory_gb -> memory, status -> outcome, "
        "description -> description",
        "kept 3, discarded 1, crashed 1; best val_bpb 1.47, lower is better",
        "  line 7: 1 cell where the header has 5: no status",
        "Nothing was imported: this was a dry run.",
    ]
    assert not Import.objects.exists()


def test_into_a_campaign_into_a_new_one_and_as_json(table: Path) -> None:
    first = builders.make_campaign()
    assert told("autoresearch", table, "--campaign", "first").endswith(
        "Imported into first as H-1 to H-5: /campaigns/first/history/\n"
    )
    said = json.loads(told("autoresearch", table, "--new", "second", "--like", "first", "--json"))
    assert (said["num_read"], said["num_mapped"], said["outcomes"]) == (6, 5, {"kept": 3, "discarded": 1, "crashed": 1})
    assert said["imported"]["campaign"] == "second" and said["refused"][0]["line"] == 7
    second = Campaign.objects.get(slug="second")
    assert (second.recipe, second.dataset_sha256, second.run_budget) == (
        first.recipe, first.dataset_sha256, first.run_budget,
    )  # fmt: skip


def test_a_folder_with_its_repository_and_a_tracker(tmp_path: Path) -> None:
    builders.make_campaign()
    loop = begin(tmp_path / "loop")
    names = [commit(loop, f"step {i}", train_py=f"lr = {i}\n") for i in range(2)]
    (loop / "results.tsv").write_bytes(
        results_tsv(*(f"{name}\t1.{9 - i}\t1\tkeep\tx{i}" for i, name in enumerate(names)))
    )
    assert "in the repository: 2." in told("autoresearch", loop, "--campaign", "first")
    assert "+lr = 1" in PastExperiment.objects.get(number=2).patch
    trackers.trackio_project(tmp_path / "demo.db", {"one": [{"val_bpb": 2.0}]})
    assert "1 row read, 1 experiment" in told("trackio", tmp_path / "demo.db", "--campaign", "first")


def test_a_mapping_and_a_direction_of_her_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.tsv"
    path.write_bytes(results_tsv("a1b2c3d\t1\t7.5\tkeep\tone", header="commit\tscore\tother=x\tstatus\tdescription"))
    said = told("autoresearch", path, "--map", "other=x=metric", "--direction", "higher", "--dry-run")
    assert "other=x -> metric" in said and "best other=x 7.5, higher is better" in said


def test_each_mistake_in_one_sentence(table: Path, tmp_path: Path) -> None:
    assert refused("autoresearch", table) == "campaign: say --campaign SLUG or --new SLUG; there are none yet"
    assert refused("autoresearch", table, "--new", "mine").startswith("new: there is no campaign whose recipe")
    builders.make_campaign()
    assert refused("autoresearch", table, "--campaign", "x") == "campaign: there is no 'x'; there are first"
    assert refused("autoresearch", tmp_path / "gone.tsv").endswith("gone.tsv cannot be read: No such file or directory")
    assert refused("autoresearch", table, "--map", "x") == "map: 'x' is not THEIRS=OURS, such as val_loss=metric"
    assert "is no git repository" in refused("autoresearch", table, "--repository", tmp_path)
    assert refused("autoresearch", "/dev/zero", "--campaign", "first").startswith(
        "file: it is too large; at most 4 MiB"
    )
    (tmp_path / "empty.tsv").write_text(HEADER + "\n")
    assert refused("autoresearch", tmp_path / "empty.tsv", "--new", "y") == "file: empty.tsv has a header and no row"
    assert Campaign.objects.count() == 1
