"""Parses what a sandboxed run says about itself. All of it may have been written by hostile code.

It comes two ways: JSON lines on the report pipe (the harness shares its process with the proposed code, so any line
may be forged), and what is printed on stdout and stderr. A malformed line becomes a warning in the run's log, a number
that is not finite becomes None, and what is too much is left out and counted. Nothing that comes in here can stop the
supervisor or reach a terminal or a page as more than plain text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from gpu_runner.contract import (
    MAX_LOG_CHARS,
    MAX_METRICS,
    MAX_STEPS,
    MAX_TOKENS,
    Failure,
    FailureKind,
    LogLine,
    Progress,
)
from gpu_runner.contract.plain import plain
from gpu_runner.process.terminal import shown
from gpu_runner.worker.reporter import Point

MAX_LINE_BYTES = 65_536
MAX_STARTED_BYTES = 16_000
MAX_WHOLE = MAX_TOKENS
POINTS_PER_S, POINTS_AT_ONCE = 200.0, 4_000.0
LINES_PER_S, LINES_AT_ONCE = 40.0, 600.0
LOUD_S = 1.0  # at most one warning a second about one kind of nonsense

METRIC_NAME = re.compile(r"[a-z][a-z0-9_/]{0,63}")
LEVELS: tuple[str, ...] = get_args(LogLine.model_fields["level"].annotation)
# The kinds of failure that a run may report of itself; the others only the supervisor finds.
RUN_FAILURES = (
    "out_of_memory",
    "over_budget",
    "over_limit",
    "machine_failed",
    "killed",
    "device_lost",
    "no_compiler",
    "snapshot_unfit",
    "not_finite",
    "bad_override",
    "recipe_error",
    "dataset_missing",
    "worker_error",
)

Level = Literal["info", "eval", "warning", "error"]


class Listener(Protocol):
    """Takes the parsed, harmless reports: the Reporter, or a list in tests."""

    def point(self, point: Point) -> None: ...
    def log(self, line: LogLine) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def started(self, facts: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The harness's "ended" line. All of it is the run's own claim."""

    ok: bool
    failure: Failure | None
    num_steps: int | None
    num_tokens: int | None
    train_s: float | None
    compile_s: float | None
    peak_memory_mib: float | None
    self_reported_bpb: float | None
    stopped: bool  # as it was told to, with a snapshot
    numbers: dict[str, float]  # everything finite that it said, the above among it


class Allowance:
    """A rate limit: ``per_s`` a second, ``at_once`` in a burst. ``num_refused`` counts what exceeded it."""

    def __init__(self, per_s: float, at_once: float, clock: Callable[[], float]) -> None:
        self.per_s, self.at_once, self.clock = per_s, at_once, clock
        self.left, self.asked_at = at_once, clock()
        self.num_refused = 0

    def take(self) -> bool:
        now = self.clock()
        self.left = min(self.at_once, self.left + (now - self.asked_at) * self.per_s)
        self.asked_at = now
        if self.left < 1:
            self.num_refused += 1
            return False
        self.left -= 1
        return True


