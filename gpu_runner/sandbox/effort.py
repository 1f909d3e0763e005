"""Processor seconds of a process tree, as the kernel counts them: nothing in the tree can turn them back.

A wall clock would blame a run for what else the machine does. Where there is no /proc (macOS) nothing is counted.
"""

from __future__ import annotations

import os
from pathlib import Path

from gpu_runner.sandbox import tally

MAX_THREADS = 4096
# Fields of /proc/PID/stat behind the command's name, which may hold anything (proc_pid_stat(5), from the third on).
OWN, OF_THE_BURIED, STARTED = slice(11, 13), slice(13, 15), 19


class Effort:
    """Of ``pid`` and all below it. Call ``cpu_s`` every now and then: who dies unseen is counted by its parent only."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._most = 0.0
        self._own: dict[tuple[int, int], float] = {}  # (pid, when it started) -> what it was last seen to have used

    def cpu_s(self) -> float | None:
        """Processor seconds so far; None where they cannot be had. Never less than before."""
        if not Path("/proc/self/stat").exists():
            return None
        of_the_living = 0.0
        for pid in (self.pid, *tally.descendants(self.pid, MAX_THREADS)[0]):
            if (times := _times(pid)) is not None:
                started, own_s, buried_s = times
                self._own[pid, started] = own_s
                of_the_living += own_s + buried_s
        # Both miss something: a parent that ignores its children's deaths is told nothing of what they used, and
        # whoever comes and goes between two looks is seen by its parent alone.
        self._most = max(self._most, of_the_living, sum(self._own.values()))
        return self._most


def _times(pid: int) -> tuple[int, float, float] | None:
    """When it started (ticks), its own seconds and those of its children that were waited for; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    per_s = os.sysconf("SC_CLK_TCK")
    own, buried = (sum(map(int, fields[part])) / per_s for part in (OWN, OF_THE_BURIED))
    return int(fields[STARTED]), own, buried
