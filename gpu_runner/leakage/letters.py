"""Text reduced to its letters and digits, and hashes of every 32 of them.

An author can change spaces, line ends, case, punctuation, quotes and escapes without changing the text. So they are
dropped on both sides, and one comparison sees through all such changes. Bytes from 0x80 on, of letters that are not
ASCII, stay as they are.

Held-out text is hashed at every eighth letter only, and the source at every letter: any copy of 39 letters holds such
a stretch, and the longer of the two texts costs an eighth.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpu_runner.data.overlap import ODD

Hashes = npt.NDArray[np.uint64]

STRETCH = 32  # letters that are hashed together: five words or so
STRIDE = 8  # letters from one stretch of held-out text to the next: one word of the machine
WORDS = STRETCH // STRIDE
_KEPT = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" + bytes(range(0x80, 0x100))
_DROPPED = bytes(sorted(set(range(256)) - set(_KEPT)))
_LOWER = bytes(range(256)).lower()


def letters_of(text: bytes) -> bytes:
    return text.translate(_LOWER, _DROPPED)


def everywhere(letters: bytes) -> Hashes:
    """A hash for each stretch of STRETCH letters, at every letter, in order: [len - 31], or none."""
    num = max(0, len(letters) - STRETCH + 1)
    hashes = np.empty(num, np.uint64)
    for offset in range(min(STRIDE, num)):
        hashes[offset::STRIDE] = _of_words(np.frombuffer(_whole(letters[offset:]), "<u8"))
    return hashes


def at_every_stride(letters: bytes) -> Hashes:
    """A hash for each stretch that begins at a multiple of STRIDE. Takes whole strides."""
    return _of_words(np.frombuffer(letters, "<u8"))


def _whole(letters: bytes) -> bytes:
    return letters[: len(letters) // STRIDE * STRIDE]


def _of_words(words: npt.NDArray[np.uint64]) -> Hashes:
    """A hash for each four neighbouring words. Every step can be undone, so one changed letter changes the hash."""
    num = max(0, len(words) - WORDS + 1)
    hashes = np.zeros(num, np.uint64)
    for place in range(WORDS):
        hashes ^= words[place : place + num]
        hashes *= np.uint64(ODD)
        hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(ODD)
    return hashes
