"""Measures how much held-out text also stands in the training text, by runs of 13 (Brown et al. 2020, appendix C).

Runs of tokens; for bytes runs of words between white space, since thirteen bytes say nothing. The hashes of
held-out runs are sorted, the training text streams past. Where there are more than MAX_HELD of them,
only those in a fixed part of the hash space are looked for, in both texts: the share stays an unbiased
estimate, and memory bounded.

A run's hash is the sum of a random number for each unit times a power of an odd number, modulo 2**64,
so that all runs of a piece come out of one cumulative sum (Karp & Rabin 1987). It does not depend on
the machine: the counts are part of the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_runner.data.manifest import FOLDER, HELD_OUT, WIDTH, Manifest, Overlap
from gpu_runner.data.progress import Silent
from gpu_runner.data.tokens import Ids, TokenArray

N = 13
MAX_HELD = 8_000_000  # hashes looked for: 64 MB, and 128 MB for the filter before them
WORD_BYTES = 6  # of text behind a word, about
PIECE_TOKENS = 1 << 20  # of text hashed at once: 8 MB for each number of 64 bits, which caches hold
SPACE = np.isin(np.arange(256), list(b" \t\n\r\x0b\x0c\0"))  # 0 is between documents of bytes

Hashes = npt.NDArray[np.uint64]
ODD = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio


def measure(home: Path, manifest: Manifest, progress: Silent) -> Manifest:
    """``manifest`` with the overlap of each held-out split in it."""
    is_words = manifest.tokenizer.kind == "bytes"
    num_held = sum(manifest.splits[split].num_tokens for split in HELD_OUT) // (WORD_BYTES if is_words else 1)
    one_in = 1 + num_held // MAX_HELD
    held = {split: np.concatenate(list(_hashes(home, manifest, split, one_in))) for split in HELD_OUT}
    sought = Sought(np.unique(np.concatenate(list(held.values()))))
    with progress.stage("Comparing splits", manifest.splits["train"].num_tokens * WIDTH[manifest.dtype]):
        for hashes in _hashes(home, manifest, "train", one_in, progress):
            sought.look(hashes)
    splits = dict(manifest.splits)
    for split, hashes in held.items():
        found = Overlap(unit="words" if is_words else "tokens", num=len(hashes), num_shared=sought.count_found(hashes))
        splits[split] = splits[split].model_copy(update={"overlap": found})
    return manifest.model_copy(update={"splits": splits})


class Sought:
    """Hashes to look for, [N] sorted, and which of them were found."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self.is_found = np.zeros(len(hashes), bool)
        num_bits = min(max(16, (16 * len(hashes)).bit_length()), 27)
        self.shift = np.uint64(64 - num_bits)
        self.may_be = np.zeros(1 << num_bits, bool)  # by a hash's first bits: spares most of the searching
        self.may_be[hashes >> self.shift] = True

    def look(self, hashes: Hashes) -> None:
        """Mark those of ``hashes`` that are sought as found."""
        candidates = hashes[self.may_be[hashes >> self.shift]]
        places = np.minimum(np.searchsorted(self.hashes, candidates), len(self.hashes) - 1)
        self.is_found[places[self.hashes[places] == candidates]] = True

    def count_found(self, hashes: Hashes) -> int:
        """How many of ``hashes``, all of them sought, were found."""
        return int(self.is_found[np.searchsorted(self.hashes, hashes)].sum())


def _hashes(
    home: Path, manifest: Manifest, split: str, one_in: int, progress: Silent | None = None
) -> Iterator[Hashes]:
    """Hashes of all runs of N units in the split, in pieces, at least one; of one run in ``one_in``, chosen by hash."""
    text = TokenArray(home / FOLDER[split], manifest, split)
    is_words = manifest.tokenizer.kind == "bytes"
    units = _words(text) if is_words else _tokens(text, manifest.tokenizer.vocab)
    before = np.empty(0, np.uint64)
    yield before
    for num_read, numbers in units:
        run_on = np.concatenate([before, numbers])
        starts = np.arange(len(run_on) - N + 1)
        hashes = _windows(run_on, starts, starts + N)
        yield hashes[hashes % np.uint64(one_in) == 0]
        before = run_on[-(N - 1) :]
        if progress:
            progress.advance(num_read * WIDTH[manifest.dtype])


def _tokens(text: TokenArray, vocab: int) -> Iterator[tuple[int, Hashes]]:
    """(tokens read, a random number for each), piece by piece."""
    numbers = _random_numbers(vocab)
    for start in range(0, len(text), PIECE_TOKENS):
        piece = text.span(start, start + PIECE_TOKENS)
        yield len(piece), numbers[piece]


def _words(text: TokenArray) -> Iterator[tuple[int, Hashes]]:
    """(bytes read, a number for each word that ended in them), piece by piece."""
    begun = np.empty(0, np.uint8)
    for start in range(0, len(text), PIECE_TOKENS):
        read = text.span(start, start + PIECE_TOKENS)
        piece = np.concatenate([begun, read])
        ends = np.flatnonzero(SPACE[read])
        whole = len(begun) + int(ends[-1]) + 1 if len(ends) and start + len(read) < len(text) else len(piece)
        begun = piece[whole:]
        yield len(read), _numbers_of_words(piece[:whole])


def _numbers_of_words(text: Ids) -> Hashes:
    """text [N] uint8 -> a number for each word."""
    is_word = np.concatenate([[False], ~SPACE[text], [False]])
    borders = np.flatnonzero(is_word[1:] != is_word[:-1])
    return _windows(_random_numbers(256)[text], borders[::2], borders[1::2])


def _windows(numbers: Hashes, starts: npt.NDArray[Any], stops: npt.NDArray[Any]) -> Hashes:
    """A hash of numbers[start:stop] for each pair."""
    power, inverse = _powers()
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(numbers * power[: len(numbers)])])
    hashes: Hashes = (sums[stops] - sums[starts]) * inverse[starts]
    hashes ^= hashes >> np.uint64(32)  # the low bits of such a sum depend on little: mix the high ones in
    hashes *= np.uint64(ODD)
    return hashes


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """ODD**i and ODD**-i modulo 2**64, for as many units as one piece can have."""
    num = 2 * PIECE_TOKENS + N
    bases = (ODD, pow(ODD, -1, 1 << 64))
    power, inverse = (np.cumprod(np.array([1] + [base] * num, np.uint64), dtype=np.uint64) for base in bases)
    return power, inverse


@cache
def _random_numbers(num: int) -> Hashes:
    return np.random.Generator(np.random.PCG64(N)).integers(0, 1 << 64, size=num, dtype=np.uint64)
