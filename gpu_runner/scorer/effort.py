"""Detects a model that trains while it is scored, by what its processes spend, counted from outside of them.

Such a model passes every challenge: the same prefix has the same answer, in whatever process. But it has to learn
before its first answer, since a model that learns between two answers gives different ones to the same question
(challenge.py). So training shows as work before the first answer, once in every process; or in every answer, where
the model learns the same anew for each. The model's process says when Python and torch are loaded, before any proposed
code has run; all that comes after it is the model's.

Work is processor time of the whole process tree, which a busy machine does not add to. Where there is a GPU, whose time
we cannot count, it is the wall clock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from gpu_runner import sandbox
from gpu_runner.contract import Bound, Clock, Effort
from gpu_runner.sandbox import Spent

MIB = 1 << 20

# What each clock allows. On a processor, in multiples of what Python and torch took to start in the same process: 0.9 s
# on two cores, and more where the machine is slower or busy. Honest models use 0.0 to 0.3 of that before their first
# answer, and 0.9 more where they import torch's compiler; an answer takes 0.003 to 0.03 of it, 1.2 in slow Python. On a
# GPU these are guesses: nobody has measured it yet.
START_STARTS, START_MORE_STARTS = 2.0, 1.5  # at most; at most beyond the incumbent's
# A second of hidden training gains more after a short training. So the limits hold after LONG_TRAINING_S or more, and
# are smaller after less, down to LEAST_SHARE. After less than 50 s an import of torch's compiler is too much.
LONG_TRAINING_S, LEAST_SHARE = 100.0, 0.25
LATER_STARTS, LATER_MORE_STARTS = 3.0, 0.5
LARGE_STARTS = 4.0  # at most, for an answer of a large model: many of its numbers may be a table's, not multiplied
START_WALL_S, START_MORE_WALL_S = 90.0, 15.0  # a GPU's kernels are compiled in every process
LATER_WALL_S, LATER_MORE_WALL_S = 5.0, 0.5
TIMES_USUAL = 8.0  # how many times dearer than the incumbent an honest change may make the model
S_PER_NUMBER = 1e-8  # to draw, read, copy and hash one stored number; measured: 4e-9
S_PER_NUMBER_AND_TOKEN = 1e-10  # two operations, at 20 GFLOP/s for each processor
SPARE_BYTES, BYTES_PER_NUMBER = 4 << 30, 16.0  # 4,096 tokens of written out attention; a number read, built and cast
TIMES_USUAL_MEMORY, SPARE_MORE_BYTES = 4.0, 1 << 30
OTHER_BYTES, OTHER_SHARE = 1 << 20, 0.05  # of a checkpoint that are not floating point: tables, counts, or text
MAX_TOKENS = 4_096  # of one request
TIMES_ENDED = 4.0  # a process that takes so many times what is allowed is ended


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much a checkpoint holds, by its header and its size."""

    num_bytes: int
    num_numbers: int  # of floating point
    other_bytes: int  # all the rest of the file


@dataclass
class Stages:
    """What one process had spent at each stage; None: it has not come so far."""

    ready: Spent | None = None  # Python and torch are there, and no proposed code has run
    loaded: Spent | None = None  # train.py imported, the model built, the checkpoint in it
    first: Spent | None = None  # the first answer is out
    last: Spent | None = None  # the last one is
    num_later: int = 0
    num_tokens: int = 0  # of the first answer

    def note_answer(self, num_tokens: int, spent: Callable[[], Spent]) -> None:
        if self.first is None:
            self.first, self.num_tokens = spent(), num_tokens
        else:
            self.num_later += 1


