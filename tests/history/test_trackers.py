"""alice has her runs in a tracker: its own files, or the table that it exports, become experiments."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from research.history import reader, stores
from research.history.past import Kind, Reading, Wanted
from tests.history import trackers

NAN = float("nan")
CONFIG = {"lr": 0.1, "model": {"depth": 4, "act": "relu"}, "tags": [1, 2], "_wandb": {}, "hf_token": "hunter22"}
SETTINGS = {"lr": "0.1", "model.depth": "4", "model.act": "relu", "tags": "[1, 2]"}


def series(*values: float) -> list[dict[str, float]]:
    return [
        {"val_bpb": value, "train/loss": 3.0 - step, "_runtime": 60.0 * step, "_timestamp": 1e9 + step}
        for step, value in enumerate(values)
    ]


def wandb_folder(folder: Path) -> Path:
    runs = {
        "a": trackers.run_file("first", CONFIG, series(2.0, 1.5), notes="a note\nof two lines", exit_code=None),
        "b": trackers.run_file("typed", CONFIG, series(2.0, 1.25), typed=True),
        "c": trackers.run_file("failed", CONFIG, series(2.0, 1.5), exit_code=1),
        "d": trackers.run_file("killed", CONFIG, series(2.0, 1.5), exit_code=None)[:-9],
        "e": trackers.run_file("long " + "x" * 70_000, CONFIG, series(2.0)),
        "f": b"not a run file",
        "g": trackers.run_file("empty", {}, [])[:7],
    }
    for name, body in runs.items():
        place = folder / "wandb" / f"offline-run-20261130_00000{name}-{name}"
        place.mkdir(parents=True)
        (place / f"run-{name}.wandb").write_bytes(body)
    resumed = folder / "wandb" / "offline-run-20261201_000000-a"
    resumed.mkdir()
    (resumed / "run-a.wandb").write_bytes(trackers.run_file("first", CONFIG, series(9.0, 9.0, 1.75)[2:]))
    (folder / "wandb" / "latest-run").symlink_to(folder / "wandb" / "offline-run-20261130_00000a-a")
    return folder / "wandb"


def test_run_files_of_wandb(tmp_path: Path) -> None:
    reading = stores.read("wandb", wandb_folder(tmp_path))
    assert (reading.metric, reading.direction, reading.num_read) == ("val_bpb", "lower", 7)
    by_title = {one.title[:6].strip(): one for one in reading.experiments}
    first = by_title["first"]
    assert (first.value, first.train_s, first.said, first.outcome) == (1.75, 120.0, "finished", "unsaid")
    assert first.extras == {"run": "a", "best val_bpb": "1.5", "train/loss": "1"}
    assert {name: first.parameters[name] for name in SETTINGS} == SETTINGS
    assert "hunter22" not in str(reading) and first.description == "a note\nof two lines"
    assert by_title["typed"].value == 1.25
    assert (by_title["failed"].outcome, by_title["failed"].value, by_title["failed"].extras["last val_bpb"]) == (
        "crashed", None, "1.5",
    )  # fmt: skip
    assert (by_title["killed"].said, by_title["killed"].value) == ("not finished", 2.0)  # the torn row does not count
    assert by_title["long x"].value == 2.0
    assert [(r.text, r.reason.split(":")[0].split(";")[0]) for r in reading.refused] == [
        ("run-f.wandb", "it is no run file of Weights & Biases"), ("run-g.wandb", "it holds no record"),
    ]  # fmt: skip


def test_mlflows_folder_and_its_database(tmp_path: Path) -> None:
    folder = tmp_path / "mlruns"
    numbers = {"val_bpb": [2.0, 1.5, 1.75], "train/loss": [3.0, 2.0], "odd": [NAN], "huge": [float("inf")]}
    tags = {"mlflow.runName": "the first", "mlflow.note.content": "a note", "mlflow.source.git.commit": "a1b2c3d" * 5}
    trackers.mlflow_run(folder, "r2", start=90_000, status=4, params={"lr": 0.2}, metrics=numbers)
    trackers.mlflow_run(folder, "r1", start=10_000, params={"lr": 0.1, "a/b": 1}, metrics=numbers, tags=tags)
    trackers.mlflow_run(folder, "r0", stage="deleted", metrics=numbers)
    trackers.mlflow_run(folder / ".trash", "r3", metrics=numbers)
    reading = stores.read("mlflow", folder)
    first, second = reading.experiments
    assert (first.title, first.value, first.train_s, first.parameters) == (
        "the first",
        1.75,
        60.0,
        {"lr": "0.1", "a/b": "1"},
    )
    assert (first.description, first.commit[:7]) == ("a note", "a1b2c3d")
    assert first.extras == {"run": "r1", "best val_bpb": "1.5", "train/loss": "2"}  # neither NaN nor infinity
    assert (second.title, second.outcome, second.value, second.said) == ("r2", "crashed", None, "FAILED")
    assert [(r.text, r.reason) for r in reading.refused] == [("r0", "it was deleted in MLflow")]

    trackers.mlflow_database(tmp_path / "mlflow.db", {"a": numbers, "b": {"val_bpb": [1.5, NAN]}})
    database = stores.read("mlflow", tmp_path / "mlflow.db")
    assert [(e.title, e.value, e.train_s) for e in database.experiments] == [("run a", 1.75, 9.0), ("run b", None, 9.0)]
    assert database.experiments[0].extras == {"run": "a", "best val_bpb": "1.5", "train/loss": "2"}


@pytest.mark.parametrize("ids", [True, False])
def test_trackios_projects(tmp_path: Path, ids: bool) -> None:
    runs = {"run-0": series(2.0, 1.5, 1.75), "run-1": series(1.9, NAN)}
    trackers.trackio_project(tmp_path / "demo.db", runs, ids=ids)
    reading = stores.read("trackio", tmp_path)
    assert [(e.title, e.value, e.train_s) for e in reading.experiments] == [("run-0", 1.75, 2.0), ("run-1", None, 1.0)]
    assert reading.experiments[0].parameters == {"lr": "3", "nested.depth": "4"}
    assert reading.experiments[0].extras["best val_bpb"] == "1.5"


@pytest.mark.parametrize(
    ("kind", "table", "parameters"),
    [
        (
            "wandb",
            '"Name","State","Notes","User","Created","Runtime","lr","n_layer","train/loss","val_bpb"\n'
            '"new","crashed","-","me","2026-11-30T02:00:00Z","12","0.2","4","NaN","1.9"\n'
            '"old","finished","a note","me","2026-11-29T02:00:00Z","60","0.1","4","2.5","1.71"\n',
            {"lr": "0.1", "n_layer": "4"},
        ),
        (
            "mlflow",
            "run_id,status,start_time,metrics.val_bpb,metrics.huge,params.lr,tags.mlflow.runName,tags.mlflow.note.content\n"
            "r2,FAILED,2026-11-30 02:00:00+00:00,1.9,inf,0.2,new,\n"
            "r1,FINISHED,2026-11-29 02:00:00+00:00,1.71,inf,0.1,old,a note\n",
            {"lr": "0.1"},
        ),
        (
            "mlflow",
            "Start Time,Duration,Run ID,Name,Source Type,User,Status,lr,val_bpb\n"
            "2026-11-30 02:00:00,12.0s,r2,new,LOCAL,me,FAILED,0.2,1.9\n"
            "2026-11-29 02:00:00,1.0min,r1,old,LOCAL,me,FINISHED,0.1,1.71\n",
            {"lr": "0.1"},
        ),
    ],
    ids=["W&B's table", "mlflow.search_runs", "MLflow's table"],
)
def test_exported_tables_with_the_oldest_run_first(kind: Kind, table: str, parameters: dict[str, str]) -> None:
    reading = reader.read(kind, table.encode(), "export.csv")
    old, new = reading.experiments
    assert (old.title, old.value, old.parameters, old.outcome) == ("old", 1.71, parameters, "unsaid")
    assert (new.title, new.value, new.outcome, new.extras["last val_bpb"]) == ("new", None, "crashed", "1.9")
    assert reading.metric == "val_bpb" and old.train_s in (None, 60.0)


def test_alice_asks_for_another_number(tmp_path: Path) -> None:
    trackers.trackio_project(tmp_path / "demo.db", {"run-0": series(2.0, 1.5)})
    reading = stores.read("trackio", tmp_path, Wanted(metric="Train Loss"))
    assert (reading.metric, reading.experiments[0].value) == ("train/loss", 2.0)
    with pytest.raises(
        ValueError, match=r"^metric: no run logged a number called 'speed'; there are val_bpb, train/loss"
    ):
        stores.read("trackio", tmp_path, Wanted(metric="speed"))


def refused(kind: Kind, path: Path) -> str:
    with pytest.raises(ValueError, match=r"^file: ") as why:
        stores.read(kind, path)
    return str(why.value)


def test_what_is_no_store_is_refused_by_name(tmp_path: Path) -> None:
    assert "has no run-ID.wandb" in refused("wandb", tmp_path)
    assert "holds no run of MLflow" in refused("mlflow", tmp_path)
    assert "has no PROJECT.db" in refused("trackio", tmp_path)
    (tmp_path / "text.db").write_text("no database at all")
    assert "text.db cannot be read: file is not a database" in refused("mlflow", tmp_path / "text.db")
    with closing(sqlite3.connect(tmp_path / "other.db")) as database:
        database.execute("CREATE TABLE runs (x)")
    assert "other.db has no table latest_metrics, metrics, params, tags" in refused("mlflow", tmp_path / "other.db")
    assert "there is no file gone.db" in refused("mlflow", tmp_path / "gone.db")


def test_nothing_outside_is_read_and_nothing_is_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the key of the house")
    folder = tmp_path / "mlruns"
    trackers.mlflow_run(folder, "r1", params={"lr": 0.1}, metrics={"val_bpb": [1.5]})
    run = folder / "641" / "r1"
    os.symlink(outside / "secret", run / "params" / "stolen")
    os.symlink(outside, run / "metrics" / "more")
    (run / "tags").mkdir()
    os.symlink(outside / "secret", run / "tags" / "mlflow.note.content")
    trackers.trackio_project(tmp_path / "demo.db", {"run-0": series(2.0)})
    with closing(sqlite3.connect(tmp_path / "demo.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")  # as trackio leaves it
    before = (tmp_path / "demo.db").read_bytes()
    readings: list[Reading] = [stores.read("mlflow", folder), stores.read("trackio", tmp_path / "demo.db")]
    assert "key of the house" not in str(readings)
    assert (tmp_path / "demo.db").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.db", "mlruns", "outside"]
