"""The letters of a dataset's split, in pieces; the bytes of its tokens where the tokenizer is not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpu_runner.data.manifest import FOLDER, Manifest, load_manifest
from gpu_runner.data.tokenizers import stored_table
from gpu_runner.data.tokenizers.encoder import Table
from gpu_runner.data.tokens import Ids, TokenArray
from gpu_runner.leakage.letters import STRETCH, STRIDE, Hashes, at_every_stride, everywhere, letters_of

PIECE_TOKENS = 1 << 20
MAX_TRAIN_TOKENS = 64 << 20  # of the training text, where something was found


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A dataset's text. ``table`` is None where its tokens came without their tokenizer."""

    home: Path
    manifest: Manifest
    table: Table | None

    @classmethod
    def open(cls, home: Path) -> Corpus:
        """Raises ValueError for a dataset that is not whole."""
        manifest = load_manifest(home)
        return cls(home=home, manifest=manifest, table=stored_table(home, manifest.tokenizer))

    def stretches(self, split: str) -> Iterator[Hashes]:
        """Hashes of a held-out split, one for each STRIDE letters."""
        left = b""
        for letters in self._letters(split, None):
            left += letters
            whole = len(left) // STRIDE * STRIDE
            yield at_every_stride(left[:whole])
            left = left[max(0, whole - STRETCH + STRIDE) :]

    def trained_on(self) -> Iterator[Hashes]:
        """Hashes of the training text, one for each letter, of its first MAX_TRAIN_TOKENS."""
        left = b""
        for letters in self._letters("train", MAX_TRAIN_TOKENS):
            left += letters
            yield everywhere(left)
            left = left[-(STRETCH - 1) :]

    def _letters(self, split: str, at_most: int | None) -> Iterator[bytes]:
        tokens = TokenArray(self.home / FOLDER[split], self.manifest, split)
        num = len(tokens) if at_most is None else min(len(tokens), at_most)
        is_bytes = self.manifest.tokenizer.kind == "bytes"
        spelled = None if is_bytes or self.table is None else _Spelled(self.table)
        for start in range(0, num, PIECE_TOKENS):
            piece = tokens.span(start, min(start + PIECE_TOKENS, num))
            if is_bytes:
                yield letters_of(piece.tobytes())
            else:
                yield piece.tobytes() if spelled is None else spelled.letters(piece)


class _Spelled:
    """The letters of all tokens in one array, so that many tokens are spelled at once."""

    def __init__(self, table: Table) -> None:
        spelled = [letters_of(token) for token in table]
        self.flat = np.frombuffer(b"".join(spelled) + b"\0", np.uint8)
        self.num = np.array([len(one) for one in spelled], np.int64)
        self.starts = np.cumsum(self.num) - self.num

    def letters(self, ids: Ids) -> bytes:
        """The letters of these ids; ids without text give none."""
        known: npt.NDArray[np.int64] = ids[ids < len(self.num)].astype(np.int64)
        num = self.num[known]
        begin = np.cumsum(num) - num
        places = np.repeat(self.starts[known] - begin, num) + np.arange(int(num.sum()))
        return self.flat[places].tobytes()
