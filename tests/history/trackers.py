"""Files in the formats that trackers leave, written by our own hand: see ``research.history.stores``."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

BLOCK = 32_768

# --- Weights & Biases -----------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """One field of a protocol buffer: a whole number, a double, or what has a length."""
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    body = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(body)) + body


def items(named: dict[str, Any], *, typed: bool = False) -> bytes:
    """Update items: as JSON, as all versions write settings; or ``typed``, as 0.31 writes a history."""
    written = b""
    for name, value in named.items():
        told = field(6, float(value)) if typed else field(16, json.dumps(value))
        written += field(1, field(1, name) + told)
    return written


def run_file(
    name: str,
    config: dict[str, Any],
    history: Sequence[dict[str, float]],
    *,
    exit_code: int | None = 0,
    notes: str = "",
    typed: bool = False,
) -> bytes:
    """A run-ID.wandb with a run, its history and, unless it was killed, its end."""
    records = [field(17, field(1, "abc") + field(4, items(config)) + field(8, name) + field(9, notes))]
    records += [field(2, items(dict(row), typed=typed)) for row in history]
    if exit_code is not None:
        records.append(field(18, field(1, exit_code)))
    log = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        _append(log, record)
    return bytes(log)


def _append(log: bytearray, record: bytes) -> None:
    """In pieces, where it does not fit into the rest of a block."""
    first = True
    while first or record:
        room = BLOCK - len(log) % BLOCK - 7
        if room < 0:
            log += bytes(BLOCK - len(log) % BLOCK)
            continue
        piece, record = record[:room], record[room:]
        kind = (1 if not record else 2) if first else (4 if not record else 3)
        log += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
        first = False


# --- MLflow ---------------------------------------------------------------------------------------

SERIES = dict[str, list[float]]


def mlflow_run(folder: Path, key: str, *, status: int = 3, start: int = 0, stage: str = "active", **about: Any) -> None:
    """A run of MLflow's file store: ``params``, ``metrics`` (series) and ``tags``."""
    run = folder / "641" / key
    run.mkdir(parents=True)
    (folder / "641" / "meta.yaml").write_text("experiment_id: '641'\nlifecycle_stage: active\nname: demo\n")
    (run / "meta.yaml").write_text(
        f"end_time: {start + 60_000}\nlifecycle_stage: {stage}\nrun_id: {key}\nrun_name: {about.get('name', key)}\n"
        f"start_time: {start}\nstatus: {status}\n"
    )
    for kind in ("params", "tags"):
        for name, value in about.get(kind, {}).items():
            _put(run / kind / name, str(value))
    for name, series in about.get("metrics", {}).items():
        _put(run / "metrics" / name, "".join(f"{start + i} {value} {i}\n" for i, value in enumerate(series)))


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mlflow_database(path: Path, runs: dict[str, SERIES]) -> None:
    """MLflow's SQL store, with the columns that are read. It writes NaN as 0 with a mark, infinity as a huge number."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE runs (run_uuid, name, status, start_time BIGINT, end_time BIGINT, lifecycle_stage);"
            "CREATE TABLE params (key, value, run_uuid); CREATE TABLE tags (key, value, run_uuid);"
            "CREATE TABLE metrics (key, value FLOAT, run_uuid, step, is_nan BOOLEAN);"
            "CREATE TABLE latest_metrics (key, value FLOAT, run_uuid, step, is_nan BOOLEAN);"
        )
        for place, (key, series) in enumerate(runs.items()):
            database.execute(
                "INSERT INTO runs VALUES (?, ?, 'FINISHED', ?, ?, 'active')", (key, f"run {key}", place, place + 9_000)
            )
            database.execute("INSERT INTO params VALUES ('lr', ?, ?)", (str(place), key))
            for name, values in series.items():
                rows = [
                    (name, 0.0 if v != v else min(v, 1.7976931348623157e308), key, i, v != v)
                    for i, v in enumerate(values)
                ]
                database.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?)", rows)
                database.execute("INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?)", rows[-1])
        database.commit()


# --- trackio --------------------------------------------------------------------------------------


def trackio_project(path: Path, runs: dict[str, list[dict[str, Any]]], *, ids: bool = True) -> None:
    """A project's file; ``ids`` False: as older versions write it, where a run is known by its name."""
    more = "run_id TEXT, " if ids else ""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            f"CREATE TABLE metrics (id INTEGER PRIMARY KEY, {more}timestamp TEXT, run_name TEXT, step, metrics TEXT);"
            f"CREATE TABLE configs (id INTEGER PRIMARY KEY, {more}run_name TEXT, config TEXT, created_at TEXT);"
        )
        for name, rows in runs.items():
            key = ("run_id, ", (f"id of {name}",)) if ids else ("", ())
            config = json.dumps({"lr": len(rows), "nested": {"depth": 4}, "_Username": None}).encode()
            database.execute(
                f"INSERT INTO configs ({key[0]}run_name, config, created_at) VALUES ({'?, ' * len(key[1])}?, ?, '')",
                (*key[1], name, config),
            )
            for step, row in enumerate(rows):
                at = f"2026-11-30T02:39:{step:02d}.000000+00:00"
                said = json.dumps({k: "NaN" if v != v else v for k, v in row.items()}).encode()
                database.execute(
                    f"INSERT INTO metrics ({key[0]}timestamp, run_name, step, metrics) "
                    f"VALUES ({'?, ' * len(key[1])}?, ?, ?, ?)",
                    (*key[1], at, name, step, said),
                )
        database.commit()
