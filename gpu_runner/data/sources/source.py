"""What every source gives: documents of text, or files of tokens, read piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.manifest import WIDTH, Dtype
from gpu_runner.data.tokenizers.encoder import MAX_VOCAB
from gpu_runner.data.tokens import Ids

PIECE_TOKENS = 1 << 22  # read at once from a file of tokens

Facts = dict[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text. ``held_out``, or more exactly ``split``, is what the source says of it; None where it says nothing."""

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
    """Tokens in a file after ``offset`` bytes of something else, each ``stored`` as numpy names it (``<u2``)."""

    path: Path
    offset: int
    num_tokens: int
    stored: str

    def at(self, place: int) -> int:
        """The token at ``place``; -1 is the last."""
        itemsize = np.dtype(self.stored).itemsize
        start = self.offset + (place % self.num_tokens) * itemsize
        with open(self.path, "rb") as file:
            file.seek(start)
            token = np.fromfile(file, dtype=self.stored, count=1)
        self._refuse_what_is_no_token(token)
        return int(token[0])

    def pieces(self) -> Iterator[Ids]:
        """The tokens in order, at most PIECE_TOKENS at once, in the type that ``kept_as`` gives.

        ValueError for a number that no token can have.
        """
        left, kept = self.num_tokens, np.dtype(kept_as(self.stored)).newbyteorder("<")
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            while left:
                tokens = np.fromfile(file, dtype=self.stored, count=min(left, PIECE_TOKENS))
                if not len(tokens):
                    raise ValueError(f"{self.path}: ended while it was read; do not write to it meanwhile")
                self._refuse_what_is_no_token(tokens)
                left -= len(tokens)
                yield tokens.astype(kept, copy=False)

    def _refuse_what_is_no_token(self, tokens: npt.NDArray[Any]) -> None:
        """ValueError for a number that is no token, before a narrower type would turn it into one."""
        if np.iinfo(tokens.dtype).max < MAX_VOCAB and np.iinfo(tokens.dtype).min == 0:
            return
        if (lowest := int(tokens.min())) < 0:
            way_out = "where it fills rows up or masks a loss, write the file again without it"
            if np.dtype(self.stored).itemsize == 2:
                way_out = "numbers of 16 bits with a sign end at 32,767; write the file again as uint16 or uint32"
            raise ValueError(f"{self.path}: holds {lowest:,}, which is no token: {way_out}")
        if (highest := int(tokens.max())) >= MAX_VOCAB:
            raise ValueError(
                f"{self.path}: holds the token {highest:,}; at most {MAX_VOCAB:,} tokens can be trained and scored. If"
                " the tokenizer that made it has fewer, the file is of another width than it is read in (--dtype)"
            )


def kept_as(stored: str) -> Dtype:
    """The narrowest shard type for tokens of this stored type."""
    kept: dict[str, Dtype] = {"u1": "uint8", "u2": "uint16"}
    return kept.get(np.dtype(stored).newbyteorder("=").str[1:], "uint32")


@dataclass(frozen=True, kw_only=True)
class TokenSource:
    """Files of tokens in order. ``held_out`` is empty where the source holds nothing out."""

    facts: Facts
    train: tuple[TokenFile, ...]
    held_out: tuple[TokenFile, ...]
    notes: tuple[str, ...] = ()  # said before anything is written: which file became what, and what is left out

    @property
    def files(self) -> tuple[TokenFile, ...]:
        return self.train + self.held_out

    @property
    def dtype(self) -> Dtype:
        """The shard type of the tokens; all files have the same."""
        return kept_as(self.files[0].stored)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tokens in the shard type."""
        return sum(file.num_tokens for file in self.files) * WIDTH[self.dtype]
