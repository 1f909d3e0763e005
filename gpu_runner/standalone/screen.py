"""Shows a run on the terminal while it trains, and a table at its end.

A terminal gets a live display, anything else a plain line every few seconds. Everything shown that came from
the run went through ``plain``: no escape sequence reaches the terminal.
"""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gpu_runner.contract import LogLine, Progress
from gpu_runner.standalone.plan import Plan
from gpu_runner.standalone.record import Ending
from gpu_runner.worker.reporter import Point

LIVE_EVERY_S = 0.25
PLAIN_EVERY_S = 5.0
NUM_LOG_LINES = 6
LEVEL_STYLE = {"info": "dim", "eval": "cyan", "warning": "yellow", "error": "red"}

# Metric -> what it is called and how it is written; in the order of the screen.
SHOWN = (
    ("train_loss", "loss", "{:.4f} nats"),
    ("watch_bpb", "watch", "{:.4f} bits per byte"),
    ("watch_loss", "watch", "{:.4f} nats"),
    ("tokens_per_s", "speed", "{:,.0f} tokens/s"),
    ("mfu_percent", "MFU", "{:.1f} %"),
    ("step_ms_p50", "step p50", "{:.1f} ms"),
    ("step_ms_p95", "step p95", "{:.1f} ms"),
    ("grad_norm", "gradient norm", "{:.3g}"),
    ("peak_memory_mib", "peak memory", "{:,.0f} MiB"),
)


class Screen(Protocol):
    """A testimony's Listener with a ``tick``, so that it can redraw."""

    def started(self, facts: dict[str, Any]) -> None: ...
    def point(self, point: Point) -> None: ...
    def log(self, line: LogLine) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def tick(self) -> None: ...
    def note(self, text: str) -> None: ...
    def __enter__(self) -> Screen: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


def open_screen(plan: Plan, console: Console, *, quiet: bool) -> Screen:
    if quiet:
        return QuietScreen()
    return LiveScreen(plan, console) if console.is_terminal else PlainScreen(plan, console)


class QuietScreen:
    """Shows nothing."""

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        return None

    def started(self, facts: dict[str, Any]) -> None: ...
    def point(self, point: Point) -> None: ...
    def log(self, line: LogLine) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def tick(self) -> None: ...
    def note(self, text: str) -> None: ...


