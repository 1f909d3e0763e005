"""What a seed is to the generators that a run uses: why it is bounded, and that the streams of one are not the same."""

from __future__ import annotations

import random
from ast import literal_eval
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_runner.contract import MAX_SEED
from gpu_runner.data.order import row_starts
from gpu_runner.data.prepare import prepare
from gpu_runner.harness.warm_up import Compiled, Mode, WarmUp
from tests.gpu_runner.training import listen, make_run_dir


def weights(seed: int) -> list[float]:
    torch.manual_seed(seed)
    return torch.randn(64).tolist()


@pytest.mark.parametrize("seed", [0, 1, 7, MAX_SEED])
def test_torch_reads_the_lower_32_bits_of_a_seed_on_a_cpu(seed: int) -> None:
    """Seen with torch 2.13. Should a later one read more, this bound may go."""
    assert weights(seed) == weights(seed + 2**32) == weights(seed + 2**63)
    assert weights(seed) != weights((seed + 1) % 2**32)


def test_a_seed_below_zero_is_anothers_to_torch_and_to_python() -> None:
    assert weights(-1) == weights(MAX_SEED)
    assert [random.Random(seed).random() for seed in (-3, 3)] == [random.Random(3).random()] * 2


DRAWS = """
    import numpy, random
    drawn = [float(torch.rand(1)), random.random(), float(numpy.random.rand())]
    (run._out / "drawn").write_text(repr(drawn))
    model = build_model("""


def test_all_that_a_recipe_may_draw_from_follows_its_runs_seed(tmp_path: Path) -> None:
    dataset, edit = prepare(tmp_path / "datasets"), ("    model = build_model(", DRAWS)
    folders = [
        make_run_dir(tmp_path / f"run-{i}", dataset, edits=(edit,), seed=seed, max_steps=1)
        for i, seed in enumerate((5, 5, 6))
    ]
    assert [listen(folder).code for folder in folders] == [0, 0, 0]
    first, again, other = (literal_eval((folder / "out" / "drawn").read_text()) for folder in folders)
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize("mode", ["never", "auto"])
def test_dummy_steps_however_many_draw_nothing_that_training_would(mode: Mode) -> None:
    """Whether compiling is tried is told by the clock, and with it how many of them there are."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pipe: Any = None  # nothing is said
    WarmUp([Compiled(torch.rand)], mode=mode, device="cpu", pipe=pipe).take(lambda: torch.rand(3), [], 1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbouring_seeds_share_nothing() -> None:
    """Seeds are counted up, so the generators have to mix them well: no weight and no place in the text in common."""
    drawn = [weights(seed) for seed in range(1, 200)]
    assert len({first for first, *_ in drawn}) == len(drawn)
    correlated = torch.corrcoef(torch.tensor(drawn)).fill_diagonal_(0).abs()
    assert correlated.max().item() < 0.65  # of 19,701 pairs of 64 independent numbers each: 0.5 is usual
    orders = {tuple(islice(row_starts(100_000, 64, seed), 8)) for seed in range(1, 200)}
    assert len(orders) == 199


def test_the_streams_of_one_seed_are_not_the_same() -> None:
    """Weights, the order of the text, and Python's own draws: three generators, each seeded in its own way."""
    torch.manual_seed(5)
    of_torch = torch.rand(32, dtype=torch.float64).tolist()
    of_python = [random.Random(5).random() for _ in range(1)]
    assert not set(of_torch) & set(of_python)
    starts = list(islice(row_starts(1_000_000, 1, 5), 32))
    as_fractions = [start / 1_000_000 for start in starts]
    assert max(abs(a - b) for a, b in zip(of_torch, as_fractions, strict=True)) > 0.1
