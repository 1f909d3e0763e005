"""What `make gpu` does, in its order, and how long each stage should take on an H100 or H200.

The minutes are planned, not measured: budgets of the runs in a stage, and 40 s for each time that something compiles.
What a stage really took stands in test-results/gpu-stages.md afterwards.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.gpu.machine import BEGAN, MINUTES


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One file of tests/gpu."""

    file: str
    minutes: float
    about: str


STAGES = (
    Stage(file="test_corpus", minutes=0.5, about="the text of the installed packages becomes the corpus"),
    Stage(file="test_kernels", minutes=3.5, about="every kernel against float64, on fresh random inputs"),
    Stage(file="test_throughput", minutes=5, about="tokens/s, FLOPs used and memory; with PEERS twice as long"),
    Stage(file="test_profile", minutes=2, about="where a step's time goes, and the gaps between kernels"),
    Stage(file="test_sandbox", minutes=3.5, about="as fast inside, attacks denied, nothing left after kill -9"),
    Stage(file="test_memory", minutes=3.5, about="out of memory, and all of it back for the next run"),
    Stage(file="test_compile", minutes=2.5, about="compiling cold, and with the kernels of earlier runs"),
    Stage(file="test_scorer", minutes=6, about="its tolerance, cheats and honest models, its share of a run"),
    Stage(file="test_campaign", minutes=3.5, about="a campaign that nobody attends, in all the time that is left"),
    Stage(file="test_equal_seconds", minutes=12, about="held-out loss after five minutes beside autoresearch's"),
)
ORDER = tuple(stage.file for stage in STAGES)


class Timetable:
    """Says before each stage what comes and how long it should take, and keeps what it took."""

    def __init__(self) -> None:
        self.planned: list[Stage] = []
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.counts = False  # once it is known that there is something to measure on

    def plan(self, files: set[str]) -> None:
        self.planned = [stage for stage in STAGES if stage.file in files]

    def enter(self, file: str) -> None:
        """Called before every test: a stage begins with its first."""
        if file in self.began or (stage := next((s for s in self.planned if s.file == file), None)) is None:
            return
        now = self.began[file] = time.monotonic()
        number, spent = self.planned.index(stage) + 1, (now - BEGAN) / 60
        still = sum(later.minutes for later in self.planned[number - 1 :])
        Console(stderr=True, highlight=False).print(
            f"\n[bold]Stage {number} of {len(self.planned)}: {file.removeprefix('test_')}[/], {stage.about}."
            f" About {stage.minutes:g} min; {spent:.1f} of {MINUTES:g} min are spent, planned from here {still:g}."
        )

    def leave(self, file: str) -> None:
        self.ended[file] = time.monotonic()

    def rows(self) -> list[tuple[str, str, str]]:
        """(stage, planned, took)."""
        return [
            (
                s.file.removeprefix("test_"),
                f"{s.minutes:g} min",
                f"{(self.ended[s.file] - self.began[s.file]) / 60:.1f} min",
            )
            for s in self.planned
            if s.file in self.ended
        ]


TIMETABLE = Timetable()


class Steps:
    """Steps of a stage, with the time that is left: a bar on a terminal, a line for each step elsewhere."""

    def __init__(self, name: str, total: int, bar: Progress | None) -> None:
        self.name, self.total, self.bar, self.num_done, self.began = name, total, bar, 0, time.monotonic()
        self.task = None if bar is None else bar.add_task(name, total=total)

    def done(self, what: str) -> None:
        """One more of them."""
        self.num_done += 1
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, advance=1, description=f"{self.name}: {what}"[:60])
            return
        spent = time.monotonic() - self.began
        left = spent / self.num_done * max(self.total - self.num_done, 0)
        print(
            f"{self.name}: {self.num_done} of {self.total}, {what}; about {left:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def steps(name: str, total: int) -> Iterator[Steps]:
    if not sys.stderr.isatty():
        yield Steps(name, total, None)
        return
    columns = (
        TextColumn("{task.description:<60}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield Steps(name, total, bar)
