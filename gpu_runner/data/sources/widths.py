"""Finds the width of the tokens in a file without header, from the values, since nothing in the file says it.

FOOT-GUN: 32-bit numbers read as 16-bit ones are twice as many tokens, every second of them near 0. A
model learns that at once, and its curve flatters it. Nothing else goes wrong, so nobody notices.

How a width shows, on data of tokenizers of 1,024 to 32,000 tokens: the lower bytes of 16-bit tokens have 7.2
bits of entropy and the upper ones 1.7 to 3.6, and their histograms share 1 to 18 % of their mass; of text that was
read in pairs of bytes they share 99 %. Of two neighbouring tokens the second is below 4 in 0.5 % of all pairs.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_runner.data.tokenizers.encoder import MAX_VOCAB

# What --dtype can say, and numpy's name for it.
STORED = {
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "int32": "<i4",
    "int64": "<i8",
    "uint16-be": ">u2",
    "uint32-be": ">u4",
}
USUAL = "uint16"  # nanoGPT's, and of most who write such files

NUM_BLOCKS, BLOCK_BYTES = 16, 1 << 16  # looked at, evenly spaced: 1 MiB of a file
FEWEST_BYTES = 128  # of which anything can be told
UPPER = MAX_VOCAB >> 16  # the upper half of a 32-bit token is below this
ALIKE = 0.25  # of the mass of two histograms that differs; tokens have 0.8 and more, single bytes 0.01
NARROW_BITS = 7.0  # of entropy: text has 4 to 6 a byte; made-up tokens, all as frequent, have 7.7 and more, wide or not
BIGGER_END_BITS = 1.0  # of entropy that a first byte lacks to its second, where the first is the upper one
MANY, FAR_BELOW = 4_096, 8  # in so many tokens a lower byte has been anything; an upper one stays so far below
# Filled rows and unknown headers hide a width from whoever asks for every number. Of text read as wider numbers than it
# has, next to none are tokens.
NEARLY_ALL, SOME = 0.99, 0.05
LOWEST_FILL = -(1 << 15)  # -1 and -100 are usual
MAX_META_BYTES = 1 << 20


@dataclass(frozen=True)
class Width:
    """``dtype`` is one of STORED, None for what is no tokens at all; ``because`` is said in a sentence."""

    dtype: str | None
    because: str


def found_in(path: Path) -> Width:
    """What the file looks like. Where nothing can be told it is USUAL."""
    sample = _sample(path)
    if len(sample) < FEWEST_BYTES:
        return Width(USUAL, "nothing says otherwise")
    for looks_like in (_floats, _wide, _nearly_wide, _narrow, _bigger_end_first):
        if found := looks_like(sample):
            return found
    return Width(USUAL, "its values look like it")


def within(path: Path, vocab: int) -> list[str]:
    """The types, of those that can exceed ``vocab``, in which no token that was looked at does."""
    sample = _sample(path)
    fitting = []
    for name, stored in STORED.items():
        if np.iinfo(stored).max < vocab:
            continue  # it could not be otherwise
        values = np.frombuffer(sample[: len(sample) - len(sample) % 8], dtype=stored)
        if not path.stat().st_size % np.dtype(stored).itemsize and len(values) and values.min() >= 0:
            fitting += [name] * bool(values.max() < vocab)
    return fitting


def _floats(sample: bytes) -> Width | None:
    for stored in ("<f2", "<f4", "<f8"):
        values = _as(sample, stored)
        if not np.isfinite(values).all() or values.min() < 0 or not (values > 0).any():
            continue
        if (values == np.trunc(values)).all() and float(values.max()) < MAX_VOCAB:
            return Width(None, "its values are whole numbers in floating point")
    return None


def _wide(sample: bytes) -> Width | None:
    """The upper part of a wide token is next to nothing."""
    if int(_as(sample, ">u8").max()) < MAX_VOCAB and _as(sample, ">u4")[1::2].any():
        return Width(None, "it looks like int64 with the bigger end first; write it again as uint32")
    if int(_as(sample, "<u8").max()) < MAX_VOCAB and _as(sample, "<u4")[::2].any():
        return Width("int64", "of every four 16-bit numbers the last two are 0")
    for stored, name, first in (("<u4", "uint32", "second"), (">u4", "uint32-be", "first")):
        halves = _as(sample, stored[0] + "u2")
        upper, lower = (halves[1::2], halves[::2]) if stored == "<u4" else (halves[::2], halves[1::2])
        if int(upper.max()) < UPPER and (int(lower.max()) >= UPPER or (not upper.any() and lower.any())):
            said = "0" if not upper.any() else f"below {UPPER}"
            return Width(name, f"every {first} 16-bit number is {said}, as the upper half of a 32-bit token is")
    return None


def _nearly_wide(sample: bytes) -> Width | None:
    """All but a few numbers of a wide file are tokens, or below 0; zeros say nothing."""
    for stored, name in (("<i8", "int64"), (">i8", None), ("<i4", "int32"), (">i4", "uint32-be")):
        values = _as(sample, stored)
        values = values[values != 0]
        is_token, is_fill = (values > 0) & (values < MAX_VOCAB), (values < 0) & (values >= LOWEST_FILL)
        if not len(values) or (is_token | is_fill).mean() < NEARLY_ALL:
            continue
        if (is_token & (values % (1 << 16) >= UPPER)).mean() > SOME:
            share = f"{(is_token | is_fill).mean():.1%} of its {8 * values.itemsize}-bit numbers"
            return Width(name, f"{share} are tokens" + f", or a filling such as {values.min()}" * bool(is_fill.any()))
    return None


def _narrow(sample: bytes) -> Width | None:
    """Single bytes are alike at even and at odd places."""
    pairs = _as(sample, "u1").reshape(-1, 2)
    even, odd = (np.bincount(pairs[:, i], minlength=256) / len(pairs) for i in (0, 1))
    if np.abs(even - odd).sum() / 2 > ALIKE or not pairs.any() or _entropy_bits(pairs.ravel()) > NARROW_BITS:
        return None
    if _is_text(sample):
        return Width(None, "it is text: put it into a folder of text files (--format text)")
    return Width("uint8", "its bytes are alike at even and at odd places, as single bytes are")


def _bigger_end_first(sample: bytes) -> Width | None:
    """An upper byte says less than a lower one, and ends where the vocabulary does."""
    pairs = _as(sample, "u1").reshape(-1, 2)
    lacks_bits = _entropy_bits(pairs[:, 1]) - _entropy_bits(pairs[:, 0])
    is_lower = len(pairs) >= MANY and int(pairs[:, 0].max()) + FAR_BELOW <= int(pairs[:, 1].max())
    if lacks_bits > BIGGER_END_BITS or (lacks_bits > 0 and is_lower):
        return Width("uint16-be", "the first byte of every two says less than the second, as an upper byte does")
    return None


def _as(sample: bytes, stored: str) -> npt.NDArray[Any]:
    return np.frombuffer(sample[: len(sample) - len(sample) % 8], dtype=stored)


def _entropy_bits(values: npt.NDArray[Any]) -> float:
    shares = np.bincount(values, minlength=256) / len(values)
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _is_text(sample: bytes) -> bool:
    try:
        text = sample[:BLOCK_BYTES].decode()
    except UnicodeDecodeError as error:
        if error.start < min(len(sample), BLOCK_BYTES) - 3:  # the sample may end within a character
            return False
        text = sample[: error.start].decode()
    return not any(ord(letter) < 32 and letter not in "\t\n\r\x0c" for letter in text)


def _sample(path: Path) -> bytes:
    """Blocks of the file that begin at multiples of 8 bytes, so that no token of any width is cut."""
    return b"".join(_blocks(path, path.stat().st_size))


def _blocks(path: Path, num_bytes: int) -> Iterator[bytes]:
    starts = np.linspace(0, max(num_bytes - BLOCK_BYTES, 0), NUM_BLOCKS).astype(np.int64) // 8 * 8
    with open(path, "rb") as file:
        for start in np.unique(starts):
            file.seek(int(start))
            yield file.read(BLOCK_BYTES)


def vocab_of_meta(path: Path) -> int | None:
    """``vocab_size`` in nanoGPT's meta.pkl, from the list of the pickle's instructions, of which none is executed.

    None where it is not there.
    """
    try:
        body = path.read_bytes() if path.stat().st_size <= MAX_META_BYTES else b""
        values = [value for code, value, _ in pickletools.genops(body) if value is not None and "PUT" not in code.name]
        key = values.index("vocab_size")
    except (OSError, ValueError, IndexError, KeyError):  # no pickle, or none that says it
        return None
    found = next((value for value in values[key + 1 :] if not isinstance(value, str)), None)
    return found if isinstance(found, int) and 0 < found <= MAX_VOCAB else None
