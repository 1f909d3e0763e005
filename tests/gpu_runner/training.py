"""A run folder as the worker makes one, and the real harness in a real process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_runner import contract
from gpu_runner.data.manifest import manifest_sha256
from tests import warm

RECIPE = Path(contract.__file__).parents[1] / "recipes" / "gpt"
# Trains a step in a few milliseconds; everything else as shipped.
TINY: dict[str, Any] = {"depth": 2, "aspect": 32, "head_dim": 32, "ngram_rows": 1024, "seq_len": 32, "batch_size": 4}
PATIENCE_S = 120


def make_spec(dataset: Path, **over: Any) -> dict[str, Any]:
    return {
        "run_id": 7,
        "seed": 1,
        "budget": {"kind": "tokens", "amount": 10_000},
        "overrides": TINY,
        "dataset_dir": str(dataset / "train"),
        "dataset_sha256": manifest_sha256(dataset),
        "max_steps": 5,
        "threads": 1,
        "device": "cpu",
    } | over


def make_run_dir(folder: Path, dataset: Path, *, edits: tuple[tuple[str, str], ...] = (), **over: Any) -> Path:
    """source/ with the shipped recipe, each edit's text replaced once, and spec.json."""
    shutil.copytree(RECIPE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    train = folder / "source" / "train.py"
    for old, new in edits:
        text = train.read_text()
        assert text.count(old) == 1, old
        train.write_text(text.replace(old, new))
    (folder / "out").mkdir()
    (folder / "spec.json").write_text(json.dumps(make_spec(dataset, **over)))
    return folder


@dataclass(frozen=True)
class Heard:
    """What a harness process said until it ended."""

    code: int
    lines: list[dict[str, Any]]
    stderr: str

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def ended(self) -> dict[str, Any]:
        assert self.lines, self.stderr
        assert self.lines[-1]["kind"] == "ended", self.stderr
        return self.lines[-1]

    def curve(self, metric: str) -> list[float]:
        return [p["metrics"][metric] for p in self.of("point") if metric in p["metrics"]]


Line = dict[str, Any]


def after(step: int) -> Callable[[Line], bool]:
    """Whether a line speaks of that step or a later one."""
    return lambda line: line.get("step", 0) >= step


def listen(
    run_dir: Path,
    *,
    ending: tuple[Callable[[Line], object], int] | None = None,
    before: Sequence[str] = (),
    **environment: str,
) -> Heard:
    """Run the harness in a process of its own until it ends; ``ending`` is (on which line, the signal that it gets).

    It is forked from one that has torch, unless ``before`` stands before its command line.
    """
    reading, writing = os.pipe()
    argv = [*before, sys.executable, "-m", "gpu_runner.harness", str(run_dir), "--report-fd", str(writing)]
    process = warm.Popen(
        argv,
        pass_fds=(writing,),
        cwd=RECIPE.parents[2],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    os.close(writing)
    heard: list[dict[str, Any]] = []
    with os.fdopen(reading) as lines:
        for line in lines:
            heard.append(json.loads(line))
            if ending and ending[0](heard[-1]):
                process.send_signal(ending[1])
                ending = None
    _, stderr = process.communicate(timeout=PATIENCE_S)
    return Heard(process.returncode, heard, stderr)


def listen_to_team(run_dir: Path, size: int) -> Heard:
    """The same with ``size`` processes under torchrun."""
    reports = run_dir / "out" / "reports"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    ran = subprocess.run(
        [*launcher, "-m", "gpu_runner.harness", str(run_dir), "--report-to", str(reports)],
        cwd=RECIPE.parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    heard = [json.loads(line) for line in reports.read_text().splitlines()] if reports.exists() else []
    return Heard(ran.returncode, heard, ran.stderr)
