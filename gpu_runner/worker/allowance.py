"""What a run may use beside its budget, and whether it did: seconds before its text, with it, and after.

Text is counted where it is handed out (ration.py), so nobody draws more of it than was signed. What is left to a
cheat is time: learning before the clock from whatever lies on the disk, learning on after the last batch, or going
over each batch again and again where the budget is in tokens. What these times should be, nobody can say of a
recipe; but the incumbent's are known, and a proposal is compared with it. Where the budget is in tokens a larger model
may take longer: as much longer for each token as its smoke run showed to whoever signed it.

Processor seconds are what is held, since a busy machine does not change them; and, loosely, the clock. On a GPU,
whose work no processor second shows, only the clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gpu_runner.contract import MOST_TIMES, Budget, Failure, Purpose, Spent

# Of what is usual, and seconds on top. The same 200 steps took 9.7 to 11.1 processor seconds on two cores that others
# wanted as well, what came before and after them 0.5 to 1.2 and 0.2 to 0.5 (ten runs).
TIMES, TRAIN_TIMES = 1.5, 1.3
BEFORE_SLACK_S, TRAIN_SLACK_S, AFTER_SLACK_S = 1.0, 2.0, 1.0
# Nothing was measured yet, as for a smoke run that comes before the incumbent's first own run: so much, and as long as
# so many of its own steps take. Building a model, trying it on three dummy steps and looking at it costs a few.
UNKNOWN_S, UNKNOWN_STEPS = 10.0, 20
# A cold compile on two cores takes 40 to 63 s. Kernels are compiled where that may pay (harness/warm_up.py).
COMPILE_SLACK_S, COMPILES_FROM_S = 120.0, 240.0
PROCESSOR_TIME = "processor time"  # what a machine that stands still does not spend
BUSY, BUSY_S = 4.0, 10.0  # by the clock, where processor seconds decide: a machine with other work takes so much longer


class Used(NamedTuple):
    """One of the three times: by the clock, and in processor seconds where these are counted."""

    wall_s: float
    cpu_s: float | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the three, in words."""

    name: str
    slack_s: float
    todo: str


BEFORE = Part(
    name="before its first text",
    slack_s=BEFORE_SLACK_S,
    todo="Only build the model before run.begin: what is learned there is learned outside of the budget.",
)
TRAIN = Part(
    name="for its tokens",
    slack_s=TRAIN_SLACK_S,
    todo="Work on each batch as its smoke run did, which was signed; or compare at a run budget in seconds.",
)
AFTER = Part(
    name="after its budget was spent",
    slack_s=AFTER_SLACK_S,
    todo="Call run.save when run.steps ends: what is learned there is learned outside of the budget.",
)


def used(spent: Spent, part: Part) -> Used:
    if part is BEFORE:
        return Used(spent.before_s, spent.before_cpu_s)
    return Used(spent.train_s, spent.train_cpu_s) if part is TRAIN else Used(spent.after_s, spent.after_cpu_s)


def over(spent: Spent, *, budget: Budget, purpose: Purpose, usual: Spent | None) -> Failure | None:
    """Why the run is over its budget, if it is. ``usual`` is what is to be expected of it, after its incumbent's own
    runs and, for a candidate, its smoke run; a smoke run shows only here how heavy its steps are.

    The incumbent's own runs are what others are compared with: they are held by nothing but their deadline.
    """
    if purpose == "baseline":
        return None
    is_smoke = purpose == "smoke"
    if is_smoke and usual is not None:
        # Until its own steps show how heavy they are, as much as they ever may be.
        usual = usual.as_heavy_as(spent) if spent.num_batches > 1 else usual.heavier(MOST_TIMES)
    for part in _held(budget, usual, is_smoke):
        may_compile = part is BEFORE and _may_compile(spent, budget, usual, is_smoke)
        allowed = _allowed(part, usual, may_compile) if usual else _unknown(spent, may_compile)
        if (message := _excess(used(spent, part), allowed, part, usual)) is not None:
            return Failure(kind="over_budget", message=message, todo=part.todo)
    return None


def _held(budget: Budget, usual: Spent | None, is_smoke: bool) -> Iterator[Part]:
    yield BEFORE
    if budget.kind == "tokens" and usual is not None and not is_smoke:  # a smoke run has no such time to compare with
        yield TRAIN
    yield AFTER


def _may_compile(spent: Spent, budget: Budget, usual: Spent | None, is_smoke: bool) -> bool:
    """Always on a GPU; on a CPU where the whole training is long enough to pay for it, which a smoke run never is."""
    if spent.before_cpu_s is None:
        return True
    if is_smoke:
        return False
    if budget.kind == "seconds":
        return budget.amount >= COMPILES_FROM_S
    return usual is None or 2 * usual.train_s >= COMPILES_FROM_S  # 2: eager, what was compiled took longer


def _unknown(spent: Spent, may_compile: bool) -> Used:
    """Beside a run's own steps, once it took some."""
    if not spent.num_batches:
        return Used(math.inf, math.inf)
    compiling_s = COMPILE_SLACK_S if may_compile else 0.0
    wall_s, cpu_s = (
        None if s is None else UNKNOWN_S + UNKNOWN_STEPS * s / spent.num_batches + compiling_s
        for s in (spent.train_s, spent.train_cpu_s)
    )
    assert wall_s is not None
    return Used(wall_s if cpu_s is None else BUSY * wall_s, cpu_s)


def _allowed(part: Part, usual: Spent, may_compile: bool) -> Used:
    compiling_s = COMPILE_SLACK_S if may_compile else 0.0
    wall_s, cpu_s = used(usual, part)
    times = TRAIN_TIMES if part is TRAIN else TIMES
    by_clock = times * wall_s + part.slack_s + compiling_s
    if cpu_s is None:
        return Used(by_clock, None)
    return Used(BUSY * by_clock + BUSY_S, times * cpu_s + part.slack_s + compiling_s)


def _excess(spent: Used, allowed: Used, part: Part, usual: Spent | None) -> str | None:
    theirs = used(usual, part) if usual else Used(math.nan, None)
    if spent.cpu_s is not None and allowed.cpu_s is not None and spent.cpu_s > allowed.cpu_s:
        return _sentence(spent.cpu_s, allowed.cpu_s, f"s of {PROCESSOR_TIME}", part, theirs.cpu_s)
    if spent.wall_s > allowed.wall_s:
        return _sentence(spent.wall_s, allowed.wall_s, "s", part, theirs.wall_s)
    return None


def _sentence(spent_s: float, allowed_s: float, unit: str, part: Part, usual_s: float | None) -> str:
    told = "" if usual_s is None or math.isnan(usual_s) else f", usual are {usual_s:.2f}"
    return f"Over budget: it took {spent_s:.2f} {unit} {part.name}; allowed were {allowed_s:.2f}{told}."
