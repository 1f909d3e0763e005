"""From a trainer's records to live points, and to its last word on the campaign's metric."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import Protocol

from gpu_runner.command.readers import Reader, Record, reader_of
from gpu_runner.command.safely import opened
from gpu_runner.command.tensorboard import EventFiles
from gpu_runner.contract import MAX_METRICS, MAX_STEPS, MAX_TOKENS, Metrics
from gpu_runner.contract.plain import plain
from gpu_runner.process.child import Lines

MAX_LINE_BYTES = 65_536
LOOK_S = 0.5  # between two looks into files
MAX_FILE_BYTES = 256 << 20  # of a file of lines, in all
READ_BYTES = 1 << 20  # of one look
# Regular expressions cost what the line makes them cost: beyond these seconds, and this share of the run, nothing is
# read any more.
FREE_S, SHARE = 10.0, 0.2
LOSS = "train_loss"  # the name by which pages know the curve of the training loss
_NO_NAME = re.compile(r"[^a-z0-9_/]+")


class Listener(Protocol):
    """Takes points, as plain numbers."""

    def heard(self, step: int, tokens: int, metrics: dict[str, float]) -> None: ...


class Reading:
    """Reads one run. ``line`` and ``look`` take what there is; ``value`` is the last that was said of the metric."""

    def __init__(self, metrics: Metrics, listener: Listener, out: Path) -> None:
        """``out`` is the run's writable folder; ``metrics.file`` lies in its folder "out" or in "source"."""
        self.metrics, self.listener, self.out = metrics, listener, out
        self.value: float | None = None
        self.num_values = 0
        self.num_records = 0
        self.step = 0
        self.tokens: int | None = None
        self.spent_s = 0.0
        self._began_at = time.monotonic()
        self._look_at = 0.0
        self._lines: Reader | None = None if metrics.reader == "tensorboard" else reader_of(metrics)
        self._events = [EventFiles(out / place, metrics.file or ".") for place in PLACES] if not self._lines else []
        self._read_to: dict[str, int] = {}
        self._cut = {place: Lines(self._line_of_a_file, MAX_LINE_BYTES) for place in PLACES}

    @property
    def is_slow(self) -> bool:
        """Whether reading took more of the supervisor's time than it may."""
        return self.spent_s > max(FREE_S, SHARE * (time.monotonic() - self._began_at))

    def line(self, line: bytes | None) -> None:
        """One line of stdout or stderr; None for one that was too long."""
        if line is not None and self.metrics.file is None:
            self._line_of_a_file(line)

    def look(self) -> None:
        """Read what files have grown by. Called on every tick."""
        if self.metrics.file is None or (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + LOOK_S
        began_at = time.monotonic()
        for record in [record for events in self._events if not self.is_slow for record in events.look()]:
            self._heard(record)
        self.spent_s += time.monotonic() - began_at
        if self._lines is not None:
            for place in PLACES:
                self._look_into(place, self.metrics.file)

    def close(self) -> None:
        """Read what is left."""
        self._look_at = 0.0
        self.look()
        for cut in self._cut.values():
            cut.close()
        if self._lines is not None:
            for record in self._lines.close():
                self._heard(record)

    def _look_into(self, place: str, path: str) -> None:
        if (fd := opened(self.out / place, path)) is None:
            return
        with os.fdopen(fd, "rb") as file:
            read_to = self._read_to.get(place, 0)
            file.seek(read_to)
            block = file.read(min(READ_BYTES, max(MAX_FILE_BYTES - read_to, 0)))
        self._read_to[place] = read_to + len(block)
        self._cut[place].feed(block)

    def _line_of_a_file(self, line: bytes | None) -> None:
        if line is None or self._lines is None or self.is_slow:
            return
        began_at = time.monotonic()
        records = list(self._lines.take(plain(line.decode(errors="replace"))))
        self.spent_s += time.monotonic() - began_at
        for record in records:
            self._heard(record)

    # --- one record -----------------------------------------------------------------------------

    def _heard(self, record: Record) -> None:
        self.num_records += 1
        said = self.metrics
        self.step = _whole(record.get(said.step), MAX_STEPS, self.step + 1 if said.step not in record else self.step)
        if said.tokens and said.tokens in record:
            self.tokens = _whole(record[said.tokens], MAX_TOKENS, self.tokens or 0)
        if said.reads in record:
            self.value = record[said.reads]
            self.num_values += 1
        if metrics := self._named(record):
            self.listener.heard(self.step, self.tokens or 0, metrics)

    def _named(self, record: Record) -> dict[str, float]:
        """The record under the names of pages: the metric's own, train_loss, else the trainer's."""
        said = self.metrics
        named = dict[str, float]()
        for name, number in list(record.items())[:MAX_METRICS]:
            if name in (said.step, said.tokens) and name != said.reads:
                continue
            known = said.metric if name == said.reads else LOSS if name == said.loss else _as_a_name(name)
            if known:
                named[known] = number
        return named


PLACES = ("out", "source")  # where a trainer may write what is read


def _as_a_name(name: str) -> str:
    """As the wire takes a metric's name; val_bpb is the trusted scorer's and becomes reported_val_bpb."""
    known = _NO_NAME.sub("_", name.lower()).strip("_/")[:64]
    if not known or not known[0].isalpha():
        return ""
    return f"reported_{known}" if known == "val_bpb" else known


def _whole(number: float | None, at_most: int, otherwise: int) -> int:
    if number is None or not math.isfinite(number) or not 0 <= number <= at_most:
        return otherwise
    return int(number)
