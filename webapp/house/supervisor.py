"""The supervisor: keeps a few processes running until it is told to end, and lets none of them outlive it.

Every child runs under ``gpu_runner/process/guard.py`` and holds the read end of the lifeline, a pipe whose write end
only this process has. The kernel closes it when this process ends, however it ends, and the guards do the rest.

    waiting ──start──> starting ──answers──> up ──ends──> waiting (1, 2, 4 ... 30 s)
                           └──ends or too late, before it ever answered──> Stillborn: `up` gives up
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
GUARD = ROOT / "gpu_runner" / "process" / "guard.py"
LONGEST_PAUSE_S = 30.0
STEADY_AFTER_S = 60.0  # up for so long: the next pause is short again
PREDECESSOR_ENDS_WITHIN_S = 30.0
GUARD_MARGIN_S = 3.0  # beyond a child's own grace, for its guard to tidy up
TICK_S = 0.1
LAST_LINES = 12
LOGS_KEPT = 3
LOG_BYTES = 32 * 2**20  # a running log is put aside beyond this


class Stillborn(ValueError):
    """A child never answered. The message has its last words."""


@dataclass(frozen=True, kw_only=True)
class Child:
    """What to run.

    ``answers`` tells whether it serves; children are started in order, each after the one before answers.
    """

    name: str
    command: list[str]
    environment: dict[str, str]
    answers: Callable[[], bool] = lambda: True
    start_within_s: float = 60.0
    stop_within_s: float = 10.0


@dataclass(kw_only=True)
class Place:
    """The state of one child: its present process, and what became of the last one."""

    child: Child
    log: Path
    log_from: int = 0  # where the words of the present process begin
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    pause_s: float = 1.0
    num_restarts: int = 0
    note: str = "not started"

    @property
    def runs(self) -> bool:
        return self.process is not None


@contextmanager
def only_one(run_dir: Path) -> Iterator[int]:
    """Hold the home folder for this supervisor; yields a lock that its guards inherit.

    Raises ValueError when another supervisor lives, or when the processes of one that died are still there after
    PREDECESSOR_ENDS_WITHIN_S. Both locks are the kernel's: nothing has to be cleaned up after a crash.
    """
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(run_dir / "up.lock", "a+") as mine, open(run_dir / "children.lock", "a") as children:
        if not _locked(mine.fileno()):
            mine.seek(0)
            raise ValueError(f"Countersign already runs from {run_dir.parent} (process {mine.read().strip() or '?'}).")
        mine.truncate(0)
        mine.write(str(os.getpid()))
        mine.flush()
        give_up_at = time.monotonic() + PREDECESSOR_ENDS_WITHIN_S
        while not _locked(children.fileno()):
            if time.monotonic() > give_up_at:
                raise ValueError(
                    f"Processes of an earlier start still hold {run_dir}: end them first (ps -e | grep guard.py)."
                )
            time.sleep(TICK_S)
        yield children.fileno()


def holder(run_dir: Path) -> str | None:
    """The process id of the supervisor that holds this home now; None when there is none."""
    lock = run_dir / "up.lock"
    if not lock.exists():
        return None
    with open(lock) as file:
        return None if _locked(file.fileno()) else file.read().strip() or "?"


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def put_aside(log: Path) -> None:
    """Rotate a log: web.log becomes web.log.1, and so on; the oldest is deleted.

    A running writer keeps its descriptor.
    """
    for number in range(LOGS_KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))


def last_lines(place: Place, count: int = LAST_LINES) -> list[str]:
    """The last lines that the present process of ``place`` has logged, from at most 16 KiB."""
    with open(place.log, "rb") as file:
        file.seek(max(place.log_from, place.log.stat().st_size - 16_384))
        return file.read().decode(errors="replace").splitlines()[-count:]


def ending(code: int) -> str:
    """``exited with 1`` or ``was ended by SIGKILL``, from a guard's exit code."""
    number = -code if code < 0 else code - 128
    if number in {s.value for s in signal.Signals}:
        return f"was ended by {signal.Signals(number).name}"
    return f"exited with {code}"


