"""Prefixes asked again with other text behind them: an honest model gives the same answer, one that peeks cannot.

The protocol is commit, then challenge. A position's loss was committed when its true continuation stood behind
it. A fresh process is now given the same prefix, beside other rows, with *other real text* behind it; its answer to the
last positions of the prefix must be the same. Nothing may show a cheat the true continuation:

- a row's prefixes only grow from round to round, and a round begins when the one before is answered: no request
  shows what stood behind a prefix that is still to be answered;
- the other text is training text, of which nothing is held out;
- the rows, their cuts, the text behind them and the rows beside them are drawn anew, after the commitment.

A leak that sees n tokens ahead shows at the n positions before the cut, so each challenge tests at least one
position: 2,048 of them find a leak at 0.34 % of the positions with 99.9 %. Rarer leaks pay only where the
model would have been surprised, and half of the cuts are drawn to fall there (suspicion.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gpu_runner.contract import MAX_PLACES, Evidence, HeldOutSplit, Place
from gpu_runner.data.tokens import TokenArray
from gpu_runner.scorer.frames import Tokens
from gpu_runner.scorer.suspicion import Weights

AIMED_SHARE = 1 / 2  # of the prefixes are drawn by weight: they end where a peek would have gained most
# Of the rows end with a prefix that is the whole row: it shows what depends only on the rows beside it, and no other
# prefix reaches the last position.
UNCUT_SHARE = 1 / 4
MAX_ROUNDS = 16  # of one process
WINDOW = 64  # positions compared of a prefix, its last ones: a leak that sees n ahead shows in the last n
NUM_SHOWN = 5
# A look ahead that is smaller than a GPU's rounding shows at no single position, but in the mean: rounding has none.
MEAN_NATS, MEAN_SE, FEWEST_FOR_MEAN = 2e-3, 5.0, 64
ROUNDING_NATS = 0.2  # where all gaps are smaller and there is no mean shift, they may be nothing but rounding

Nats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The challenges of one process, round after round; all arrays are by prefix [n].

    ``rows``: which committed row; ``kept``: length of the prefix; ``first``: the first of ``window`` positions at which
    answers are compared.
    """

    rows: npt.NDArray[np.int64]
    kept: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    inputs: Tokens  # [n, T]
    window: int
    num_rounds: int

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Positions [n, W] at which answers are compared."""
        places: npt.NDArray[np.int64] = self.first[:, None] + np.arange(self.window)
        return places


def challenge(
    inputs: Tokens, per_batch: int, num_wanted: int, foreign: TokenArray, weights: Weights, rng: np.random.Generator
) -> Plan:
    """Plan at least ``num_wanted`` challenges on inputs [N, T], or as many as one process is asked; in whole batches.

    ``weights`` [N, T]: see suspicion.py. ``rng`` must not be guessable.
    """
    num_rows, length = inputs.shape
    num = min(-(-num_wanted // per_batch) * per_batch, num_rows)
    num_rounds = max(min(-(-num_wanted // num), MAX_ROUNDS, length // 2), 1)
    odds = weights[:, :-1]  # nothing stands behind the last position that could be peeked at
    aimed = _drawn(odds.sum(axis=1), int(num * AIMED_SHARE), rng)
    others = rng.permutation(np.setdiff1d(np.arange(num_rows), aimed))[: num - len(aimed)]
    cuts = {int(row): _cuts(odds[row], num_rounds, is_aimed=True, rng=rng) for row in aimed}
    cuts |= {int(row): _cuts(odds[row], num_rounds, is_aimed=False, rng=rng) for row in others}
    rows = np.concatenate([rng.permutation(list(cuts)) for _ in range(num_rounds)])  # in other company each time
    kept = np.array([cuts[int(row)][i // num] for i, row in enumerate(rows)])
    window = min(WINDOW, length)
    first = np.clip(kept - window, 0, length - window)
    asked = _spliced(inputs[rows], kept, foreign, rng)
    return Plan(rows=rows, kept=kept, first=first, inputs=asked, window=window, num_rounds=num_rounds)


def _cuts(odds: Weights, num: int, *, is_aimed: bool, rng: np.random.Generator) -> list[int]:
    """Lengths of one row's prefixes, [num] ascending, half of them drawn by ``odds`` [T - 1].

    Of an odd ``num`` the larger half is drawn by ``odds`` if ``is_aimed``.
    """
    aimed = 1 + _drawn(odds, int(num * AIMED_SHARE) + (is_aimed and num % 2), rng)
    others = rng.choice(np.setdiff1d(np.arange(1, len(odds) + 1), aimed), num - len(aimed), replace=False)
    if len(others) and rng.random() < UNCUT_SHARE:
        others[-1] = len(odds) + 1
    return sorted([*aimed.tolist(), *others.tolist()])


def _spliced(rows: Tokens, kept: npt.NDArray[np.int64], foreign: TokenArray, rng: np.random.Generator) -> Tokens:
    """``rows`` [n, T] with training text from ``kept`` [n] on."""
    length = rows.shape[1]
    for row, cut in zip(rows, kept.tolist(), strict=True):
        start = int(rng.integers(0, len(foreign) - length))
        row[cut:] = foreign.span(start, start + length - cut)
    return rows


def _drawn(weights: Weights, num: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """At most ``num`` places of positive weight, drawn by weight without repeats (Gumbel top-k trick, Kool et al.

    2019).
    """
    possible = np.flatnonzero(weights)
    keys = np.log(weights[possible]) + rng.gumbel(size=len(possible))
    drawn: npt.NDArray[np.int64] = possible[np.argsort(-keys)[:num]]
    return drawn


class Gap(NamedTuple):
    """The position of one challenge whose loss differs most from the committed one."""

    nats: float
    row: int
    position: int
    cut: int | None  # from where on other text stood; None: only the rows beside it were others
    first: float  # nats
    again: float


class Held(NamedTuple):
    """sha256 of a process's parameters and buffers, before its first and after its last batch."""

    before: str
    after: str


