"""A folder of somebody who trains by hand, and the real command in a real process or in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpu_runner import __main__
from tests.gpu_runner.training import PATIENCE_S, RECIPE, TINY

PROJECT = RECIPE.parents[2]
BUDGET = "tokens = 16_000"  # 125 steps of 128 tokens
STEP = "        x, y = next(batches)  # each [B, T] int64\n"


@dataclass(frozen=True)
class Place:
    """A folder of Dana's, with specs in it, and where datasets lie."""

    folder: Path
    datasets: Path

    @property
    def environment(self) -> dict[str, str]:
        here = {"COUNTERSIGN_DATASETS": str(self.datasets), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        return os.environ | here | {"PYTHONWARNINGS": "error"}

    def spec(self, name: str = "tiny", *, recipe: str = "gpt", budget: str = BUDGET, machine: str = "") -> Path:
        knobs = "\n".join(f"{key} = {json.dumps(value)}" for key, value in TINY.items())
        how = f'device = "cpu"\nthreads = 1\nsnapshot_every_s = 0.3\n{machine}'
        text = f'recipe = "{recipe}"\ndataset = "stdlib"\n[budget]\n{budget}\n[overrides]\n{knobs}\n[machine]\n{how}\n'
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return path

    def recipe(self, name: str, step: str) -> str:
        """A recipe of Dana's own: the shipped one with ``step`` before every step of the training loop."""
        folder = self.folder / name
        folder.mkdir()
        for file in ("recipe.toml", "kernels.py", "fp8.py", "attention.py"):
            (folder / file).write_text((RECIPE / file).read_text())
        text = (RECIPE / "train.py").read_text()
        assert text.count(STEP) == 1
        (folder / "train.py").write_text(text.replace(STEP, f"        {step}\n{STEP}"))
        return name

    def train(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gpu_runner", "train", *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    @contextmanager
    def training(self, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs. What a test leaves running is killed."""
        process = subprocess.Popen(
            [sys.executable, "-m", "gpu_runner", "train", *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


@dataclass(frozen=True)
class Refusals:
    """``refused(place, *words)``: the one sentence with which the command refuses, run in this process."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, place: Place, *words: str | Path) -> str:
        self.monkeypatch.chdir(place.folder)
        self.monkeypatch.setenv("COUNTERSIGN_DATASETS", str(place.datasets))
        assert __main__.main(["train", *map(str, words)]) == 2
        said = self.capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        return said.err
