"""Reads what trackers leave on a disk: W&B's run files, MLflow's folder or SQLite store, trackio's SQLite files.

Read-only and bounded: no link is followed, no file beyond its limit is read, and a database is asked for a few columns
under a clock. Nothing of the trackers is imported.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from research.history import runs, wire
from research.history.past import MAX_ROWS, Kind, Reading, Wanted
from research.history.runs import Run

MAX_RUN_FILE = 256 * 2**20
MAX_SMALL_FILE = 64 * 1024
MAX_SERIES_FILE = 16 * 2**20
MAX_FOLDERS = 200_000
ASK_S = 60.0
Skipped = list[tuple[str, str]]  # what could not be read, and why


def read(kind: Kind, path: Path, wanted: Wanted | None = None) -> Reading:
    """The runs under ``path``, a folder or file of ``kind``. Raises ValueError naming what is wrong with it."""
    skipped: Skipped = []
    readers: dict[str, Callable[[Path, Skipped], list[Run]]] = {"wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}
    try:
        found = readers[kind](path, skipped)
    except (OSError, sqlite3.Error) as error:
        raise ValueError(f"file: {path.name} cannot be read: {error}") from error
    return runs.reading(kind, path.name, found, skipped, wanted)


def is_store(kind: Kind, path: Path) -> bool:
    """Whether ``path`` is a folder or file of the tracker's own, and not a table of text."""
    return kind != "autoresearch" and (path.is_dir() or path.suffix in (".wandb", ".db", ".sqlite", ".sqlite3"))


