"""The order in which a seed reads the training text.

numpy alone: the worker, which hands the text out, loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def row_starts(num_tokens: int, seq_len: int, seed: int, first: int = 0) -> Iterator[int]:
    """Starts of rows without end, from the ``first`` on. An epoch is every row once, shuffled, from a fresh phase."""
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        phase = int(rng.integers(seq_len))
        num_rows = (num_tokens - phase - 1) // seq_len  # 1: the last row's last target
        order = rng.permutation(num_rows)
        for row in order[first:]:
            yield phase + int(row) * seq_len
        first = max(first - num_rows, 0)


def even_starts(num_tokens: int, length: int, num_rows: int) -> list[int]:
    """Starts of ``num_rows`` rows of ``length`` tokens, evenly spaced over the text."""
    return [int(start) for start in np.linspace(0, num_tokens - length, max(num_rows, 1)).astype(np.int64)]