class Testimony:
    """Parses the lines of one run and passes them on to ``listener``. ``clock``: seconds since its process started."""

    def __init__(self, listener: Listener, clock: Callable[[], float]) -> None:
        self.listener = listener
        self.clock = clock
        self.started_at_s: float | None = None
        self.ended: Ended | None = None
        self.last_words: list[str] = []  # of stderr, for a process that dies without an "ended" line
        self._points = Allowance(POINTS_PER_S, POINTS_AT_ONCE, clock)
        self._lines = Allowance(LINES_PER_S, LINES_AT_ONCE, clock)
        self._metrics: set[str] = set()
        self._warned_at: dict[str, float] = {}

    def report_line(self, line: bytes | None) -> None:
        """One line of the report pipe; None for one that was longer than MAX_LINE_BYTES."""
        if line is None:
            return self._warn("long", f"a report line of more than {MAX_LINE_BYTES:,} bytes is left out")
        said = _parse(line)
        if not isinstance(said, dict):
            return self._warn(
                "malformed", f"a report line is no JSON object: {plain(line.decode(errors='replace'))[:120]!r}"
            )
        heard = {"started": self._started, "point": self._point, "progress": self._progress}.get(str(said.get("kind")))
        if heard is not None:
            return heard(said)
        if said.get("kind") == "log":
            return self._log(said)
        if said.get("kind") == "ended":
            self.ended = self._ended(said)
            return None
        return self._warn("kind", f"a report line of unknown kind {plain(str(said.get('kind')))[:40]!r} is left out")

    def printed(self, line: bytes | None, level: Level) -> None:
        """One line of stdout or stderr, as a terminal would show it; None for one that was too long."""
        if line is None:
            return self._say(level, "(a very long line is left out)")
        text = plain(line.decode(errors="replace"))
        if level != "info":
            self.last_words = [*self.last_words[-11:], text[:300]]
        if text.strip():
            self._say(level, text)
        return None

    def close(self) -> None:
        """Log how many points and lines were left out."""
        for allowance, what in ((self._points, "points"), (self._lines, "log lines")):
            if allowance.num_refused:
                text = (
                    f"{allowance.num_refused:,} {what} came faster than {allowance.per_s:g} a second and were left out"
                )
                self.listener.log(LogLine(at_s=self.clock(), level="warning", text=text))

    def heard(self, step: int, tokens: int, metrics: Mapping[str, float]) -> None:
        """A point of a foreign trainer, read from what it printed."""
        self._point({"step": step, "tokens": tokens, "elapsed_s": self.clock(), "metrics": dict(metrics)})

    # --- kinds ------------------------------------------------------------------------------

    def _started(self, said: dict[str, Any]) -> None:
        if self.started_at_s is None:  # saying it again does not turn the clock back
            self.started_at_s = self.clock()
        facts = {key: _plain_fact(value) for key, value in said.items() if key != "kind" and METRIC_NAME.fullmatch(key)}
        if len(json.dumps(facts)) > MAX_STARTED_BYTES:
            return self._warn("started", "what the run says of its start is too long and left out")
        self.listener.started(facts)
        return None

    def _point(self, said: dict[str, Any]) -> None:
        step, tokens = _whole(said.get("step"), at_most=MAX_STEPS), _whole(said.get("tokens"))
        elapsed_s = _number(said.get("elapsed_s"))
        metrics = said.get("metrics")
        if step is None or tokens is None or elapsed_s is None or elapsed_s < 0 or not isinstance(metrics, dict):
            return self._warn("point", "a point without a step, tokens, time or metrics is left out")
        kept = {name: self._metric(name, value) for name, value in metrics.items() if self._is_metric(name)}
        if self._points.take():
            self.listener.point(Point(step, tokens, elapsed_s, kept))
        return None

    def _is_metric(self, name: str) -> bool:
        if name in self._metrics:
            return True
        if not METRIC_NAME.fullmatch(name) or len(self._metrics) >= MAX_METRICS:
            self._warn(
                "metric", f"metric {plain(name)[:64]!r}: not a metric's name, or more than {MAX_METRICS} of them"
            )
            return False
        self._metrics.add(name)
        return True

    def _metric(self, name: str, value: object) -> float | None:
        number = _number(value)
        if number is None and value is not None:
            self._warn("not finite", f"{name} is {plain(repr(value))[:40]}, not a finite number; it is left empty")
        return number

    def _progress(self, said: dict[str, Any]) -> None:
        fraction, eta_s = _number(said.get("fraction")), _number(said.get("eta_s"))
        step, num_steps = _whole(said.get("step")), _whole(said.get("num_steps"))
        if fraction is None or not 0 <= fraction <= 1 or step is None:
            return self._warn("progress", "a progress line without a fraction from 0 to 1 and a step is left out")
        self.listener.progress(Progress(fraction=fraction, eta_s=eta_s, step=step, num_steps=num_steps))
        return None

    def _log(self, said: dict[str, Any]) -> None:
        text, level = said.get("text"), said.get("level")
        if not isinstance(text, str):
            return self._warn("log", "a log line without a text is left out")
        for line in shown(text):
            self._say(level if level in LEVELS else "info", plain(line))
        return None

    def _ended(self, said: dict[str, Any]) -> Ended:
        return Ended(
            ok=said.get("outcome") == "ok",
            failure=_failure(said.get("failure")),
            num_steps=_whole(said.get("num_steps"), at_most=MAX_STEPS),
            num_tokens=_whole(said.get("num_tokens")),
            train_s=_number(said.get("train_s")),
            compile_s=_number(said.get("compile_s")),
            peak_memory_mib=_number(said.get("peak_memory_mib")),
            self_reported_bpb=_number(said.get("self_reported_bpb")),
            stopped=said.get("outcome") == "stopped",
            numbers={
                name: value
                for name, value in list(said.items())[:MAX_METRICS]
                if METRIC_NAME.fullmatch(name) and _number(value) is not None
            },
        )

    # --- saying -----------------------------------------------------------------------------

    def _say(self, level: Level, text: str) -> None:
        if not self._lines.take():
            return
        short = text if len(text) <= MAX_LOG_CHARS else text[: MAX_LOG_CHARS - 1] + "…"
        self.listener.log(LogLine(at_s=self.clock(), level=level, text=short))

    def _warn(self, about: str, text: str) -> None:
        now = self.clock()
        if now - self._warned_at.get(about, float("-inf")) >= LOUD_S:
            self._warned_at[about] = now
            self._say("warning", text)


def _parse(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, a number of 5,000 digits, 60,000 brackets
        return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: object, *, at_most: int = MAX_WHOLE) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= at_most else None


def _plain_fact(value: object, depth: int = 0) -> Any:
    """A scalar, or a flat list or table of scalars; anything deeper becomes None."""
    if isinstance(value, str):
        return plain(value)[:500]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value if abs(value) <= MAX_WHOLE else None
    if depth == 0 and isinstance(value, dict):
        return {plain(key)[:64]: _plain_fact(body, 1) for key, body in list(value.items())[:200]}
    if depth == 0 and isinstance(value, list):
        return [_plain_fact(body, 1) for body in value[:200]]
    return None


def _failure(said: object) -> Failure | None:
    if not isinstance(said, dict):
        return None
    kind: FailureKind = said["kind"] if said.get("kind") in RUN_FAILURES else "recipe_error"
    message = "\n".join(map(plain, shown(str(said.get("message", "")))))[-4_000:]
    return Failure(kind=kind, message=message, todo=plain(str(said.get("todo", "")))[:1_000])
