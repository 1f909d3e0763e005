"""Where a look at the next token would have paid most: positions that get more of the challenges.

A cheat that peeks everywhere meets any challenge. One that peeks only where its honest loss would have been largest
gains 0.005 bits per byte with three positions in ten thousand (measured on the shipped recipe, one minute on a CPU),
and 256 challenges drawn evenly miss it 93 times in a hundred. But such positions look odd from outside: what stands
there is surprising to anybody else, and the model was sure. So every position is weighed by how much less the model
lost than a plain n-gram model of the training text would have, squared: among challenges drawn half by this weight and
half evenly, 256 miss the same cheat once in a thousand times. Honest models are weighed, too, and lose nothing.

How long the n-grams are, and which training text they were counted in, is drawn anew each time.
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
    """Odds of each position, [N, T]: zero where the model lost more than was to be expected."""
    odds: Weights = np.square(np.maximum(expected - nats, 0.0))
    return odds


def expected(
    text: TokenArray, inputs: Tokens, targets: Tokens, vocab: int, rng: np.random.Generator, num: int = COUNTED_TOKENS
) -> Nats:
    """What an n-gram model counted in a random stretch of ``text`` loses at each target, [N, T], in nats."""
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
    """The probability of each target after ``order`` tokens, leaning on ``shorter`` where little was counted."""
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
    """Where a tuple of tokens is counted: a hash of TABLE_BITS bits (splitmix64's mixing, Steele et al. 2014)."""
    mixed = np.zeros(shape, np.uint64)
    for part in parts:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + part.astype(np.uint64) + np.uint64(1)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(64 - TABLE_BITS)).astype(np.int64)
