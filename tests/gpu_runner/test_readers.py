"""What trainers print is read with care: JSON lines, expressions, blocks and event files, from hostile hands."""

from __future__ import annotations

import math
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.command import reading, safely, tensorboard
from gpu_runner.command.readers import Block, Expressions, JsonLines, Reader, number_in
from gpu_runner.contract import Metrics


class Heard:
    """Keeps every point."""

    def __init__(self) -> None:
        self.points: list[tuple[int, int, dict[str, float]]] = []

    def heard(self, step: int, tokens: int, metrics: dict[str, float]) -> None:
        self.points.append((step, tokens, metrics))


def records(reader: Reader, text: str) -> list[dict[str, float]]:
    found = [record for line in text.splitlines() for record in reader.take(line)]
    return [*found, *reader.close()]


def test_json_lines_are_read_and_what_is_none_is_passed_over() -> None:
    text = '{"step": 1, "loss": 2.5, "name": "x", "ok": true, "eval": {"loss": 3}}\nfoo\n{"loss": NaN}\n{bad\n[1]\n'
    first, second = records(JsonLines(), text + '{"huge": 1' + "0" * 400 + "}\n" + "{" * 9_000 + "\n")
    assert first == {"step": 1.0, "loss": 2.5, "eval.loss": 3.0}
    assert math.isnan(second["loss"])


def test_expressions_read_modded_nanogpts_and_transformers_lines() -> None:
    lines = Expressions((r"step:(?P<step>\d+)/\d+ val_loss:(?P<val_loss>[\d.]+)", r"'loss': '?(?P<loss>[\d.e+-]+)"))
    text = "step:125/1770 val_loss:4.5123 train_time:20s\n{'loss': 2.31, 'epoch': 0.1}\n{'loss': '1.5e-01'}\nnothing\n"
    assert records(lines, text) == [{"step": 125.0, "val_loss": 4.5123}, {"loss": 2.31}, {"loss": 0.15}]


def test_a_block_ends_with_the_first_line_that_is_none_or_with_the_run() -> None:
    text = "loss: 3\n---\nval_bpb:   0.997900\npeak_vram_mb:  45,060.2\n\nname: x\ndone!\nlate: 1\n---\nval_bpb: 2\n"
    assert records(Block(), text) == [{"val_bpb": 0.9979, "peak_vram_mb": 45060.2}, {"val_bpb": 2.0}]


@pytest.mark.parametrize(
    ("text", "number"), [("1,234.5", 1234.5), ("-1e-3", -0.001), (".5", 0.5), ("inf", math.inf), ("1.2.3", None),
                         ("x", None), ("", None), ("0x10", None), ("٣", None)],
)  # fmt: skip
def test_a_number_is_a_number(text: str, number: float | None) -> None:
    assert number_in(text) == number


@given(st.text(max_size=200))
def test_no_line_breaks_a_reader(line: str) -> None:
    for reader in (JsonLines(), Block(), Expressions((r"(?P<x>[\d.]+) .* (?P<y>[\d.]+)",))):
        records(reader, "---\n" + line)


# --- event files ------------------------------------------------------------------------------


def event(step: int, **scalars: float) -> bytes:
    """As TensorBoard's writer writes it, checksums left 0."""
    values = b"".join(field(1, field(1, tag.encode()) + b"\x15" + struct.pack("<f", v)) for tag, v in scalars.items())
    body = b"\x09" + struct.pack("<d", 1.0) + b"\x10" + bytes([step]) + field(5, values)
    return struct.pack("<QI", len(body), 0) + body + b"\0" * 4


def field(number: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([number << 3 | 2, len(body)]) + body


def test_event_files_are_read_as_they_grow(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "events.out.tfevents.1"
    file.parent.mkdir()
    whole = event(3, loss=2.5) + event(4, loss=1.5, acc=0.5)
    files = tensorboard.EventFiles(tmp_path, "runs")
    file.write_bytes(whole[:60])
    assert list(files.look()) == [{"loss": 2.5, "step": 3.0}]
    file.write_bytes(whole)
    assert list(files.look()) == [{"loss": 1.5, "acc": 0.5, "step": 4.0}]
    assert list(files.look()) == []
    with file.open("ab") as more:
        more.write(struct.pack("<QI", 2**63, 0))
    assert list(files.look()) == list(files.look()) == []


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader_of_events(body: bytes) -> None:
    assert isinstance(list(tensorboard.records_of(body)), list)


# --- a run ------------------------------------------------------------------------------------


def made(tmp_path: Path, **over: Any) -> tuple[reading.Reading, Heard]:
    for place in reading.PLACES:
        (tmp_path / place).mkdir(exist_ok=True)
    heard = Heard()
    metrics = Metrics(**({"reader": "json_lines", "metric": "val_loss", "loss": "loss", "tokens": "seen"} | over))
    return reading.Reading(metrics, heard, tmp_path), heard


def test_records_become_points_under_the_names_of_pages(tmp_path: Path) -> None:
    run, heard = made(tmp_path, metric="reported_bpb", key="val_bpb")
    for line in (b'{"step": 5, "seen": 100, "loss": 3, "LR (peak)": 0.1}', b'{"val_bpb": 1.5}', b'{"x": 1}', None):
        run.line(line)
    run.close()
    assert heard.points == [
        (5, 100, {"train_loss": 3.0, "lr_peak": 0.1}), (6, 100, {"reported_bpb": 1.5}), (7, 100, {"x": 1.0}),
    ]  # fmt: skip
    assert (run.value, run.num_values, run.num_records) == (1.5, 1, 3)
    other, said = made(tmp_path, metric="acc")
    other.line(b'{"val_bpb": 1.0}')
    assert said.points[0][2] == {"reported_val_bpb": 1.0}, "nobody but the scorer says val_bpb"


def test_a_file_is_read_where_the_trainer_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LOOK_S", 0.0)
    run, _ = made(tmp_path, file="logs/x.jsonl")
    run.line(b'{"val_loss": 9}')
    run.look()
    (tmp_path / "source" / "logs").mkdir()
    (tmp_path / "source" / "logs" / "x.jsonl").write_text('{"val_loss": 2}\n{"val_loss": 1}')
    run.look()
    assert run.value == 2.0
    run.close()
    assert (run.value, run.num_values) == (1.0, 2)


def test_what_is_slow_to_read_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FREE_S", 0.0)
    monkeypatch.setattr(reading, "SHARE", 0.0)
    run, _ = made(tmp_path)
    run.line(b'{"val_loss": 2}')
    assert run.is_slow
    run.line(b'{"val_loss": 1}')
    assert run.value == 2.0
    began = time.process_time()
    slow = Expressions((r"(?P<a>\d*) ?\d*x",))
    records(slow, "1" * 60_000)
    assert time.process_time() - began < 5


def test_no_link_leads_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "in" / "pipe")
    for path in ("link", "up/secret", "../secret", "pipe", "nowhere", "."):
        assert safely.opened(tmp_path / "in", path) is None or path == "../secret"
    assert safely.listed(tmp_path / "in", "up", 9) == []
    assert safely.listed(tmp_path, "in", 9) == ["link", "pipe", "up"]
