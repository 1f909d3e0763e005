"""What a seed is to the generators that a run uses: why it is bounded, and that the streams of one are not the same."""

from __future__ import annotations

import random
from itertools import islice

import pytest
import torch

from gpu_runner.contract import MAX_SEED
from gpu_runner.data.order import row_starts


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
