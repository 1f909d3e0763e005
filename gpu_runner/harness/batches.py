"""The same text in the same order for every run of a seed, whatever the proposal changed.

Runs are compared in pairs of one seed, so the order may depend on nothing but seed and ``seq_len``:
not on the model's randomness, the batch size or the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from gpu_runner.corpus import Manifest
from gpu_runner.harness.failures import DatasetMissing, RecipeError

Tokens = np.memmap[tuple[int], np.dtype[np.uint8]]


def open_shard(folder: Path, split: str, manifest: Manifest) -> Tokens:
    """A split's bytes as a memory map, [N] uint8. Raises DatasetMissing."""
    path = folder / f"{split}.bin"
    try:
        tokens: Tokens = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise DatasetMissing(f"{path}: {error}") from error
    expected = manifest.splits[split].num_bytes
    if len(tokens) != expected:
        raise DatasetMissing(f"{path}: {len(tokens):,} bytes where the manifest says {expected:,}")
    return tokens


def load_pinned_manifest(folder: Path, pinned_sha256: str) -> Manifest:
    """The manifest beside the shards, if it is the approved one. Raises DatasetMissing."""
    from gpu_runner import corpus

    try:
        found = corpus.manifest_sha256(folder)
    except ValueError as error:
        raise DatasetMissing(str(error)) from error
    if found != pinned_sha256:
        raise DatasetMissing(f"{folder}: holds dataset {found[:12]}, but {pinned_sha256[:12]} was approved")
    return corpus.load_manifest(folder)


def row_starts(num_tokens: int, seq_len: int, seed: int) -> Iterator[int]:
    """Where rows begin, for ever. An epoch is every row once, in shuffled order, from a fresh phase."""
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        phase = int(rng.integers(seq_len))
        num_rows = (num_tokens - phase - 1) // seq_len  # 1: the last row's last target
        for row in rng.permutation(num_rows):
            yield phase + int(row) * seq_len


class Batches:
    """Iterator over (inputs, targets), each [B, T] int64 on the run's device; targets are one further."""

    def __init__(
        self, tokens: Tokens, *, batch_size: int, seq_len: int, seed: int, device: str, drawn: Callable[[int], None]
    ) -> None:
        if len(tokens) < 2 * seq_len + 1:
            raise RecipeError(f"seq_len: {seq_len} is too long for {len(tokens):,} tokens of training text")
        self.tokens, self.batch_size, self.seq_len, self.device = tokens, batch_size, seq_len, device
        self.drawn = drawn
        self.starts = row_starts(len(tokens), seq_len, seed)
        self.offsets = np.arange(seq_len + 1)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        starts = np.fromiter(self.starts, dtype=np.int64, count=self.batch_size)
        rows = torch.from_numpy(self.tokens[starts[:, None] + self.offsets])  # [B, T + 1] uint8
        if self.device == "cuda":  # a byte a token over the bus, and the host does not wait for it
            rows = rows.pin_memory().to("cuda", non_blocking=True)
        rows = rows.long()
        self.drawn(self.batch_size * self.seq_len)
        return rows[:, :-1], rows[:, 1:]

    def dummy(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of the same shape and strides that is no text: for warming up before the clock starts."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(0, 256, (self.batch_size, self.seq_len + 1), generator=generator).to(self.device)
        return rows[:, :-1], rows[:, 1:]
