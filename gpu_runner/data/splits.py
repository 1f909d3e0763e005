"""Which split a document belongs to by its hash, and the writer of a split's shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gpu_runner.data.manifest import FOLDER, HELD_OUT, SPLITS, WIDTH, Dtype, Shard, Split
from gpu_runner.data.tokens import Ids, TokenBytes

# Upper bounds, in thousandths of the hash space: watch 2 %, val 6 %, sealed 5 %, train the rest.
SHARES = (("watch", 20), ("val", 80), ("sealed", 130), ("train", 1000))
HELD_OUT_SHARE = 130
HELD_OUT_BYTES = 200_000_000  # of a source larger than this needs, less is held out: hashed at every scoring
SHARD_BYTES = 200_000_000
ROW_TOKENS = 256  # of the recipe as it comes (seq_len in its recipe.toml); a test holds it to that


def thinning(num_bytes: int) -> int:
    """n: of documents that would be held out, one in n is, so that the three splits stay HELD_OUT_BYTES together."""
    return max(1, ceil(num_bytes * HELD_OUT_SHARE / 1000 / HELD_OUT_BYTES))


def split_of(text: bytes, *, held_out: bool | None, thinned_by: int) -> str:
    """The split of a document, by the sha256 of its bytes, within what its source says of it (``held_out``)."""
    if held_out is False:
        return "train"
    digest = sha256(text).hexdigest()
    place = int(digest[:8], 16) % (HELD_OUT_SHARE if held_out else 1000)
    split = next(split for split, bound in SHARES if place < bound)
    is_thinned_out = held_out is None and int(digest[8:16], 16) % thinned_by
    return "train" if is_thinned_out else split


def watched_or_trained(text: bytes) -> str:
    """The split of a document that may go to neither val nor sealed."""
    return "watch" if split_of(text, held_out=None, thinned_by=1) == "watch" else "train"


class SplitWriter:
    """Shards of one split, written as tokens come and hashed on the way."""

    def __init__(self, home: Path, split: str, dtype: Dtype, token_bytes: TokenBytes | None) -> None:
        self.folder, self.split = home / FOLDER[split], split
        self.mode = 0o644 if FOLDER[split] == "train" else 0o600
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.room = SHARD_BYTES // WIDTH[dtype]  # tokens of one shard
        self.token_bytes = token_bytes
        self.shards: list[Shard] = []
        self.num_bytes = self.num_documents = self.num_in_shard = self.largest_id = 0
        self.file: BinaryIO | None = None

    def append(self, tokens: Ids, *, num_bytes: int, num_documents: int) -> None:
        """Write ``tokens`` [N], which stand for ``num_bytes`` of text and end ``num_documents`` documents."""
        self.num_bytes += num_bytes
        self.num_documents += num_documents
        body = tokens.astype(self.dtype, copy=False)
        while len(body):
            fits = self.room - self.num_in_shard
            self._write(body[:fits])
            body = body[fits:]

    def _write(self, tokens: Ids) -> None:
        if self.file is None:
            self.path = self.folder / f"{self.split}-{len(self.shards):05}.bin"
            self.file, self.digest = open(self.path, "wb"), sha256()  # noqa: SIM115  # closed by _end_shard
        self.file.write(tokens.data)
        self.digest.update(tokens.data)
        self.num_in_shard += len(tokens)
        if self.num_in_shard == self.room:
            self._end_shard()

    def _end_shard(self) -> None:
        assert self.file is not None
        close_durably(self.file, self.mode)
        self.file = None
        shard = Shard(file=self.path.name, num_tokens=self.num_in_shard, sha256=self.digest.hexdigest())
        self.shards.append(shard)
        self.num_in_shard = 0

    def close(self, *, counts_documents: bool) -> Split:
        """The finished Split. ValueError when it is empty, or too short for a row."""
        if self.file is not None:
            self._end_shard()
        if not self.shards:
            raise ValueError(
                f"--from: no document fell to the split {self.split!r}; some hundred documents are enough, so give"
                " more, or cut long files into several"
            )
        num_tokens = sum(shard.num_tokens for shard in self.shards)
        if num_tokens < (wanted := fewest_tokens(self.split, ROW_TOKENS)):
            raise ValueError(
                f"--from: the split {self.split!r} would have {num_tokens:,} tokens, too few for rows of {ROW_TOKENS},"
                f" which need {wanted:,}; give more {'text' if self.split == 'train' else 'text that can be held out'}"
            )
        return Split(
            shards=tuple(self.shards),
            num_tokens=num_tokens,
            num_bytes=None if self.token_bytes is None else self.num_bytes,
            num_documents=self.num_documents if counts_documents else None,
        )

    def drop(self) -> None:
        """Close the file of an unfinished shard."""
        if self.file is not None:
            self.file.close()


def fewest_tokens(split: str, seq_len: int) -> int:
    """Tokens that rows of ``seq_len`` need: one for the last target, and in train a second row for the random phase."""
    return (2 * seq_len if split == "train" else seq_len) + 1


def close_durably(file: BinaryIO, mode: int) -> None:
    """Close a file that has to outlive a power cut."""
    with file:
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), mode)


@contextmanager
def open_writers(home: Path, dtype: Dtype, token_bytes: TokenBytes | None) -> Iterator[dict[str, SplitWriter]]:
    """A writer for each split. Held-out folders are closed to everybody else."""
    for folder, mode in (("train", 0o755), ("val", 0o700), ("sealed", 0o700)):
        (home / folder).mkdir()
        (home / folder).chmod(mode)
    with ExitStack() as unfinished:
        writers = {split: SplitWriter(home, split, dtype, token_bytes) for split in SPLITS}
        for writer in writers.values():
            unfinished.callback(writer.drop)
        yield writers


def held_out_bounds(total: int) -> dict[str, tuple[int, int]]:
    """Where each held-out split begins and ends, in the usual shares, in tokens whose documents are not marked."""
    ends = [total * bound // HELD_OUT_SHARE for split, bound in SHARES if split in HELD_OUT]
    return dict(zip(HELD_OUT, pairwise([0, *ends]), strict=True))
