"""Limits on a run's time inside and outside of its budget: before its first text, in training, after its last batch.

Text is counted where it is handed out (ration.py), so no run gets more of it than was signed. A cheating recipe can
still use time: learn before the clock starts from what lies on the disk, learn on after the last batch, or go over
each batch again and again where the budget is in tokens. Nobody can say in advance how long a recipe needs; so a
proposal is compared with what its incumbent's runs used. Where the budget is in tokens, a larger model may take longer:
by as much for each token as its smoke run took, which the reviewer saw.

Processor seconds have the tight limit, since a busy machine does not change them; the clock has a loose one. A GPU's
work does not show in processor seconds, so there the clock alone is compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gpu_runner.contract import MOST_TIMES, Budget, Failure, Purpose, Spent

# Factors on the usual time, and seconds on top. The same 200 steps took 9.7 to 11.1 processor seconds on two busy
# cores; what came before and after them took 0.5 to 1.2 and 0.2 to 0.5 (ten runs).
TIMES, TRAIN_TIMES = 1.5, 1.3
BEFORE_SLACK_S, TRAIN_SLACK_S, AFTER_SLACK_S = 1.0, 2.0, 1.0
# Where nothing usual is known, as for a smoke run before the incumbent's first own run: UNKNOWN_S, and the time of
# UNKNOWN_STEPS of the run's own steps. Building a model, warming it up and taking the watch curve costs a few steps.
UNKNOWN_S, UNKNOWN_STEPS = 10.0, 20
# A cold compile on two cores takes 40 to 63 s. Kernels are compiled where that may pay (harness/warm_up.py).
COMPILE_SLACK_S, COMPILES_FROM_S = 120.0, 240.0
PROCESSOR_TIME = "processor time"  # what a machine that stands still does not spend
# Of a foreign trainer that keeps its own time: what it takes beside it differs less than that from run to run.
FOREIGN_TIMES, FOREIGN_SLACK_S = 1.15, 15.0
BUSY, BUSY_S = 4.0, 10.0  # how much looser the clock's limit is where processor seconds decide: machines are busy


class Used(NamedTuple):
    """One of a run's three times: seconds by the clock, and processor seconds where these are counted."""

    wall_s: float
    cpu_s: float | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of a run's three times (BEFORE, TRAIN, AFTER): its words in messages, its slack, and the way out."""

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


FOREIGN = Part(
    name="from start to end",
    slack_s=TRAIN_SLACK_S,
    todo="Train no longer than the incumbent does: what it is told is what was signed.",
)


def used(spent: Spent, part: Part) -> Used:
    if part is BEFORE:
        return Used(spent.before_s, spent.before_cpu_s)
    return Used(spent.after_s, spent.after_cpu_s) if part is AFTER else Used(spent.train_s, spent.train_cpu_s)


def over(spent: Spent, *, budget: Budget, purpose: Purpose, usual: Spent | None) -> Failure | None:
    """The Failure of a run that is over its allowance; None while it is within it.

    ``usual`` is what the run is expected to use, from its incumbent's own runs and, for a candidate, its smoke run. How
    heavy a smoke run's steps are is known only from its own ``spent``. Baseline runs set the standard, so only their
    deadline limits them.
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


def over_by_the_clock(train: Used, *, budget: Budget, usual: Spent | None) -> Failure | None:
    """As ``over``, of a foreign trainer: nobody hands its text out, so its whole process is compared with the usual.

    At a budget in seconds by the clock alone: a trainer that keeps its own time takes as long as its incumbent. At one
    in tokens, which it is only told, in processor seconds as ever; nobody has seen how heavy its steps are.
    """
    if usual is None:
        return None
    if budget.kind == "seconds":
        allowed = Used(FOREIGN_TIMES * usual.train_s + FOREIGN_SLACK_S, None)
        train = Used(train.wall_s, None)
    else:
        allowed = _allowed(TRAIN, usual.heavier(MOST_TIMES), may_compile=False)
    message = _excess(train, allowed, FOREIGN, usual)
    return None if message is None else Failure(kind="over_budget", message=message, todo=FOREIGN.todo)


def _held(budget: Budget, usual: Spent | None, is_smoke: bool) -> Iterator[Part]:
    yield BEFORE
    if budget.kind == "tokens" and usual is not None and not is_smoke:  # a smoke run has no such time to compare with
        yield TRAIN
    yield AFTER


def _may_compile(spent: Spent, budget: Budget, usual: Spent | None, is_smoke: bool) -> bool:
    """Always on a GPU; on a CPU only where training is long enough to pay for it, so never in a smoke run."""
    if spent.before_cpu_s is None:
        return True
    if is_smoke:
        return False
    if budget.kind == "seconds":
        return budget.amount >= COMPILES_FROM_S
    return usual is None or 2 * usual.train_s >= COMPILES_FROM_S  # 2: eager, what was compiled took longer


def _unknown(spent: Spent, may_compile: bool) -> Used:
    """The limit where nothing usual is known yet: from the run's own time a step, and none before its first step."""
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
