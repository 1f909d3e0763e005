"""Counts a process tree's processor time, memory and threads from outside, so that nothing inside can change them."""

from __future__ import annotations

import time
from typing import NamedTuple

from gpu_runner.sandbox import tally
from gpu_runner.sandbox.cgroups import ControlGroup


class Spent(NamedTuple):
    at: float  # monotonic, seconds
    cpu_s: float | None  # of all processors; None where nobody counts them (macOS)
    peak_bytes: int  # of main memory
    num_threads: int


class Account:
    """Counts from control groups or, without one, from the processes that exist at each look.

    A control group counts every process that ran in it. Without one, a child that its parent never reaps counts up to
    the last look at it; at level none a parent may ask for that (seccomp.py forbids it at the others).
    """

    def __init__(self) -> None:
        self._seen = dict[tuple[int, str], float]()  # own seconds of every process, at the last look
        self._cpu_s, self._peak_bytes, self._num_threads = 0.0, 0, 0

    @property
    def peak_bytes(self) -> int:
        """The most main memory at any look so far."""
        return self._peak_bytes

    def look(self, pid: int, group: ControlGroup | None, enough: int) -> Spent:
        """Measure ``pid`` and all below it, up to ``enough`` threads. Never less than at an earlier look."""
        below, num_threads = tally.descendants(pid, enough)
        pids = [pid, *below]
        times = tally.cpu_times(pids)
        counted = group.cpu_s() if group is not None else None
        self._cpu_s = max(self._cpu_s, self._walked(times) if counted is None else counted)
        self._peak_bytes = max(self._peak_bytes, tally.peak_bytes(pids))
        self._num_threads = max(self._num_threads, num_threads)
        is_known = counted is not None or bool(self._seen)
        return Spent(time.monotonic(), self._cpu_s if is_known else None, self._peak_bytes, self._num_threads)

    def _walked(self, times: dict[tuple[int, str], tuple[float, float]]) -> float:
        self._seen |= {process: own for process, (own, _) in times.items()}
        return max(sum(self._seen.values()), sum(own + buried for own, buried in times.values()))
