"""Alice's model is scored by what it learned before the clock ended: one that learns on while it is scored is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpu_runner import effort, identity
from gpu_runner.contract import Effort, Score
from gpu_runner.data.prepare import prepare
from gpu_runner.effort import Allowed, Efforts, Stages, Weights
from gpu_runner.harness import checkpoint
from gpu_runner.model_process import ModelFailed
from gpu_runner.sandbox import Cell, Spent, cgroups, child_environment
from tests.gpu_runner import zoo
from tests.gpu_runner.test_score import make_model, measure
from tests.sandbox import trials

NUM_STEPS = 900  # 1.3 s
SMALL = Weights(num_bytes=4 << 20, num_numbers=1 << 20, other_bytes=1_000)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("datasets"))


def learner(folder: Path, name: str, num_steps: int = NUM_STEPS) -> Path:
    build, forward, after = zoo.trains(name, num_steps)
    made = make_model(folder, build=build, forward=forward)
    train = made / "source" / "train.py"
    train.write_text(train.read_text() + after)
    return made


def short(folder: Path, dataset: Path, **over: object) -> Score:
    return measure(folder, dataset, **({"num_challenges": 16} | over))


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning for a second is enough to be met."""
    monkeypatch.setattr(effort, "START_STARTS", 0.4)
    monkeypatch.setattr(effort, "LATER_STARTS", 0.4)


# --- training while being scored ------------------------------------------------------------------


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("name", zoo.TRAINS)
def test_a_model_that_trains_while_it_is_scored_is_disputed(dataset: Path, tmp_path: Path, name: str) -> None:
    measured = short(learner(tmp_path / "run", name), dataset)
    assert measured.outcome == "disputed", measured
    assert measured.val_bpb is not None and measured.val_bpb < 7, "what it would have gained"
    assert measured.evidence is not None and measured.evidence.num_apart == 0, "no answer gives it away"
    assert measured.effort is not None
    assert measured.effort.over == ["later" if "every answer" in name else "start"]
    assert "Training ends when the clock does" in measured.reasons[0]
