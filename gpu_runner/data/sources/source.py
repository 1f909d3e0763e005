"""What a source gives: documents of text, or files of tokens. Nothing is held in memory but a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.tokens import Ids

PIECE_TOKENS = 1 << 22  # read at once from a file of tokens

Facts = dict[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text. ``held_out`` and, more exactly, ``split`` are the source's own word; None where it has none."""

    name: str  # for sentences about it
    text: bytes
    held_out: bool | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Documents in an order that is the same on every machine."""

    facts: Facts
    num_bytes: int  # about; what the progress bar and the share that is held out go by
    documents: Callable[[], Iterator[Document]]
    notes: tuple[str, ...] = ()  # said before anything is written: which file became what, and why
    left_out: LeftOut = field(default_factory=LeftOut)  # grows while documents are read


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """Tokens in a file, after ``offset`` bytes of something else."""

    path: Path
    offset: int
    num_tokens: int

    def pieces(self, dtype: str) -> Iterator[Ids]:
        """The tokens in order, at most PIECE_TOKENS at once."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            while len(tokens := np.fromfile(file, dtype=np.dtype(dtype).newbyteorder("<"), count=PIECE_TOKENS)):
                yield tokens


@dataclass(frozen=True, kw_only=True)
class TokenSource:
    """Files of tokens in order. ``held_out`` is empty where the source sets nothing aside."""

    facts: Facts
    dtype: Literal["uint16", "uint32"]
    train: tuple[TokenFile, ...]
    held_out: tuple[TokenFile, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Of the files, without headers."""
        return sum(file.num_tokens for file in (*self.train, *self.held_out)) * np.dtype(self.dtype).itemsize
