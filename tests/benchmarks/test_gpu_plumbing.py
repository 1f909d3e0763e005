"""What `make gpu` counts with, tried where there is no GPU."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from gpu_runner import contract
from tests.benchmarks import checkouts
from tests.gpu import campaign, inside, machine, stages, utilization


def test_idle_time_counts_only_while_something_waits() -> None:
    waiting, running = [(0.0, 2.0), (3.0, 8.0)], [(2.0, 4.0), (5.0, 7.0), (6.0, 6.5)]
    assert utilization.union([(3.0, 4.0), (1.0, 2.0), (2.0, 2.5)]) == [(1.0, 2.5), (3.0, 4.0)]
    assert utilization.idle_with_work_s(waiting, running) == 2.0 + 1.0 + 1.0  # before, between, and at the end
    assert utilization.idle_with_work_s([(0.0, 1.0)], [(0.0, 9.0)]) == 0.0


def test_what_still_runs_keeps_the_gpu_busy_and_nothing_counts_before_the_first_lease() -> None:
    def run(created: str, leased: str | None, ended: str | None) -> Any:
        at = {"created_at": created, "leased_at": leased, "ended_at": ended}
        return {name: value and f"2026-11-25 {value}" for name, value in at.items()}

    first, behind, live = (
        ("04:00:00", "04:00:10", "04:00:20"),
        ("04:00:00", "04:00:23", "04:00:30"),
        ("04:00:25", "04:00:30"),
    )
    waiting, running = campaign.spans([run(*first), run(*behind), run(*live, None), run("04:00:26", None, None)])
    assert utilization.idle_with_work_s(waiting, running) == pytest.approx(3.0)
    assert running[-1][1] > running[1][1], "until now"


def test_a_cut_off_line_of_the_drivers_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "use.csv"
    file.write_text("2026/11/25 04:00:00.250, 97, 40123\n2026/11/25 04:00:00.750, 99, 40125\n2026/11/25 04:00:01")
    first, second = utilization.samples(file)
    assert (first.percent, first.memory_mib, second.percent) == (97.0, 40123.0, 99.0)
    assert second.at - first.at == pytest.approx(0.5)
    assert utilization.within([first, second], [(first.at - 1, first.at)]) == [first]
    assert utilization.samples(tmp_path / "absent.csv") == []


@pytest.mark.parametrize(
    ("left_min", "seconds"), [(3.0, None), (7.0, 10.0), (29.0, 29.0), (41.0, 59.0), (150.0, 300.0), (600.0, 300.0)]
)
def test_the_campaign_chooses_its_budget_from_the_time_that_is_left(
    left_min: float, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "IS_DRY_RUN", False)
    monkeypatch.setattr(campaign, "NUM_RUNS", 24)
    monkeypatch.setattr(campaign, "left_s", lambda: 60 * left_min)
    assert campaign.seconds_of_a_run() == seconds


def test_a_recipe_of_a_gpus_size_has_other_defaults_and_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = {"depth": 6, "aspect": 64, "head_dim": 128, "seq_len": 1024, "batch_size": 64, "ngram_rows": 65536}
    monkeypatch.setattr(inside, "SMALL", large)
    folder = campaign.sized(tmp_path / "recipes") / "gpt"
    recipe = contract.parse_recipe((folder / "recipe.toml").read_text())
    assert {key: knob.default for key in large if (knob := recipe.knob(key)) is not None} == large
    shipped = tomllib.loads((campaign.compile_cache.RECIPES / "gpt" / "recipe.toml").read_text())
    same = set(shipped["knobs"]) - set(large)
    assert all(knob.default == shipped["knobs"][knob.key]["default"] for knob in recipe.knobs if knob.key in same)
    assert campaign.compile_cache.is_shipped(folder)


def test_a_stage_says_once_what_comes_and_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    table = stages.Timetable()
    table.plan({"test_sandbox", "test_memory", "test_elsewhere"})
    for file in ("test_sandbox", "test_sandbox", "test_elsewhere", "test_memory"):
        table.enter(file)
        table.leave(file)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Stage 1 of 2: sandbox") == said.count("Stage 2 of 2: memory") == 1
    assert f"of {machine.MINUTES:g} min are spent" in said
    assert [row[0] for row in table.rows()] == ["sandbox", "memory"]


def test_steps_say_how_long_the_rest_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with stages.steps("zoo", 2) as bar:
        bar.done("honest: ok")
    assert capsys.readouterr().err.startswith("zoo: 1 of 2, honest: ok; about ")


def test_a_peer_is_there_when_its_script_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEERS", raising=False)
    assert not checkouts.is_there("nanochat")
    monkeypatch.setenv("PEERS", str(tmp_path))
    assert not checkouts.is_there("nanochat")
    script = tmp_path / "nanochat" / checkouts.PEERS["nanochat"].script
    script.parent.mkdir(parents=True)
    script.touch()
    assert checkouts.is_there("nanochat")
    assert not checkouts.is_there("autoresearch")
