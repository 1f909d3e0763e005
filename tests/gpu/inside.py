"""A training process at any level of the sandbox, started as the worker starts it, and what it said."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from gpu_runner import sandbox
from gpu_runner.process.child import Child, Lines
from gpu_runner.worker.compile_cache import FOLDER
from gpu_runner.worker.parts import HARNESS
from tests.gpu.machine import DEVICE, IS_DRY_RUN
from tests.gpu_runner.training import TINY, Heard, make_run_dir

LINE_BYTES = 1 << 20
# What a small campaign on a GPU would train; each process compiles it, so it is not deeper than it must be.
SMALL: dict[str, Any] = (
    TINY
    if IS_DRY_RUN
    else {"depth": 6, "aspect": 64, "head_dim": 128, "seq_len": 1024, "batch_size": 64, "ngram_rows": 65536}
)


def run_dir(folder: Path, corpus: Path, *, seconds: float, **over: Any) -> Path:
    """A run folder of the shipped recipe for so many seconds of training, compiled on a GPU."""
    spec: dict[str, Any] = {
        "budget": {"kind": "seconds", "amount": seconds},
        "max_steps": None,
        "overrides": SMALL,
        "threads": None,
        "device": DEVICE,
        "compile": "never" if IS_DRY_RUN else "always",
    }
    return make_run_dir(folder, corpus, **(spec | over))


def train_at(level: str, folder: Path, corpus: Path, *, kernels: Path | None = None) -> Heard:
    """Train in ``folder`` until it ends; ``kernels``: the run folder whose compiled kernels are at hand."""
    if kernels is not None and (kernels / "out" / FOLDER).is_dir():
        shutil.copytree(kernels / "out" / FOLDER, folder / "out" / FOLDER)
    said: list[bytes] = []
    told: list[bytes] = []
    hearing, speaking = os.pipe()
    seen = (folder / "source", folder / "spec.json", corpus / "train")
    with (
        sandbox.Cell(level=level, read_only=seen, writable=folder / "out") as cell,
        Child(
            cell.argv([*HARNESS, str(folder), "--report-fd", str(speaking)]),
            env=sandbox.child_environment(),
            cwd=folder,
            stdout=Lines(lambda line: None, LINE_BYTES),
            stderr=Lines(lambda line: told.append(line or b"(long)"), LINE_BYTES),
            pass_fds=(speaking,),
            extra={hearing: Lines(lambda line: said.append(line or b"{}"), LINE_BYTES)},
        ) as child,
    ):
        code = child.follow(lambda: None)
    return Heard(code, [json.loads(line) for line in said], b"\n".join(told).decode(errors="replace"))


def tokens_per_s(heard: Heard) -> float:
    """By the run's own clock, which leaves compiling and the checkpoint out."""
    assert heard.code == 0, heard.stderr[-3_000:] or heard.ended
    return float(heard.ended["num_tokens"] / heard.ended["train_s"])
