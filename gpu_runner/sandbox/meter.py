"""What a process tree may use up, and what it has used: counted where the kernel holds no limit."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

GIB = 1 << 30
OUTPUT_LOOK_S, OUTPUT_LOOK_SHARE = 1.0, 20  # look at the folder at most every second, and at most 5 % of the time
WORDS = {"memory": "memory", "processes": "processes", "output": "disk space for its output", "files": "files"}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one process tree may use up."""

    memory_bytes: int | None = None  # of main memory, not of a GPU's; None: seven eighths of the machine's
    processes: int = 4096  # threads count: a compiling torch on a large machine has hundreds
    open_files: int = 4096
    file_bytes: int = 32 * GIB
    output_bytes: int = 64 * GIB
    output_files: int = 100_000

    @property
    def memory(self) -> int:
        if self.memory_bytes is not None:
            return self.memory_bytes
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 7 // 8


class Excess(NamedTuple):
    """More than ``Bounds`` allow. ``str()`` is a sentence."""

    what: Literal["memory", "processes", "output", "files"]
    limit: int

    def __str__(self) -> str:
        limit = f"{self.limit >> 20:,} MiB of" if self.what in ("memory", "output") else f"{self.limit:,}"
        return f"The run used more than its limit of {limit} {WORDS[self.what]} and was killed."


class Meter:
    """Counts what no kernel limit holds: the output folder everywhere, memory and processes without a control group."""

    def __init__(self, writable: Path | None, bounds: Bounds) -> None:
        self.writable, self.bounds = writable, bounds
        self._look_at = 0.0

    def excess(self, pid: int, *, weigh: bool) -> Excess | None:
        pids = descendants(pid, self.bounds.processes)
        if len(pids) >= self.bounds.processes:
            return Excess("processes", self.bounds.processes)
        if weigh and sum(map(private_bytes, pids)) > self.bounds.memory:
            return Excess("memory", self.bounds.memory)
        return self._output()

    def _output(self) -> Excess | None:
        began = time.monotonic()
        if self.writable is None or began < self._look_at:
            return None
        num_bytes, num_files = usage(self.writable, self.bounds.output_files)
        now = time.monotonic()
        self._look_at = now + max(OUTPUT_LOOK_S, OUTPUT_LOOK_SHARE * (now - began))
        if num_files >= self.bounds.output_files:
            return Excess("files", self.bounds.output_files)
        return Excess("output", self.bounds.output_bytes) if num_bytes > self.bounds.output_bytes else None


def usage(folder: Path, enough: int) -> tuple[int, int]:
    """Allocated bytes and number of entries below ``folder``, counted up to ``enough`` entries. Follows no link."""
    waiting, num_bytes, num_files = [str(folder)], 0, 0
    while waiting and num_files < enough:
        try:
            entries = list(os.scandir(waiting.pop()))
        except (FileNotFoundError, PermissionError, NotADirectoryError):  # the run is at work in there
            continue
        for entry in entries:
            try:
                about = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            num_files += 1
            num_bytes += 512 * about.st_blocks
            if stat.S_ISDIR(about.st_mode):
                waiting.append(entry.path)
    return num_bytes, num_files


def descendants(pid: int, enough: int) -> list[int]:
    """Processes below ``pid``, counted up to ``enough``. None where the kernel does not say (macOS)."""
    waiting, found = [pid], list[int]()
    while waiting and len(found) < enough:
        children = children_of(waiting.pop())
        found += children
        waiting += children
    return found


def children_of(pid: int) -> list[int]:
    """Direct children. Empty for a process that has ended, and where the kernel does not say (macOS)."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []


def private_bytes(pid: int) -> int:
    """Resident memory that ``pid`` shares with nobody; 0 for a process that has just ended."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
