"""The loop in one process, without a broker: whoever is rung is called, in the order in which the bells rang.

For tests and for simulation. What follows what is the same table (``follow``), and who answers are the same functions
(``tasks``) as in a house of several processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from research.loop import tasks
from research.record import doorbell

MAX_BELLS = 1_000  # answered in one go; a loop that comes to rest takes a few dozen
Bell = tuple[str, tuple[int, ...]]  # the task that is rung for, and its rows
Answers = Mapping[str, Callable[[int], object]]  # task -> who answers

CONTROL: Answers = {
    "control.propose": tasks.propose,
    "control.check": tasks.check,
    "control.revise": tasks.revise,
    "control.rebase": tasks.rebase,
    "control.advance": tasks.advance,
    "control.run_ended": tasks.run_ended,
    "control.look_after": tasks.look_after,
}


@dataclass
class Driver:
    """``waiting`` are the bells that were rung and not answered yet, oldest first."""

    answers: Answers
    waiting: list[Bell] = field(default_factory=list)

    def to_the_end(self, *, at_most: int = MAX_BELLS) -> int:
        """Answer every bell, and those that the answers ring, until none is left. Returns how many.

        A bell that nobody answers is let go, as one that was lost. Raises RuntimeError, with what is rung most, where
        the bells do not end.
        """
        answered: Counter[str] = Counter()
        while self.waiting:
            task, rows = self.waiting.pop(0)
            if (answer := self.answers.get(task)) is None:
                continue
            if answered.total() == at_most:
                raise RuntimeError(f"{at_most:,} bells were answered and more are rung: {_in_words(answered)}")
            answered[task] += 1
            answer(*rows)
        return answered.total()


@contextmanager
def driving(answers: Answers = CONTROL) -> Iterator[Driver]:
    """A driver of the bells that are rung within: they wait until it is told to answer them."""
    driver = Driver(answers)
    with doorbell.rung_by(lambda task, rows, queue: driver.waiting.append((task, rows))):
        yield driver


def _in_words(answered: Counter[str]) -> str:
    return ", ".join(f"{task} {num} times" for task, num in answered.most_common())
