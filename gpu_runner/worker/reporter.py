"""Sends a run's reports to the web side: batches that survive an outage, and a heartbeat that holds the lease.

A thread of its own sends, so that neither training nor reading it ever waits for the network. One
batch is under way at a time; until its seq is acknowledged the same bytes go out again and newer
ones wait. ``stop`` says why the run must end:

    cancelled     the answer to a report was *stop* (a person cancelled, or halted the campaign)
    superseded    409: another worker has the lease; nothing more is sent
    refused       400/401/403: the web side does not accept the reports; nothing more is sent
    lost_contact  no acknowledgement for WORKER_GIVES_UP_S: soon another worker may have the run
    broken        this thread raised: our bug
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from gpu_runner import contract
from gpu_runner.contract import Beat, LogLine, Order, Phase, Points, Progress, Report, RunEnd
from gpu_runner.worker.client import REPORT_S, Refused, RunLine, Superseded, Unreachable

log = logging.getLogger(__name__)

BATCH_S = 0.5
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 4.0
SLICE_S = 0.1
# A batch is also cut by weight: 2,000 points with 64 metrics would be more than a web server accepts at once.
MAX_CELLS = 30_000
MAX_CHARS = 200_000


def now_s() -> float:
    """Seconds on a clock that goes on while the machine is suspended, as leases do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Point(NamedTuple):
    step: int
    tokens: int
    elapsed_s: float
    metrics: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why this run must end."""

    why: Literal["cancelled", "superseded", "refused", "lost_contact", "broken"]
    reason: str


@dataclass(kw_only=True)
class Draft:
    """A report that is still being collected. All of it is of one phase."""

    phase: Phase
    points: list[Point] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)
    progress: Progress | None = None
    started: dict[str, Any] | None = None
    urgent: bool = False
    cells: int = 0
    chars: int = 0

    def has_news(self) -> bool:
        return bool(self.points or self.log or self.progress or self.started is not None or self.urgent)

    def is_full(self) -> bool:
        return (
            len(self.points) >= contract.MAX_POINTS
            or len(self.log) >= contract.MAX_LOG_LINES
            or self.cells >= MAX_CELLS
            or self.chars >= MAX_CHARS
        )

    def report(self, *, fence: int, seq: int) -> Report:
        return Report(
            fence=fence,
            seq=seq,
            phase=self.phase,
            points=columns(self.points) if self.points else None,
            log=self.log,
            progress=self.progress,
            started=self.started,
        )


def columns(points: list[Point]) -> Points:
    """Rows to columns; a metric that a point lacks is None there."""
    names = dict.fromkeys(name for point in points for name in point.metrics)
    return Points(
        step=[point.step for point in points],
        tokens=[point.tokens for point in points],
        elapsed_s=[point.elapsed_s for point in points],
        metrics={name: [point.metrics.get(name) for point in points] for name in names},
    )


class Reporter:
    """Collects from the worker's thread, sends from its own. Call ``start``, then ``close``."""

    def __init__(
        self,
        line: RunLine,
        *,
        fence: int,
        next_seq: int,
        beat_s: float = contract.HEARTBEAT_S,
        gives_up_s: float = contract.WORKER_GIVES_UP_S,
    ) -> None:
        self._line = line
        self._fence = fence
        self._next_seq = next_seq
        self._beat_s = beat_s
        self._gives_up_s = gives_up_s
        self._news = threading.Condition()
        self._draft = Draft(phase="leased")
        self._sealed: deque[Draft] = deque()
        self._unacked: Report | None = None
        self._retry_s = 0.0  # 0: the last attempt was answered
        self._tried_at = float("-inf")  # so the first news goes out at once
        self._heard_at = now_s()
        self._stop: Stop | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._send_until_over, name="reporter", daemon=True)

    def start(self) -> None:
        self._heard_at = now_s()
        self._thread.start()

    # --- what the run's thread says ---------------------------------------------------------

    def enter(self, phase: Phase) -> None:
        """Begin a phase of the run; it is reported at once."""
        with self._news:
            self._seal()
            self._draft = Draft(phase=phase, urgent=True)
            self._news.notify()

    def point(self, point: Point) -> None:
        with self._news:
            self._draft.points.append(point)
            self._draft.cells += 3 + len(point.metrics)
            self._added()

    def log(self, line: LogLine) -> None:
        with self._news:
            self._draft.log.append(line)
            self._draft.chars += len(line.text)
            self._added()

    def progress(self, progress: Progress) -> None:
        with self._news:
            self._draft.progress = progress
            self._added()

    def started(self, facts: dict[str, Any]) -> None:
        with self._news:
            self._draft.started = facts
            self._added()

    def close(self, *, within_s: float) -> bool:
        """Send what is left and end the thread. True when everything was acknowledged."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(within_s)
        return not self._thread.is_alive() and self._unacked is None and not self._sealed

    @property
    def stop(self) -> Stop | None:
        """Why the run must end now; None while it may go on. Also right while a request hangs."""
        if self._stop is None and now_s() - self._heard_at > self._gives_up_s:
            self._stop = Stop(why="lost_contact", reason=f"No acknowledgement for {self._gives_up_s:g} s")
        return self._stop

    # --- the sending thread -----------------------------------------------------------------

    def _added(self) -> None:
        if self._draft.is_full():
            self._seal()
        self._news.notify()

    def _seal(self) -> None:
        if self._draft.has_news():
            self._sealed.append(self._draft)
        self._draft = Draft(phase=self._draft.phase)

    def _send_until_over(self) -> None:
        try:
            while (message := self._next_message()) is not None:
                self._send(message)
        except Exception as error:  # or the run would train on, unheard, until contact counts as lost
            log.exception("the reporter broke")
            self._stop = self._stop or Stop(why="broken", reason=f"{type(error).__name__}: {error}")

    def _next_message(self) -> Report | Beat | None:
        """Wait until a Report or a Beat is due and return it. None when all is sent, or nothing more may be."""
        with self._news:
            while not self._is_over():
                wait_s = self._due_in_s()
                if wait_s <= 0:
                    return self._take()
                self._news.wait(min(wait_s, 1.0))
        return None

    def _is_over(self) -> bool:
        if self.stop is not None and self.stop.why != "cancelled":
            return True
        return self._closing and self._unacked is None and not self._sealed and not self._draft.has_news()

    def _due_in_s(self) -> float:
        since_s = now_s() - self._tried_at
        if self._retry_s:
            return self._retry_s - since_s
        if self._sealed or self._draft.urgent or (self._closing and self._draft.has_news()):
            return 0.0
        return (BATCH_S if self._draft.has_news() else self._beat_s) - since_s

    def _take(self) -> Report | Beat:
        if self._unacked is None:
            if not self._sealed:
                self._seal()
            if not self._sealed:
                return Beat(fence=self._fence)
            self._unacked = self._sealed.popleft().report(fence=self._fence, seq=self._next_seq)
            self._next_seq += 1
        return self._unacked

    def _send(self, message: Report | Beat) -> None:
        asked_at = self._tried_at = now_s()
        timeout_s = max(0.5, min(REPORT_S, self._heard_at + self._gives_up_s - asked_at))
        try:
            if isinstance(message, Report):
                order = self._line.report(message, timeout_s=timeout_s)
            else:
                order = self._line.beat(message, timeout_s=timeout_s)
        except Unreachable as error:
            self._try_again_later(str(error), error.retry_after_s)
        except Superseded as error:
            self._stop = Stop(why="superseded", reason=str(error))
        except Refused as error:
            self._stop = Stop(why="refused", reason=str(error))
        else:
            self._heard(order, message, asked_at)

    def _heard(self, order: Order, message: Report | Beat, asked_at: float) -> None:
        if isinstance(message, Report) and order.acked_seq < message.seq:
            self._try_again_later(f"seq {message.seq} was answered but only {order.acked_seq} is stored")
            return
        if self._retry_s:
            log.info("the web side answers again")
        self._retry_s = 0.0
        # The lease runs from when the web side heard us, which is not before we asked.
        self._heard_at = asked_at
        if isinstance(message, Report):
            self._unacked = None
        if order.order == "stop" and self._stop is None:
            self._stop = Stop(why="cancelled", reason=order.reason)

    def _try_again_later(self, reason: str, asked_for_s: float = 0.0) -> None:
        """Set the wait before the next attempt. Retry-After counts up to a heartbeat, since the lease runs on."""
        if not self._retry_s:
            log.warning("%s; reports wait and are sent again", reason)
        own_s = min(max(FIRST_RETRY_S, 2 * self._retry_s), LAST_RETRY_S)
        self._retry_s = max(own_s, min(asked_for_s, self._beat_s))


def deliver(line: RunLine, end: RunEnd, *, within_s: Callable[[], float]) -> bool:
    """Send the run's end until it is accepted or ``within_s()`` seconds have passed. True when it was accepted.

    ``within_s`` is asked again before every attempt, since a worker that has been told to leave waits less.
    """
    began_at = now_s()
    retry_s = FIRST_RETRY_S
    while True:
        asked_for_s = 0.0
        try:
            line.end(end, timeout_s=min(REPORT_S, max(0.5, within_s())))
        except Unreachable as error:
            log.warning("%s; the run's end waits", error)
            asked_for_s = error.retry_after_s
        except (Superseded, Refused) as error:
            log.error("the end of the run was not accepted: %s", error)
            return False
        else:
            return True
        wake_at = now_s() + max(retry_s, asked_for_s)
        while now_s() < wake_at and now_s() - began_at < within_s():
            time.sleep(SLICE_S)
        if now_s() - began_at >= within_s():
            log.error("the end of the run could not be delivered; its lease will run out")
            return False
        retry_s = min(2 * retry_s, LAST_RETRY_S)