@dataclass
class Challenged:
    """What all challenges found, and whether processes' parameters and buffers agreed."""

    gaps: list[Gap] = field(default_factory=list)
    shifts: list[float] = field(default_factory=list)  # by how many nats the last token before a cut cost more
    num_processes: int = 0
    num_changed: int = 0  # processes whose parameters or buffers were others after the last batch
    num_others: int = 0  # processes whose parameters or buffers were others than the committed one's

    def __len__(self) -> int:
        return len(self.gaps)

    @property
    def largest_nats(self) -> float:
        return max(gap.nats for gap in self.gaps)

    def compare(self, plan: Plan, committed: Nats, again: Nats) -> None:
        """Compare committed losses [N, T] of all rows with those of the plan's prefixes, again [n, W]."""
        positions, length = plan.positions, committed.shape[1]
        first = committed[plan.rows[:, None], positions]
        apart = np.where(positions < plan.kept[:, None], np.abs(again - first), 0.0)
        for i, place in enumerate(apart.argmax(axis=1)):
            here, cut = (i, int(place)), int(plan.kept[i])
            gap = Gap(
                nats=float(apart[here]),
                row=int(plan.rows[i]),
                position=int(positions[here]),
                cut=cut if cut < length else None,
                first=float(first[here]),
                again=float(again[here]),
            )
            self.gaps.append(gap)
        were_cut = np.flatnonzero(plan.kept < length)
        last = plan.kept[were_cut] - 1 - plan.first[were_cut]
        self.shifts += (again[were_cut, last] - first[were_cut, last]).tolist()

    def apart(self, tolerance_nats: float) -> list[Gap]:
        """The gaps above the tolerance, the largest first."""
        return sorted((gap for gap in self.gaps if gap.nats > tolerance_nats), key=lambda gap: -gap.nats)

    def note(self, held: Held, committed: Held) -> None:
        """Count one more process, and whether its parameters and buffers changed or differ from the committed one's."""
        self.num_processes += 1
        self.num_changed += held.before != held.after
        self.num_others += held.before != committed.before

    def add(self, other: Challenged) -> None:
        self.gaps += other.gaps
        self.shifts += other.shifts
        self.num_processes += other.num_processes
        self.num_changed += other.num_changed
        self.num_others += other.num_others

    def forgive(self, answer: Challenged) -> None:
        """Drop an answer that is asked for again, but keep its process's count and whether its parameters changed."""
        self.num_processes += answer.num_processes
        self.num_changed += answer.num_changed

    def disagrees(self, tolerance_nats: float) -> bool:
        return bool(self.num_others or self.apart(tolerance_nats))

    def provenance(self, tolerance_nats: float) -> dict[str, str | int | float | None]:
        return {
            "num_challenges": len(self),
            "num_mismatches": len(self.apart(tolerance_nats)),
            "recheck_max_nats": self.largest_nats,
            "recheck_mean_shift_nats": self.mean_shift,
            "tolerance_nats": tolerance_nats,
        }

    def evidence(self, tolerance_nats: float, split: HeldOutSplit) -> Evidence:
        """The Evidence that a person reads, gap by gap."""
        apart = self.apart(tolerance_nats)
        places = [
            Place(
                row=gap.row,
                position=gap.position,
                cut=gap.cut,
                first_nats=gap.first,
                again_nats=gap.again,
                nats=gap.nats,
            )
            for gap in apart[:MAX_PLACES]
        ]
        return Evidence(
            num_asked=len(self),
            num_apart=len(apart),
            tolerance_nats=tolerance_nats,
            largest_nats=self.largest_nats,
            split=split,
            places=places,
        )

    def reasons(self, tolerance_nats: float) -> list[str]:
        """Why the score is disputed, as sentences, the worst first; empty when nothing differed."""
        answers, shifts = self._of_answers(tolerance_nats), self._of_shifts()
        if answers and not shifts and self.largest_nats < ROUNDING_NATS:
            answers.append(
                "What differs does so by little and in no direction, as rounding does. If other text reaches a position"
                " through rounding alone, as in a Fourier transform over the row or where tokens are gathered by"
                " expert, compute that in float32."
            )
        return [*answers, *shifts, *self._of_holdings()]

    @property
    def mean_shift(self) -> float:
        return float(np.mean(self.shifts)) if self.shifts else 0.0

    def _of_shifts(self) -> list[str]:
        """The reason for a mean shift.

        Rounding has none, so a small look ahead hidden in it shows as higher mean loss.
        """
        num = len(self.shifts)
        if num < FEWEST_FOR_MEAN or self.mean_shift <= MEAN_NATS:
            return []
        standard_error = float(np.std(self.shifts, ddof=1)) / num**0.5
        if self.mean_shift <= MEAN_SE * standard_error:
            return []
        return [
            f"Without the true text behind them {num:,} tokens cost {self.mean_shift:.4f} nats more on average"
            f" (standard error {standard_error:.4f}): the model looks ahead a little, everywhere."
        ]

    def _of_holdings(self) -> list[str]:
        said = []
        if self.num_changed:
            said.append(
                f"In {self.num_changed:,} of {self.num_processes:,} processes the model's parameters or buffers were"
                " others after the last batch than before the first: it remembers, as running statistics or a cache in"
                " a buffer do. Build tables in build_model, and compute in a call what that call needs."
            )
        if self.num_others:
            said.append(
                "Fresh processes held other parameters or buffers than the one whose losses were committed: what"
                " build_model makes must not depend on chance, time or process."
            )
        return said

    def _of_answers(self, tolerance_nats: float) -> list[str]:
        """The reason for gaps above the tolerance: how many, and the largest with their places."""
        if not (apart := self.apart(tolerance_nats)):
            return []
        said = [
            f"Asked again by a fresh process, in other company and mostly with other text behind them, {len(apart):,}"
            f" of {len(self):,} prefixes got another answer (by up to {self.largest_nats:.3g} nats): the model looks"
            " ahead, at other rows, or at what it was asked before."
        ]
        for gap in apart[:NUM_SHOWN]:
            how = "in other company" if gap.cut is None else f"with other text from position {gap.cut} on"
            said.append(
                f"Row {gap.row}, position {gap.position}: {gap.first:.4f} nats at first, {gap.again:.4f} {how}."
            )
        return said