@dataclass(frozen=True, kw_only=True)
class Took:
    """Seconds that one process took for each stage, by one clock."""

    ready_s: float
    load_s: float
    first_s: float
    later_s: float | None  # the mean of those after the first; None: there was none
    num_later: int
    num_tokens: int
    peak_bytes: int  # beyond Python's and torch's own
    num_threads: int


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """How much a model with these weights may spend.

    ``usual`` is the incumbent's Effort on the same kind of machine; ``trained_s`` how long the model was trained, if
    known.
    """

    weights: Weights
    clock: Clock
    usual: Effort | None = None
    trained_s: float | None = None

    def start_s(self, ready_s: float) -> float:
        on_processor, share = self.clock == "processor", self._share()
        at_all = share * START_STARTS * ready_s if on_processor else START_WALL_S
        at_all += S_PER_NUMBER * self.weights.num_numbers
        if (usual := self._usual()) is None:
            return at_all
        more = share * START_MORE_STARTS * ready_s if on_processor else START_MORE_WALL_S
        return min(at_all, usual.load_s + usual.first_s + more + S_PER_NUMBER * self._grown_bytes(usual) / 4)

    def _share(self) -> float:
        return 1.0 if self.trained_s is None else min(max(self.trained_s / LONG_TRAINING_S, LEAST_SHARE), 1.0)

    def later_s(self, ready_s: float, num_tokens: int) -> float:
        on_processor = self.clock == "processor"
        large_s = min(S_PER_NUMBER_AND_TOKEN * self.weights.num_numbers * num_tokens, LARGE_STARTS * ready_s)
        at_all = LATER_STARTS * ready_s + large_s if on_processor else LATER_WALL_S
        if (usual := self._usual()) is None or usual.later_s is None:
            return at_all
        more = LATER_MORE_STARTS * ready_s if on_processor else LATER_MORE_WALL_S
        return min(at_all, TIMES_USUAL * usual.later_s + more)

    def peak_bytes(self) -> float:
        at_all = SPARE_BYTES + BYTES_PER_NUMBER * self.weights.num_numbers
        if self.usual is None:
            return at_all
        grown = BYTES_PER_NUMBER * self._grown_bytes(self.usual) / 4
        return min(at_all, TIMES_USUAL_MEMORY * self.usual.peak_memory_mib * MIB + SPARE_MORE_BYTES + grown)

    def _grown_bytes(self, usual: Effort) -> float:
        """By how many bytes the checkpoint is larger than the incumbent's."""
        return max(self.weights.num_bytes - usual.checkpoint_mib * MIB, 0.0)

    def other_bytes(self) -> float:
        of_floats = OTHER_SHARE * (self.weights.num_bytes - self.weights.other_bytes)
        usual = self.usual.other_mib * MIB if self.usual else 0.0
        return max(OTHER_BYTES, of_floats, usual)

    def _usual(self) -> Effort | None:
        """The incumbent's Effort, if it was measured by the same clock; seconds of two clocks do not compare."""
        return self.usual if self.usual and self.usual.clock == self.clock else None

    def ended(self, stages: Stages, now: Spent) -> str | None:
        """Why a process that is still at work must be ended, as a sentence; None while it may go on."""
        if stages.ready is None:
            return None
        ready_s = _between(None, stages.ready, self.clock)
        if stages.first is None:
            spent_s, believed_s = _between(stages.ready, now, self.clock), self.start_s(ready_s)
            limit_s = TIMES_ENDED * believed_s + self.later_s(ready_s, MAX_TOKENS)
            what = "before its first answer was out"
        else:
            num = stages.num_later + 2  # with the one that it works on, and the one that is sent ahead
            spent_s = _between(stages.first, now, self.clock)
            believed_s = num * self.later_s(ready_s, stages.num_tokens)
            limit_s, what = TIMES_ENDED * believed_s, f"for {num - 1:,} answers"
        if spent_s <= limit_s:
            return None
        return (
            f"The model's process was ended: it had used {spent_s:.1f} s of {WORDS[self.clock]} {what}; at most"
            f" {believed_s:.1f} s are believed to be no training{self.beside()}. {WAY_OUT}"
        )

    def beside(self) -> str:
        if (usual := self._usual()) is None:
            return ""
        later = "" if usual.later_s is None else f", {usual.later_s:.2f} s for a later answer"
        return f" (the incumbent: {usual.load_s:.1f} s to load, {usual.first_s:.1f} s to answer first{later})"


WORDS = {"processor": "processor time", "wall": "wall clock"}
WAY_OUT = (
    "Training ends when the clock does: keep in the checkpoint what it gave, and compute in a call no more than what"
    " that call needs."
)


