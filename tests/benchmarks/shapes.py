"""Sizes that are measured on a CPU."""

from __future__ import annotations

import math

from tests.benchmarks.measuring import Rounds
from tests.benchmarks.order import Shape

BYTES = {"depth": 4, "width": 128, "head_dim": 64, "vocab": 256}


SHAPES = {
    "T128-B16": Shape(**BYTES, seq_len=128, batch_rows=16, micro_rows=16),
    "T256-B8": Shape(**BYTES, seq_len=256, batch_rows=8, micro_rows=8),
}


def learns(one: Rounds) -> bool:
    """Every loss is a number, and training has brought it below that of guessing."""
    losses = one.of("loss").values
    return all(math.isfinite(loss) for loss in losses) and losses[-1] < 0.8 * math.log(256)