@dataclass(kw_only=True)
class Supervisor:
    """Starts children in order, restarts the ones that end, ends all in the reverse order."""

    children: list[Child]
    logs: Path
    inherited: int | None = None  # a lock that is held until the last guard has gone
    say: Callable[[str], None] = print
    places: list[Place] = field(default_factory=list)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    _ends_asked: int = 0
    _read_end: int = -1
    _write_end: int = -1

    def __post_init__(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._read_end, self._write_end = os.pipe()  # neither is inherited unless we say so
        for child in self.children:
            log = self.logs / f"{child.name}.log"
            put_aside(log)
            self.places.append(Place(child=child, log=log))

    def ask_to_end(self, number: int = 0, frame: FrameType | None = None) -> None:
        """A signal handler. The first call ends everything in order, the second at once."""
        self._ends_asked += 1

    @property
    def ends(self) -> bool:
        return self._ends_asked > 0

    def listen(self) -> None:
        """From now on Ctrl+C, SIGTERM and a closed terminal end everything in order."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.ask_to_end)

    def start_all(self) -> None:
        """Starts every child once the one before it answers. Raises Stillborn when one never does."""
        for place in self.places:
            self._start(place)
            self._await_answer(place)
            if self.ends:
                return

    def _start(self, place: Place) -> None:
        child = place.child
        pass_fds = [self._read_end] + ([] if self.inherited is None else [self.inherited])
        command = [
            sys.executable,
            "-S",
            str(GUARD),
            str(self._read_end),
            str(child.stop_within_s),
            "--",
            *child.command,
        ]
        with open(place.log, "ab") as log:
            place.log_from = log.tell()
            place.process = subprocess.Popen(
                command,
                env=child.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
                start_new_session=True,  # the terminal's Ctrl+C reaches us alone: we know the order
            )
        place.started_at, place.note = time.monotonic(), "starting"

    def _await_answer(self, place: Place) -> None:
        assert place.process is not None
        give_up_at = place.started_at + place.child.start_within_s
        while not place.child.answers():
            if self.ends:
                return
            code = place.process.poll()
            if code is not None or time.monotonic() > give_up_at:
                how = f"did not answer within {place.child.start_within_s:.0f} s" if code is None else ending(code)
                words = "\n".join(f"    {line}" for line in last_lines(place))
                raise Stillborn(f"{place.child.name} {how}. The end of {place.log}:\n{words}")
            time.sleep(TICK_S)
        place.note = "up"

    def tick(self) -> None:
        """Look at every child once: restart what is due, report what ended. Never blocks."""
        now = time.monotonic()
        for place in self.places:
            if place.process is not None and (code := place.process.poll()) is not None:
                self._mourn(place, code, now)
            elif place.process is None and now >= place.start_again_at:
                place.num_restarts += 1
                self._start(place)
                place.note = "up"
            elif place.process is not None and now - place.started_at > STEADY_AFTER_S:
                place.pause_s = 1.0
            self._bound(place)

    def _mourn(self, place: Place, code: int, now: float) -> None:
        place.process = None
        place.start_again_at = now + place.pause_s
        place.note = f"{ending(code)}; starts again in {place.pause_s:.0f} s"
        place.pause_s = min(place.pause_s * 2, LONGEST_PAUSE_S)
        self._tell(f"{place.child.name} {place.note}. The end of {place.log}:")
        for line in last_lines(place, 4):
            self._tell(f"    {line}")

    def _bound(self, place: Place) -> None:
        """Copy a log that is too long aside and empty it; its writer appends, so it goes on at the start."""
        if place.log.exists() and place.log.stat().st_size > LOG_BYTES:
            place.log.with_name(f"{place.log.name}.1").write_bytes(place.log.read_bytes())
            os.truncate(place.log, 0)
            place.log_from = 0

    def _tell(self, sentence: str) -> None:
        self.said.append(sentence)
        self.say(sentence)

    def run(self, between: Callable[[], None] = lambda: None) -> None:
        """Ticks until told to end; ``between`` is called after every tick (the terminal view)."""
        while not self.ends:
            self.tick()
            between()
            time.sleep(TICK_S)

    def end_all(self) -> None:
        """Ends every child, the last started first, each within its grace; all at once on a second request."""
        for place in reversed(self.places):
            if place.process is not None:
                place.note = "ending"
                place.process.send_signal(signal.SIGTERM)
                self._await_end(place, place.process)
                place.process, place.note = None, "ended"
        os.close(self._write_end)
        os.close(self._read_end)

    def _await_end(self, place: Place, process: subprocess.Popen[bytes]) -> None:
        give_up_at = time.monotonic() + place.child.stop_within_s + GUARD_MARGIN_S
        while process.poll() is None:
            if self._ends_asked > 1:  # again and again: two that arrive together count as one
                process.send_signal(signal.SIGTERM)
            if time.monotonic() > give_up_at:
                process.kill()
                process.wait(timeout=5)
            time.sleep(TICK_S / 4)