def _walk(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders under ``path`` with their plain files. Links are not followed."""
    for place, (folder, below, names) in enumerate(os.walk(path, followlinks=False)):
        below.sort()
        if place > MAX_FOLDERS:
            raise ValueError(f"file: {path.name} has more than {MAX_FOLDERS:,} folders; give a part of it")
        yield Path(folder), sorted(n for n in names if not (Path(folder) / n).is_symlink())


def _bytes(path: Path, at_most: int) -> bytes:
    with path.open("rb") as file:
        said = file.read(at_most + 1)
    if len(said) > at_most:
        raise ValueError(f"it is larger than {at_most // 1024:,} KiB")
    return said


def _text(path: Path, at_most: int = MAX_SMALL_FILE) -> str:
    return _bytes(path, at_most).decode(errors="replace").strip() if path.is_file() and not path.is_symlink() else ""


# --- Weights & Biases -----------------------------------------------------------------------------


def _wandb(path: Path, skipped: Skipped) -> list[Run]:
    files = [path] if path.is_file() else [f / name for f, names in _walk(path) for name in names if _is_run_file(name)]
    if not files:
        raise ValueError(f"file: {path.name} has no run-ID.wandb in it; give W&B's folder wandb, or a table as CSV")
    found: dict[str, wire.Story] = {}  # by name: a run that was resumed goes on in another folder
    for file in files[: MAX_ROWS + 1]:
        try:
            found[file.name] = wire.story(_bytes(file, MAX_RUN_FILE), found.get(file.name))
        except ValueError as why:
            skipped.append((file.name, str(why)))
    skipped += [(name, _KILLED) for name, told in found.items() if not told.num_records]
    return [_wandb_run(name, told) for name, told in found.items() if told.num_records]


def _is_run_file(name: str) -> bool:
    return name.startswith("run-") and name.endswith(".wandb")


_KILLED = "it holds no record; the run was killed before it had written any"


def _wandb_run(file: str, told: wire.Story) -> Run:
    key = file.removeprefix("run-").removesuffix(".wandb")
    runtime = told.last.get("_runtime")
    return Run(
        name=told.name or key,
        notes=told.notes,
        said={0: "finished", None: "not finished"}.get(told.exit_code, f"failed ({told.exit_code})"),
        started_s=told.extremes.get("_timestamp", (0.0, 0.0))[0],
        train_s=float(runtime) if isinstance(runtime, int | float) and runtime > 0 else None,
        settings=told.config,
        last={name: value for name, value in told.last.items() if not name.startswith("_wandb")},
        extremes=told.extremes,
        extras={"run": key},
    )


# --- MLflow ---------------------------------------------------------------------------------------

_ENDED = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
_META = re.compile(r"^(\w+): *(.*)$", re.M)
_TAGS = {"mlflow.runName": "name", "mlflow.note.content": "notes", "mlflow.source.git.commit": "commit"}


def _mlflow(path: Path, skipped: Skipped) -> list[Run]:
    return _mlflow_folder(path, skipped) if path.is_dir() else _mlflow_database(path, skipped)


def _mlflow_folder(path: Path, skipped: Skipped) -> list[Run]:
    found, any_run = [], False
    for folder, names in _walk(path):
        if "meta.yaml" not in names or ".trash" in folder.parts:
            continue
        meta = dict(_META.findall(_text(folder / "meta.yaml")))
        if "run_id" not in meta:
            continue  # an experiment's own
        any_run = True
        if meta.get("lifecycle_stage") == "deleted":
            skipped.append((folder.name, "it was deleted in MLflow"))
            continue
        try:
            found.append(_mlflow_run(folder, {name: value.strip("'\"") for name, value in meta.items()}))
        except ValueError as why:
            skipped.append((folder.name, str(why)))
    if not any_run:
        raise ValueError(f"file: {path.name} holds no run of MLflow; give its folder mlruns, its mlflow.db, or a CSV")
    return found


def _mlflow_run(folder: Path, meta: dict[str, str]) -> Run:
    run = Run(name=meta.get("run_name", ""), said=_ENDED.get(meta.get("status", ""), meta.get("status", "")))
    _timed(run, meta.get("start_time"), meta.get("end_time"))
    for tag, field in _TAGS.items():
        setattr(run, field, _text(folder / "tags" / tag) or getattr(run, field))
    for file in _files_under(folder / "params"):
        run.settings[file.relative_to(folder / "params").as_posix()] = _text(file)
    for file in _files_under(folder / "metrics"):
        name = file.relative_to(folder / "metrics").as_posix()
        for line in _text(file, MAX_SERIES_FILE).splitlines():
            _log(run, name, _float([*line.split(), "", ""][1]))
    run.extras["run"] = folder.name
    return run


def _files_under(folder: Path) -> list[Path]:
    return [place / name for place, names in _walk(folder) for name in names]


def _timed(run: Run, start_ms: Any, end_ms: Any) -> None:
    start, end = _float(str(start_ms)), _float(str(end_ms))
    run.started_s = (start or 0.0) / 1000
    if start is not None and end is not None and end > start:
        run.train_s = (end - start) / 1000


def _log(run: Run, name: str, value: float | None) -> None:
    """One value of a series, in its order; one that is no number is the last one all the same."""
    run.last[name] = value
    if value is not None and abs(value) < runs.LARGEST:
        low, high = run.extremes.get(name, (value, value))
        run.extremes[name] = (min(low, value), max(high, value))


def _float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value else None


def _mlflow_database(path: Path, skipped: Skipped) -> list[Run]:
    with _asked(path, {"runs", "params", "latest_metrics", "metrics", "tags"}) as ask:
        found: dict[str, Run] = {}
        for key, name, said, start, end, stage in ask(
            "SELECT run_uuid, name, status, start_time, end_time, lifecycle_stage FROM runs ORDER BY start_time"
        ):
            if stage == "deleted":
                skipped.append((str(key), "it was deleted in MLflow"))
                continue
            found[key] = run = Run(name=name or "", said=said or "", extras={"run": str(key)})
            _timed(run, start, end)
        for key, name, value in ask("SELECT run_uuid, key, value FROM params"):
            if key in found:
                found[key].settings[name] = value
        for key, name, value in ask("SELECT run_uuid, key, value FROM tags"):
            if key in found and name in _TAGS and value:
                setattr(found[key], _TAGS[name], value)
        for key, name, low, high in ask(
            "SELECT run_uuid, key, min(value), max(value) FROM metrics WHERE NOT is_nan GROUP BY run_uuid, key"
        ):
            if key in found:
                _log(found[key], name, low)
                _log(found[key], name, high)
        for key, name, value, is_nan in ask("SELECT run_uuid, key, value, is_nan FROM latest_metrics"):
            if key in found:
                found[key].last[name] = None if is_nan else value  # the store writes 0 where the value was NaN
    return list(found.values())


# --- trackio --------------------------------------------------------------------------------------


def _trackio(path: Path, skipped: Skipped) -> list[Run]:
    files = [path] if path.is_file() else sorted(p for p in path.glob("*.db") if p.is_file() and not p.is_symlink())
    if not files:
        raise ValueError(f"file: {path.name} has no PROJECT.db in it; give trackio's folder or one of its files")
    return [run for file in files for run in _trackio_project(file, skipped)]


def _trackio_project(path: Path, skipped: Skipped) -> list[Run]:
    """Runs of one project. Older files know a run by its name alone."""
    with _asked(path, {"metrics", "configs"}) as ask:
        has_ids = any(column[1] == "run_id" for column in ask("PRAGMA table_info(metrics)"))
        key = "run_id" if has_ids else "run_name"
        found: dict[str, Run] = {}
        for run_key, name, config in ask(f"SELECT {key}, run_name, config FROM configs"):  # noqa: S608  # one of two words
            found[run_key] = _trackio_run(path, str(name), _object(config))
        for run_key, name, at, said in ask(f"SELECT {key}, run_name, timestamp, metrics FROM metrics ORDER BY id"):  # noqa: S608
            run = found.setdefault(run_key, Run(name=str(name), extras={"project": path.stem}))
            if (metrics := _object(said)) is None:
                skipped.append((f"{name} at {at}", "its metrics are no JSON object"))
                continue
            for metric, value in metrics.items():
                if isinstance(value, int | float | str) and not isinstance(value, bool):
                    _log(run, metric, _float(str(value)))  # trackio writes NaN as a string
            _stamped(run, str(at))
    return list(found.values())


def _trackio_run(path: Path, name: str, config: dict[str, Any] | None) -> Run:
    return Run(name=name, settings=config or {}, extras={"project": path.stem})


def _stamped(run: Run, at: str) -> None:
    try:
        seconds = datetime.fromisoformat(at).timestamp()
    except ValueError:
        return
    run.started_s = run.started_s or seconds
    run.train_s = seconds - run.started_s or None


def _object(said: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(said)
    except (ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# --- databases ------------------------------------------------------------------------------------


@contextmanager
def _asked(path: Path, needed: set[str]) -> Iterator[Callable[[str], sqlite3.Cursor]]:
    """How to ask a foreign SQLite file: read-only, its schema not trusted, and for ASK_S seconds in all."""
    if path.is_symlink() or not path.is_file():
        raise ValueError(f"file: there is no file {path.name}")
    until = time.monotonic() + ASK_S
    address = f"file:{quote(str(path.resolve()))}?mode=ro"
    if not (wal := path.with_name(f"{path.name}-wal")).is_file() or not wal.stat().st_size:
        address += "&immutable=1"  # nobody writes to it; else SQLite would lay two files beside it to read it
    with closing(sqlite3.connect(address, uri=True, timeout=5)) as database:
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA query_only = ON")
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_SERIES_FILE)
        database.text_factory = lambda raw: raw.decode(errors="replace")
        database.set_progress_handler(lambda: time.monotonic() > until, 100_000)
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if lacking := sorted(needed - tables):
            raise ValueError(f"file: {path.name} has no table {', '.join(lacking)}; is it a file of this tracker?")
        yield database.execute
