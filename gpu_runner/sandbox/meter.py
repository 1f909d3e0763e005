"""Limits of a process tree, and a meter for those that the kernel does not hold."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from gpu_runner.sandbox import cgroups, tally

GIB = 1 << 30
OUTPUT_LOOK_S, OUTPUT_LOOK_SHARE = 1.0, 20  # look at the folder at most every second, and at most 5 % of the time
HIDING = "The run closed a folder or a process to its supervisor, which has to count what it uses, and was killed."
WORDS = {"memory": "memory", "processes": "processes", "output": "disk space for its output", "files": "files"}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The limits of one process tree."""

    memory_bytes: int | None = None  # of main memory, not of a GPU's; None: seven eighths of what is granted here
    processes: int = 4096  # threads count: a compiling torch on a large machine has hundreds
    open_files: int = 4096
    file_bytes: int = 32 * GIB
    output_bytes: int = 64 * GIB
    output_files: int = 100_000

    @property
    def memory(self) -> int:
        if self.memory_bytes is not None:
            return self.memory_bytes
        return cgroups.memory_granted() * 7 // 8


class Excess(NamedTuple):
    """A limit that was exceeded. ``str()`` is a sentence."""

    what: Literal["memory", "processes", "output", "files", "hidden"]
    limit: int

    def __str__(self) -> str:
        if self.what == "hidden":
            return HIDING
        limit = f"{self.limit >> 20:,} MiB of" if self.what in ("memory", "output") else f"{self.limit:,}"
        return f"The run used more than its limit of {limit} {WORDS[self.what]} and was killed."


class Meter:
    """Counts what no kernel limit holds: output always; memory and processes where there is no control group."""

    def __init__(self, writable: Path | None, bounds: Bounds) -> None:
        self.writable, self.bounds = writable, bounds
        self._look_at = 0.0
        self._in_memory = 0  # bytes of files that lie in memory and no mapping tells of, at the last look

    def excess(self, pid: int, *, weigh: bool) -> Excess | None:
        pids, num_threads = tally.descendants(pid, self.bounds.processes)
        if num_threads >= self.bounds.processes:
            return Excess("processes", self.bounds.processes)
        try:
            found = self._look(pids)
        except tally.Hidden:
            return Excess("hidden", 0)
        left = self.bounds.memory - self._in_memory
        if weigh and tally.mapped_bytes(pids, left) > left:
            return Excess("memory", self.bounds.memory)
        return found

    def _look(self, pids: list[int]) -> Excess | None:
        """Count the output folder, and deleted or anonymous files: they fill the disk too, and no walk finds them."""
        if (began := time.monotonic()) < self._look_at:
            return None
        enough = self.bounds.output_files
        num_bytes, num_files = tally.usage(self.writable, enough) if self.writable else (0, 0)
        nameless, num_open = tally.nameless(pids, enough)
        disk = os.stat(self.writable).st_dev if self.writable else None
        num_bytes += sum(size for (device, _), size in nameless.items() if device == disk)
        of_its_own = tally.own_file_systems(pids)
        elsewhere = {disk, *of_its_own}
        self._in_memory = sum(of_its_own.values()) + sum(
            size for (device, _), size in nameless.items() if device not in elsewhere
        )
        now = time.monotonic()
        self._look_at = now + max(OUTPUT_LOOK_S, OUTPUT_LOOK_SHARE * (now - began))
        if max(num_files, num_open) >= enough:
            return Excess("files", enough)
        return Excess("output", self.bounds.output_bytes) if num_bytes > self.bounds.output_bytes else None
