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
Hashes = npt.NDArray[np.uint64]


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
    counted, wanted = Contexts(text.span(start, start + num)), Contexts(targets, inputs)
    likely = np.full(targets.shape, 1.0 / vocab)
    for order in range(longest + 1):
        if order:
            counted.reach_back(order)
            wanted.reach_back(order)
        if order == 0 or order in ORDERS:
            likely = _interpolated(likely, counted, wanted)
    nats: Nats = -np.log(likely)
    return nats


class Contexts:
    """Hashes of the tokens before each token, alone (``before``) and with it (``whole``), of a context that grows.

    Of running text, [n], where a context that would begin before the text is left out; or, with ``inputs``, of the
    targets of rows, [N, T], whose contexts end with the input at the same place and are padded with 0 at the front.
    """

    def __init__(self, tokens: npt.NDArray[np.integer], inputs: Tokens | None = None) -> None:
        self._tokens: Hashes = (tokens if inputs is None else inputs).astype(np.uint64)
        self._is_text = inputs is None
        self.before: Hashes = np.zeros(tokens.shape, np.uint64)
        self.whole: Hashes = _mixed(np.zeros(tokens.shape, np.uint64), tokens.astype(np.uint64))

    def reach_back(self, order: int) -> None:
        """Take one token more: the one ``order`` places before each."""
        if self._is_text:
            further = self._tokens[:-order]
            before, whole = self.before[1:], self.whole[1:]
        else:
            further = np.pad(self._tokens, ((0, 0), (order - 1, 0)))[:, : self.before.shape[1]]
            before, whole = self.before, self.whole
        self.before, self.whole = _mixed(before, further), _mixed(whole, further)


def _interpolated(shorter: Nats, counted: Contexts, wanted: Contexts) -> Nats:
    """Probability of each target after its context, mixed with ``shorter`` where that context is rarely counted."""
    num_seen = _counts(counted.before)[_places(wanted.before)]
    num_both = _counts(counted.whole)[_places(wanted.whole)]
    mixed: Nats = (num_both + PRIOR * shorter) / (np.maximum(num_seen, num_both) + PRIOR)
    return mixed


def _counts(hashes: Hashes) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = np.bincount(_places(hashes), minlength=1 << TABLE_BITS)
    return counts


def _places(hashes: Hashes) -> npt.NDArray[np.int64]:
    """The place of each hash in a table of 2 ** TABLE_BITS."""
    return (hashes >> np.uint64(64 - TABLE_BITS)).view(np.int64)


def _mixed(hashes: Hashes, tokens: Hashes) -> Hashes:
    """New hashes, with one token more in each (splitmix64's mixing, Steele et al. 2014)."""
    mixed = hashes * np.uint64(0x9E3779B97F4A7C15)
    mixed += tokens
    mixed += np.uint64(1)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return mixed
