"""The same text in the same order for every run of a seed, whatever the proposal changed.

Runs are compared in pairs of one seed, so the order may depend on nothing but seed and ``seq_len``:
not on the model's randomness, the batch size, the device, or over how many processes a batch is spread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from gpu_runner.corpus import Manifest
from gpu_runner.harness.failures import BadOverride, DatasetMissing, RecipeError

Tokens = np.memmap[tuple[int], np.dtype[np.uint8]]


class Dataset:
    """What a run may read, as its approval pinned it. Raises DatasetMissing."""

    def __init__(self, folder: Path, pinned_sha256: str) -> None:
        manifest = load_pinned_manifest(folder, pinned_sha256)
        self.vocab = manifest.vocab
        self.separator: int | None = 0  # the byte behind every document
        self.bytes_per_token: float | None = 1.0
        self.train = open_shard(folder, "train", manifest)
        self.watch = open_shard(folder, "watch", manifest)


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
    """Iterator over (inputs, targets), each [B, T] int64 on the run's device; targets are one further.

    ``batch_size`` rows are drawn for all ``world_size`` processes together; process ``rank`` is given every
    so manyth of them. Raises BadOverride when they cannot be shared evenly.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seq_len: int,
        seed: int,
        device: str,
        drawn: Callable[[int], None],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise BadOverride(f"batch_size: {batch_size} rows cannot be shared evenly by {world_size} processes")
        if len(dataset.train) < 2 * seq_len + 1:
            raise RecipeError(f"seq_len: {seq_len} is too long for {len(dataset.train):,} tokens of training text")
        self.tokens, self.vocab = dataset.train, dataset.vocab
        self.batch_size, self.seq_len, self.device, self.drawn = batch_size, seq_len, device, drawn
        self.mine = slice(rank, None, world_size)
        self.starts = row_starts(len(self.tokens), seq_len, seed)
        self.offsets = np.arange(seq_len + 1)
        self.num_rows = 0  # drawn so far, by all processes together
        self.wait_s = 0.0  # for which training has waited here

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        began = time.monotonic()
        starts = np.fromiter(self.starts, dtype=np.int64, count=self.batch_size)[self.mine]
        rows = torch.from_numpy(self.tokens[starts[:, None] + self.offsets])  # [B, T + 1] uint8
        if self.device == "cuda":  # a byte a token over the bus, and the host does not wait for it
            rows = rows.pin_memory().to("cuda", non_blocking=True)
        rows = rows.long()
        self.num_rows += self.batch_size
        self.drawn(self.batch_size * self.seq_len)
        self.wait_s += time.monotonic() - began
        return rows[:, :-1], rows[:, 1:]

    def seek(self, num_rows: int) -> None:
        """Go on as if so many rows had been drawn already."""
        self.num_rows += sum(1 for _ in islice(self.starts, num_rows - self.num_rows))

    def dummy(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of the same shape and strides that is no text: for warming up before the clock starts."""
        generator = torch.Generator().manual_seed(0)
        num_mine = len(range(self.batch_size)[self.mine])
        rows = torch.randint(0, self.vocab, (num_mine, self.seq_len + 1), generator=generator).to(self.device)
        return rows[:, :-1], rows[:, 1:]
