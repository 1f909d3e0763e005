"""The budget's clock: counts tokens where they are handed out, and seconds while training runs.

Budgets in tokens or FLOPs are never exceeded: a step that does not fit whole is not begun. A budget in seconds ends
with the step that crosses it. It also pays for the watch curve, since the supervisor counts the same seconds from
outside, where it cannot tell the watch curve from a step. Compilation and checkpoint are outside.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gpu_runner.contract import Budget
from gpu_runner.harness.failures import BadOverride


class BudgetClock:
    """A monotonic clock; not running at first."""

    def __init__(self, budget: Budget, max_steps: int | None) -> None:
        self.budget, self.max_steps = budget, max_steps  # max_steps: smoke runs, whatever the budget
        self.num_steps = 0
        self.num_tokens = 0
        self.planned_steps: int | None = None  # None while only the clock can tell
        self.agreed_s: float | None = None  # in a team: what the first process's clock said, for all to go by
        self._tokens_allowed = math.inf
        self._before = 0.0
        self._since: float | None = None
        self._looked_s = 0.0

    def plan(self, tokens_per_step: int, flops_per_token: float) -> None:
        """Compute how many steps the budget has. Raises BadOverride when it has not even one."""
        if self.max_steps is not None:
            self.planned_steps = self.max_steps
        elif self.budget.kind != "seconds":
            per_token = 1.0 if self.budget.kind == "tokens" else flops_per_token
            self._tokens_allowed = self.budget.amount / per_token
            self.planned_steps = int(self._tokens_allowed // tokens_per_step)
            if self.planned_steps == 0:
                raise BadOverride(
                    f"batch_size: one step is {tokens_per_step:,} tokens, more than the budget's"
                    f" {self._tokens_allowed:,.0f}; lower batch_size or seq_len, or ask for more"
                )

    def resume(self, *, num_steps: int, num_tokens: int, elapsed_s: float, spent_s: float) -> None:
        """Go on from the numbers of a snapshot."""
        self.num_steps, self.num_tokens, self._before = num_steps, num_tokens, elapsed_s
        self._looked_s = spent_s - elapsed_s
        self.agreed_s = spent_s if self.agreed_s is not None else None

    def start(self) -> None:
        assert self._since is None, "the clock runs already"
        self._since = time.monotonic()

    def stop(self) -> None:
        assert self._since is not None, "the clock stands already"
        self._before += time.monotonic() - self._since
        self._since = None

    @property
    def is_running(self) -> bool:
        return self._since is not None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock inside of this block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Stop the clock inside of this block, but count the time as spent where the budget is in seconds."""
        began = time.monotonic()
        with self.stopped():
            yield
        self._looked_s += time.monotonic() - began

    @property
    def elapsed_s(self) -> float:
        return self._before + (0.0 if self._since is None else time.monotonic() - self._since)

    @property
    def own_spent_s(self) -> float:
        """Seconds of a budget that are spent by this process's clock."""
        return self.elapsed_s + self._looked_s

    @property
    def spent_s(self) -> float:
        """Seconds of a budget that are spent; in a team, by the first process's clock."""
        return self.own_spent_s if self.agreed_s is None else self.agreed_s

    @property
    def fraction(self) -> float:
        """Spent share of the budget, 0..1: by steps where their number is known, else by the clock."""
        if self.planned_steps is not None:
            return min(self.num_steps / self.planned_steps, 1.0)
        return min(self.spent_s / self.budget.amount, 1.0)

    def allows(self, tokens_in_step: int) -> bool:
        """Whether a step of ``tokens_in_step`` may begin."""
        if self.max_steps is not None:
            return self.num_steps < self.max_steps
        if self.budget.kind == "seconds":
            return self.spent_s < self.budget.amount
        return self.num_tokens + tokens_in_step <= self._tokens_allowed

    @property
    def eta_s(self) -> float | None:
        """Seconds until the budget is spent at the present rate; None while none of it is."""
        return max(self.elapsed_s * (1 / self.fraction - 1), 0.0) if self.fraction else None

    @property
    def expected_steps(self) -> int | None:
        """Planned steps, or an estimate from the present rate; None while none of the budget is spent."""
        if self.planned_steps is not None:
            return self.planned_steps
        return round(self.num_steps / self.fraction) if self.fraction else None
