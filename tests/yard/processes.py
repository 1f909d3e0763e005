"""Looking at real processes: who lives, and waiting until somebody does or does not."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GUARD = ROOT / "gpu_runner" / "process" / "guard.py"


def wait_until(is_so: Callable[[], object], what: str, within_s: float = 15.0) -> None:
    """Looks again and again until ``is_so``; fails with ``what`` after ``within_s`` seconds."""
    give_up_at = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < give_up_at, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """A zombie whose parent has not looked yet is dead."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, timeout=10)
    return bool(said.stdout.strip()) and not said.stdout.strip().startswith("Z")


def with_mark(mark: str) -> set[int]:
    """Every living process whose command line or environment holds ``mark``, whoever its parent is by now."""
    said = subprocess.run(["ps", "axeww", "-o", "pid=,stat=,command="], capture_output=True, text=True, timeout=10)
    rows = [line.split(None, 2) for line in said.stdout.splitlines() if mark in line]
    return {int(pid) for pid, stat, command in rows if not stat.startswith("Z") and not command.startswith("ps ")}


def numbers_in(file: Path, count: int) -> list[int]:
    """The process ids that ``count`` processes have written into ``file``, one a line."""
    wait_until(lambda: file.exists() and file.read_text().count("\n") >= count, f"{count} lines in {file.name}")
    return [int(line) for line in file.read_text().split()]
