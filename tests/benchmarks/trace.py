"""What a GPU did during a profiled round, from the trace that torch.profiler writes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ON_THE_GPU = {"kernel", "gpu_memcpy", "gpu_memset"}  # categories of Kineto's events


@dataclass(frozen=True)
class Kernel:
    name: str
    start_us: float
    us: float


def kernels(path: Path) -> list[Kernel]:
    """All of a trace's work on the GPU, by its start."""
    events = json.loads(path.read_text())["traceEvents"]
    found = [Kernel(e["name"], float(e["ts"]), float(e["dur"])) for e in events if e.get("cat") in ON_THE_GPU]
    return sorted(found, key=lambda kernel: kernel.start_us)


def idle_percent(run: Iterable[Kernel]) -> float:
    """Share of the time between the first start and the last end in which no kernel ran, whatever the streams.

    This is what launching from Python costs: a GPU whose queue is never empty has next to none.
    Raises ValueError when there is no kernel at all.
    """
    ordered = sorted(run, key=lambda kernel: kernel.start_us)
    if not ordered:
        raise ValueError("the trace holds no kernels: the profiler could not see the GPU")
    first = end_us = ordered[0].start_us
    idle_us = 0.0
    for kernel in ordered:
        idle_us += max(0.0, kernel.start_us - end_us)
        end_us = max(end_us, kernel.start_us + kernel.us)
    return 100 * idle_us / (end_us - first)


def by_name(run: Iterable[Kernel]) -> list[tuple[str, float, int]]:
    """(name, us in all, launches), the most expensive first."""
    us: dict[str, float] = defaultdict(float)
    launches: dict[str, int] = defaultdict(int)
    for kernel in run:
        us[kernel.name] += kernel.us
        launches[kernel.name] += 1
    return sorted(((name, us[name], launches[name]) for name in us), key=lambda row: -row[1])
