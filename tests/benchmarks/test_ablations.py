"""Does each part of the recipe pay? Every one switched off, or changed, over the same seeds at equal tokens.

By tokens and not by seconds, so that other work on the machine changes how long it takes and not what it says; what
a part costs in time stands beside it as a ratio of the training seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gpu_runner.contract import Knobs
from tests.benchmarks.record import ROOT, Record

pytestmark = pytest.mark.benchmark

SEEDS = tuple(range(1, 1 + int(os.environ.get("SEEDS", "3"))))
NUM_TOKENS = 655_360
ONE_RUN_S = 600.0
BASE = "the recipe as it is"
VARIANTS: dict[str, Knobs] = {
    BASE: {},
    "no n-grams": {"ngram_order": 1},
    "n-grams up to 3": {"ngram_order": 3},
    "n-gram tables of 16,384 rows": {"ngram_rows": 16_384},
    "AdamW for the matrices, rate 0.003": {"matrix_optimizer": "adamw", "matrix_lr": 0.003},
    "Newton-Schulz for Polar Express": {"orthogonalizer": "newton_schulz"},
    "no QK-norm": {"qk_norm": False},
    "no smear of the previous token": {"smear": False},
    "no value embeddings": {"value_embeddings": False},
    "no x0 skip": {"x0_skip": False},
    "projections not begun at zero": {"zero_init_proj": False},
    "no soft cap": {"softcap": 0.0},
    "head tied to the embedding": {"tied_head": True},
    "GELU for ReLU²": {"activation": "gelu"},
    "SwiGLU for ReLU²": {"activation": "swiglu"},
    "cool-down over 30 %": {"cooldown_fraction": 0.3},
    "no cool-down": {"cooldown_fraction": 0.0},
    "warm-up over 5 %": {"warmup_fraction": 0.05},
    "momentum 0.95": {"muon_momentum": 0.95},
    "weight decay 0.1, cautious": {"weight_decay": 0.1},
    "gradients clipped to 1": {"grad_clip": 1.0},
    "attention inside a document": {"document_mask": True},
    "4 layers of the same width": {"depth": 4, "aspect": 32},
    "rows of 128 tokens": {"seq_len": 128, "batch_size": 16},
}


def test_what_each_part_of_the_recipe_is_worth(dataset: Path, tmp_path: Path) -> None:
    ended = measure(VARIANTS, dataset, tmp_path)
    assert all(0.5 < run["val_bpb"] < 8 for runs in ended.values() for run in runs)
    base = ended[BASE]
    _publish(ended, [_row(name, runs, base) for name, runs in ended.items()])


def measure(variants: Mapping[str, Knobs], dataset: Path, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """One run a variant and seed, in an order that gives every variant a first run before any has a second."""
    ended: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task("ablations", total=len(variants) * len(SEEDS))
        for seed in SEEDS:
            for name, knobs in variants.items():
                bar.update(task, description=f"{name}, seed {seed}")
                ended[name].append(_train(knobs, seed, dataset, folder))
                bar.advance(task)
    return ended


def _train(knobs: Knobs, seed: int, dataset: Path, folder: Path) -> dict[str, Any]:
    """A run by hand, scored: what ``train --json`` prints of it."""
    spec = folder / f"{time.monotonic_ns()}.toml"
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in knobs.items())
    spec.write_text(
        f'recipe = "gpt"\ndataset = {json.dumps(str(dataset))}\n[budget]\ntokens = {NUM_TOKENS}\n[overrides]\n{lines}\n'
    )
    words = [sys.executable, "-m", "gpu_runner", "train", spec.name, "--seed", str(seed), "--score", "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=ONE_RUN_S)
    assert said.returncode == 0, said.stderr
    numbers: dict[str, Any] = json.loads(said.stdout)["numbers"]
    return numbers


def _row(name: str, runs: list[dict[str, Any]], base: list[dict[str, Any]]) -> tuple[str, ...]:
    bpb = [run["val_bpb"] for run in runs]
    differences = [run["val_bpb"] - other["val_bpb"] for run, other in zip(runs, base, strict=True)]
    times = [run["train_s"] / other["train_s"] for run, other in zip(runs, base, strict=True)]
    spread = statistics.stdev(differences) if len(differences) > 1 and name != BASE else float("nan")
    return (
        name,
        f"{statistics.mean(bpb):.3f}",
        "" if name == BASE else f"{statistics.mean(differences):+.3f}",
        f"{statistics.stdev(bpb):.3f}" if name == BASE and len(bpb) > 1 else f"{spread:.3f}",
        f"{statistics.median(times):.2f}",
    )


def _publish(ended: Mapping[str, list[dict[str, Any]]], rows: list[tuple[str, ...]]) -> None:
    Record(
        name="ablations",
        title=f"Each part of the recipe, {NUM_TOKENS:,} tokens, seeds {SEEDS[0]} to {SEEDS[-1]}",
        columns=("recipe", "bits per byte", "change", "standard deviation", "x seconds"),
        rows=rows,
        notes=[
            f"n = {len(SEEDS)} seeds each; the change is paired by seed, with its standard deviation over seeds (first"
            " row: that of the score itself). Scored by gpu_runner.scorer on the val split.",
        ],
        raw=dict(ended),
    ).publish()
