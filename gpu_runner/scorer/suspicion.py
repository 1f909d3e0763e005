"""Weights for drawing challenges: positions where the model lost much less than an n-gram model are asked more often.

A cheat that peeks everywhere meets any challenge. One that peeks only where its honest loss would have been largest
gains 0.005 bits per byte with three positions in ten thousand (measured on the shipped recipe, one minute on a CPU),
and 256 challenges drawn evenly miss it 93 times in a hundred. But its positions stand out: the next token is
surprising, and the model was sure of it. So every position is weighed by how much less the model lost than a plain
n-gram model of the training text would have, squared. With half of the challenges drawn by this weight and half evenly,
256 miss the same cheat once in a thousand times. An honest model loses nothing by being asked at such positions.

The length of the n-grams and the training text in which they are counted are drawn anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gpu_runner.data.tokens import TokenArray
from gpu_runner.scorer.frames import Tokens

ORDERS = (1, 2, 3, 4, 6)  # tokens of context; one of these is the longest
COUNTED_TOKENS = 2_000_000
TABLE_BITS = 22
PRIOR = 8.0  # counts that the shorter context's answer is worth: interpolation after Witten and Bell 1991

Nats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float64]


def weigh(nats: Nats, expected: Nats) -> Weights:
    """Weight of each position, [N, T]: zero where the model lost more than the n-gram model."""
    odds: Weights = np.square(np.maximum(expected - nats, 0.0))
    return odds


def expected(
    text: TokenArray, inputs: Tokens, targets: Tokens, vocab: int, rng: np.random.Generator, num: int = COUNTED_TOKENS
) -> Nats:
    """Loss at each target, [N, T] in nats, of an n-gram model counted in a random stretch of ``text``."""
    longest = int(rng.choice(ORDERS))
    start = int(rng.integers(0, max(len(text) - num, 0) + 1))
    counted = text.span(start, start + num)
    likely = np.full(targets.shape, 1.0 / vocab)
    rows = np.pad(inputs, ((0, 0), (longest - 1, 0)))  # a context that begins before its row is seen as padded
    for order in (0, *(order for order in ORDERS if order <= longest)):
        likely = _interpolated(likely, counted, rows, targets, order, longest)
    nats: Nats = -np.log(likely)
    return nats


def _interpolated(
    shorter: Nats, counted: npt.NDArray[np.integer], rows: Tokens, targets: Tokens, order: int, longest: int
) -> Nats:
    """Probability of each target after ``order`` tokens, mixed with ``shorter`` where the context is rarely counted."""
    length = targets.shape[1]
    contexts = [counted[order - 1 - back : len(counted) - 1 - back] for back in range(order)]
    seen = [rows[:, longest - 1 - back : longest - 1 - back + length] for back in range(order)]
    next_token = counted[order:]
    num_seen = _counts(contexts, next_token.shape)[_places(seen, targets.shape)]
    num_both = _counts([next_token, *contexts], next_token.shape)[_places([targets, *seen], targets.shape)]
    mixed: Nats = (num_both + PRIOR * shorter) / (np.maximum(num_seen, num_both) + PRIOR)
    return mixed


def _counts(parts: Sequence[npt.NDArray[np.integer]], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = np.bincount(_places(parts, shape), minlength=1 << TABLE_BITS)
    return counts


def _places(parts: Sequence[npt.NDArray[np.integer]], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The place of each tuple of tokens in the table: a hash of TABLE_BITS bits (splitmix64's mixing, Steele et al.

    2014).
    """
    mixed = np.zeros(shape, np.uint64)
    for part in parts:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + part.astype(np.uint64) + np.uint64(1)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(64 - TABLE_BITS)).astype(np.int64)