@dataclass
class Efforts:
    """What all processes of one score spent."""

    allowed: Allowed
    processes: list[Took] = field(default_factory=list)

    def note(self, stages: Stages) -> None:
        """Add a process that came to its end."""
        if stages.ready and stages.loaded and stages.first and stages.last:
            self.processes.append(_took(stages, self.allowed.clock))

    def reasons(self) -> list[str]:
        """Why the score is disputed for its effort, as sentences; empty when all of it is within what is allowed."""
        return [*self._of_starts(), *self._of_answers(), *self._of_memory(), *self._of_weights()]

    def over(self) -> list[Bound]:
        checks: dict[Bound, Callable[[], list[str]]] = {
            "start": self._of_starts,
            "later": self._of_answers,
            "memory": self._of_memory,
            "checkpoint": self._of_weights,
        }
        return [name for name, check in checks.items() if check()]

    def told(self) -> Effort | None:
        """The Effort for the record; its start is that of the process furthest above what is allowed."""
        if not self.processes:
            return None
        worst, weights = self._worst(), self.allowed.weights
        later = [took.later_s for took in self.processes if took.later_s is not None]
        return Effort(
            clock=self.allowed.clock,
            num_processes=len(self.processes),
            ready_s=worst.ready_s,
            load_s=worst.load_s,
            first_s=worst.first_s,
            later_s=max(later) if later else None,
            num_later=sum(took.num_later for took in self.processes),
            total_s=sum(_total_s(took) for took in self.processes),
            peak_memory_mib=max(took.peak_bytes for took in self.processes) / MIB,
            num_threads=max(took.num_threads for took in self.processes),
            checkpoint_mib=weights.num_bytes / MIB,
            other_mib=weights.other_bytes / MIB,
            over=self.over(),
        )

    def _worst(self) -> Took:
        return max(self.processes, key=lambda took: self._start_s(took) - self.allowed.start_s(took.ready_s))

    def _start_s(self, took: Took) -> float:
        """Seconds before the first answer, less one answer: its own later ones or, without any, the slowest."""
        answer_s = max((other.later_s or 0.0 for other in self.processes), default=0.0)
        return took.load_s + max(took.first_s - (answer_s if took.later_s is None else took.later_s), 0.0)

    def _of_starts(self) -> list[str]:
        worst = self._worst()
        start_s, limit_s = self._start_s(worst), self.allowed.start_s(worst.ready_s)
        if not any(took.num_later for took in self.processes):  # nothing to compare a first answer with
            limit_s += self.allowed.later_s(worst.ready_s, worst.num_tokens)
        if start_s <= limit_s:
            return []
        return [
            f"Before its first answer was out the model used {start_s:.1f} s of {WORDS[self.allowed.clock]} more than"
            f" an answer takes ({worst.load_s:.1f} s to load, {worst.first_s:.1f} s to answer first); at most"
            f" {limit_s:.1f} s are believed to be loading{self.allowed.beside()}. It may have trained while it was"
            f" scored. {WAY_OUT}"
        ]

    def _of_answers(self) -> list[str]:
        dearest = max(self.processes, key=lambda took: took.later_s or 0.0)
        later_s, limit_s = dearest.later_s or 0.0, self.allowed.later_s(dearest.ready_s, dearest.num_tokens)
        if later_s <= limit_s:
            return []
        return [
            f"An answer to {dearest.num_tokens:,} tokens took {later_s:.2f} s of {WORDS[self.allowed.clock]} on"
            f" average; at most {limit_s:.2f} s are believed to be a forward pass of this model{self.allowed.beside()}."
            f" It may train anew for every answer. {WAY_OUT}"
        ]

    def _of_memory(self) -> list[str]:
        peak, limit = max(took.peak_bytes for took in self.processes), self.allowed.peak_bytes()
        if peak <= limit:
            return []
        return [
            f"Scoring it took {peak / MIB:,.0f} MiB of memory; a forward pass of this model is believed to need no more"
            f" than {limit / MIB:,.0f} MiB{self.allowed.beside()}. Hold no optimizer, gradients or second model."
        ]

    def _of_weights(self) -> list[str]:
        other, limit = self.allowed.weights.other_bytes, self.allowed.other_bytes()
        if other <= limit:
            return []
        return [
            f"{other / MIB:,.1f} MiB of the checkpoint are no floating-point numbers; at most {limit / MIB:,.1f} MiB"
            " are believed to be a model's tables, the rest could be text carried along. Make tables in build_model and"
            " register them with persistent=False; keep weights in floating point of 16 bits or more."
        ]


def clock_here() -> Clock:
    """Wall clock with a GPU in reach, whose time nobody counts, or without /proc; processor time otherwise."""
    return "processor" if sys.platform == "linux" and not sandbox.gpu_nodes() else "wall"


def _between(before: Spent | None, after: Spent, clock: Clock) -> float:
    """Seconds by ``clock``; without ``before``, processor time since the process began."""
    if clock == "wall":
        return 0.0 if before is None else after.at - before.at
    assert after.cpu_s is not None, "nobody counts processor time here: the wall clock stands in"
    return after.cpu_s - (before.cpu_s or 0.0 if before is not None else 0.0)


def _took(stages: Stages, clock: Clock) -> Took:
    assert stages.ready and stages.loaded and stages.first and stages.last
    num = stages.num_later
    return Took(
        ready_s=_between(None, stages.ready, clock),
        load_s=_between(stages.ready, stages.loaded, clock),
        first_s=_between(stages.loaded, stages.first, clock),
        later_s=_between(stages.first, stages.last, clock) / num if num else None,
        num_later=num,
        num_tokens=stages.num_tokens,
        peak_bytes=max(stages.last.peak_bytes - stages.ready.peak_bytes, 0),
        num_threads=stages.last.num_threads,
    )


def _total_s(took: Took) -> float:
    return took.ready_s + took.load_s + took.first_s + (took.later_s or 0.0) * took.num_later
