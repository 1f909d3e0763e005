"""How busy a GPU was, and when nothing ran although something waited."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.gpu.machine import IS_DRY_RUN

EVERY_MS = 500
Span = tuple[float, float]  # seconds since the epoch


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time without overlaps, in order."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop)
        elif stop > start:
            merged.append((start, stop))
    return merged


def length(spans: Iterable[Span]) -> float:
    return sum(stop - start for start, stop in union(spans))


def idle_with_work_s(waiting: Iterable[Span], running: Iterable[Span]) -> float:
    """Seconds in which something waited and nothing ran."""
    waiting, running = list(waiting), list(running)
    return length([*waiting, *running]) - length(running)


@dataclass(frozen=True)
class Sample:
    at: float  # seconds since the epoch
    percent: float  # of the last moments in which a kernel ran
    memory_mib: float


@contextmanager
def watched(path: Path) -> Iterator[Path]:
    """nvidia-smi writes to ``path`` meanwhile; nothing in a dry run."""
    if IS_DRY_RUN:
        yield path
        return
    fields = "--query-gpu=timestamp,utilization.gpu,memory.used"
    with open(path, "wb") as file:
        asked = ["nvidia-smi", fields, "--format=csv,noheader,nounits", "--id=0", f"--loop-ms={EVERY_MS}"]
        with subprocess.Popen(asked, stdout=file, stdin=subprocess.DEVNULL) as watch:
            try:
                yield path
            finally:
                watch.terminate()


def samples(path: Path) -> list[Sample]:
    """What was written; empty in a dry run. A last line may be cut off."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3 and parts[2]:
            at = datetime.strptime(parts[0], "%Y/%m/%d %H:%M:%S.%f").timestamp()  # noqa: DTZ007  # local, as it says
            found.append(Sample(at, float(parts[1]), float(parts[2])))
    return found


def since_epoch(written: str) -> float:
    """Of an instant as SQLite holds it for Django: UTC without saying so."""
    return datetime.fromisoformat(f"{written}+00:00").timestamp()


def within(found: Iterable[Sample], spans: Iterable[Span]) -> list[Sample]:
    spans = union(spans)
    return [sample for sample in found if any(start <= sample.at <= stop for start, stop in spans)]