class _Following(QuietScreen):
    """Keeps the newest point, progress and facts."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan, self.console = plan, console
        self.latest: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        self.now: Progress | None = None
        self.lines: deque[LogLine] = deque(maxlen=NUM_LOG_LINES)
        self.shown_at = self.began_at = time.monotonic()

    def started(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def point(self, point: Point) -> None:
        self.latest |= {name: value for name, value in point.metrics.items() if value is not None}

    def log(self, line: LogLine) -> None:
        self.lines.append(line)

    def progress(self, progress: Progress) -> None:
        self.now = progress

    def is_due(self, every_s: float) -> bool:
        if time.monotonic() - self.shown_at < every_s:
            return False
        self.shown_at = time.monotonic()
        return True

    def readings(self) -> list[tuple[str, str]]:
        """(name, value in words) of what is known: bits per byte where they are known, else nats."""
        known = self.latest if "watch_bpb" not in self.latest else self.latest | {"watch_loss": None}
        return [(name, how.format(value)) for metric, name, how in SHOWN if (value := known.get(metric)) is not None]


class PlainScreen(_Following):
    """Prints a line every five seconds, and every line of the run's log."""

    def __enter__(self) -> Screen:
        self.note(f"{self.plan.folder}: starting")
        return self

    def started(self, facts: dict[str, Any]) -> None:
        super().started(facts)
        self.note(in_words(facts))

    def log(self, line: LogLine) -> None:
        self.note(line.text if line.level in ("info", "eval") else f"{line.level}: {line.text}")

    def tick(self) -> None:
        if self.is_due(PLAIN_EVERY_S) and self.now is not None:
            readings = "  ".join(f"{name} {value}" for name, value in self.readings())
            self.note(f"{_how_far(self.now)}  {readings}")

    def note(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


class LiveScreen(_Following):
    """Draws a bar, the newest numbers and the last lines of the log, in place."""

    def __init__(self, plan: Plan, console: Console) -> None:
        super().__init__(plan, console)
        self.live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.live.stop()

    def tick(self) -> None:
        if self.is_due(LIVE_EVERY_S):
            self.live.update(self.picture(), refresh=True)

    def note(self, text: str) -> None:
        self.live.console.print(Text(text, style="yellow"))

    def picture(self) -> Group:
        head = Text(f"{self.plan.folder.name}  ", style="bold")
        head.append(in_words(self.facts) if self.facts else self._waiting(), style="dim")
        lines = [
            Text(line.text, style=LEVEL_STYLE[line.level], overflow="ellipsis", no_wrap=True) for line in self.lines
        ]
        return Group(head, self._bar(), self._numbers(), *lines)

    def _waiting(self) -> str:
        return f"loading, warming up ({time.monotonic() - self.began_at:.0f} s)"

    def _bar(self) -> Table:
        row = Table.grid(padding=(0, 2))
        fraction = self.now.fraction if self.now else 0.0
        row.add_row(ProgressBar(total=1.0, completed=fraction, width=40), Text(_how_far(self.now) if self.now else ""))
        return row

    def _numbers(self) -> Table:
        grid = Table.grid(padding=(0, 2))
        cells = [Text.assemble((f"{name} ", "dim"), value) for name, value in self.readings()]
        for first in range(0, len(cells), 3):
            grid.add_row(*cells[first : first + 3])
        return grid


def in_words(facts: dict[str, Any]) -> str:
    """The device and the model of "started", in one line."""
    parts = [
        f"{facts.get('num_params') or 0:,} parameters",
        str(facts.get("device_name") or facts.get("device")),
        str(facts.get("dtype")),
        _attention(facts),
        "compiled" if facts.get("compile") else "eager",
    ]
    if (size := facts.get("world_size") or 1) > 1:
        parts.append(f"{size} processes")
    if (step := facts.get("resumed_at_step")) is not None:
        parts.append(f"going on after step {step:,}")
    return ", ".join(parts)


def table(ending: Ending, plan: Plan) -> Text:
    """The numbers of a run that trained, one a line; without those that were not measured."""
    numbers = ending.numbers()
    watch = _or(numbers["watch_bpb"], "{:.4f} bits per byte") or _or(numbers["watch_loss"], "{:.4f} nats per token")
    steps_ms = _or(numbers.get("step_ms_p50"), "{:.1f} ms, ") + _or(numbers.get("step_ms_p95"), "{:.1f} ms")
    rows = (
        ("watch", watch),
        ("val, trusted scorer", _score(ending)),
        ("steps", _or(numbers["num_steps"], "{:,}")),
        ("tokens", _or(numbers["num_tokens"], "{:,}")),
        ("training", _or(numbers["train_s"], "{:.1f} s")),
        ("compiling, warm-up", _or(numbers["compile_s"], "{:.1f} s")),
        ("in all", _or(numbers["total_s"], "{:.1f} s")),
        ("speed", _or(numbers["tokens_per_s"], "{:,.0f} tokens/s")),
        ("step p50, p95", steps_ms),
        ("peak memory", _or(numbers["peak_memory_mib"], "{:,.0f} MiB")),
        ("MFU", _or(numbers["mfu_percent"], "{:.1f} %")),
        ("computed in", _how(ending.facts)),
        ("checkpoint", str(plan.folder / "out" / "checkpoint")),
    )
    return Text("\n".join(f"  {name:<20} {value}" for name, value in rows if value))


def _or(number: float | None, how: str) -> str:
    return "" if number is None else how.format(number)


def _score(ending: Ending) -> str:
    score = ending.score
    return "" if score is None or score.val_bpb is None else f"{score.val_bpb:.4f} bits per byte ({score.outcome})"


def _how(facts: dict[str, Any]) -> str:
    if not facts:
        return ""
    how = "compiled" if facts.get("compile") else "eager"
    return f"{facts.get('dtype')}, {_attention(facts)}, {how}, on {facts.get('device_name')}"


def _attention(facts: dict[str, Any]) -> str:
    return f"{facts.get('attention_kernel') or facts.get('attention')} attention"


def _how_far(now: Progress) -> str:
    steps = f"{now.step:,}" if now.num_steps is None else f"{now.step:,} of {now.num_steps:,}"
    left = "" if now.eta_s is None else f"  {clock(now.eta_s)} left"
    return f"{100 * now.fraction:3.0f} %  step {steps}{left}"


def clock(seconds: float) -> str:
    """A time as ``1:02:03`` or ``4:05``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
