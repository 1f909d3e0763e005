"""A split's shards on disk as one long array of tokens; only what is asked for is read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_runner.data.manifest import TOKEN_BYTES, Manifest

Ids = npt.NDArray[np.unsignedinteger[Any]]
Starts = npt.NDArray[np.int64]
Row = npt.NDArray[Any]  # of whatever integers the caller computes with
TokenBytes = npt.NDArray[np.uint16]


class TokenArray:
    """A split's tokens, [N] of the manifest's dtype, over memory-mapped shards in order.

    Raises ValueError that names a shard which is missing or of another length than the manifest says.
    """

    def __init__(self, folder: Path, manifest: Manifest, split: str) -> None:
        self.dtype = np.dtype(manifest.dtype).newbyteorder("<")
        shards = manifest.splits[split].shards
        self._shards = [_map(folder / shard.file, shard.num_tokens, self.dtype) for shard in shards]
        self._ends = list(accumulate(len(shard) for shard in self._shards))

    def __len__(self) -> int:
        return self._ends[-1]

    def rows(self, starts: Sequence[int] | Starts, length: int, out: Row | None = None) -> Row:
        """The tokens [start, start + length) for each start, [B, length]; written to ``out`` where it is given."""
        rows = np.empty((len(starts), length), self.dtype) if out is None else out
        for row, start in zip(rows, starts, strict=True):
            self._fill(row, int(start))
        return rows

    def span(self, start: int, stop: int) -> Ids:
        """The tokens [start, stop), fewer at the end."""
        tokens: Ids = self.rows([start], max(min(stop, len(self)) - start, 0))[0]
        return tokens

    def _fill(self, row: Row, start: int) -> None:
        """Copy from as many shards as the row lies in."""
        assert 0 <= start <= len(self) - len(row), "a row beyond the text"
        i, filled = bisect_right(self._ends, start), 0
        while filled < len(row):
            shard = self._shards[i]
            first = start + filled - (self._ends[i] - len(shard))
            part = shard[first : first + len(row) - filled]
            row[filled : filled + len(part)] = part
            filled, i = filled + len(part), i + 1


def _map(path: Path, num_tokens: int, dtype: np.dtype[Any]) -> Ids:
    """A plain view of the mapped file: np.memmap's own indexing is three times slower."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise ValueError(f"{path}: missing ({error.strerror}); run `python -m gpu_runner data prepare`") from error
    if found != num_tokens * dtype.itemsize:
        wanted = num_tokens * dtype.itemsize
        raise ValueError(f"{path}: {found:,} bytes where the manifest says {wanted:,}; remove and prepare it again")
    try:
        return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def read_token_bytes(train: Path, manifest: Manifest) -> TokenBytes | None:
    """Bytes of text that each token stands for, [V] uint16; None for a dataset without tokenizer. ValueError."""
    about = manifest.tokenizer
    if about.token_bytes_sha256 is None:
        return None
    path = train / TOKEN_BYTES
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: missing ({error.strerror}); run `python -m gpu_runner data prepare`") from error
    if sha256(body).hexdigest() != about.token_bytes_sha256:
        raise ValueError(f"{path}: is not what the manifest says; remove the dataset and prepare it again")
    return np.frombuffer(body, dtype="<u2")
