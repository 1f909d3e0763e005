"""Shows how far the preparing of a dataset is: a bar on a terminal, a plain line now and then elsewhere.

Both go to stderr; stdout is for what was made.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LINE_EVERY_S = 5.0


class Silent:
    """Shows nothing."""

    @contextmanager
    def stage(self, name: str, num_bytes: int) -> Iterator[None]:
        """Begin a stage with about so many bytes."""
        yield

    def advance(self, num_bytes: int) -> None:
        """Count bytes that are done."""

    def say(self, sentence: str) -> None:
        """Tell a person a sentence."""


class Lines(Silent):
    """A line every few seconds, for logs."""

    def __init__(self) -> None:
        self._name, self._total, self._done, self._began, self._said_at = "", 0, 0, 0.0, 0.0

    @contextmanager
    def stage(self, name: str, num_bytes: int) -> Iterator[None]:
        self._name, self._total, self._done = name, num_bytes, 0
        self._began = self._said_at = time.monotonic()
        yield

    def advance(self, num_bytes: int) -> None:
        self._done += num_bytes
        now = time.monotonic()
        if now - self._said_at >= LINE_EVERY_S:
            self._said_at = now
            left_s = (now - self._began) * max(self._total - self._done, 0) / self._done
            self.say(f"{self._name}: {self._done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB, {left_s:,.0f} s left")

    def say(self, sentence: str) -> None:
        print(sentence, file=sys.stderr, flush=True)


class Bar(Silent):
    """rich's bar. A stage's bytes are an estimate, so it may end before or after them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description:<20}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))

    @contextmanager
    def stage(self, name: str, num_bytes: int) -> Iterator[None]:
        with self._bar:
            self._stage = self._bar.add_task(name, total=num_bytes)
            yield
            self._bar.update(self._stage, total=self._bar.tasks[self._stage].completed)

    def advance(self, num_bytes: int) -> None:
        self._bar.update(self._stage, advance=num_bytes)

    def say(self, sentence: str) -> None:
        self._bar.console.print(sentence, highlight=False, markup=False)  # names of files have brackets


def for_people() -> Silent:
    return Bar() if sys.stderr.isatty() else Lines()
