"""A child process and its group: read with bounds, checked on every tick, killed as a whole."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

TICK_S = 0.1
READ_BYTES = 65_536
FLOOD_PAUSE_S = 0.02  # after a full read: no child can keep this process busier than 50 reads a second and pipe
LAST_BYTES_S = 2.0  # how long a dead child's pipes may still be held open by what it left behind
REAPED_S = 10.0

Take = Callable[[bytes | None], None]  # one line without its newline; None for one that was too long


class Ear(Protocol):
    """Takes the bytes of one pipe."""

    def feed(self, block: bytes) -> None: ...
    def close(self) -> None: ...


class Lines:
    """Cuts a byte stream into lines of bounded length."""

    def __init__(self, take: Take, max_bytes: int) -> None:
        self.take = take
        self.max_bytes = max_bytes
        self.kept = bytearray()
        self.skipping = False

    def feed(self, block: bytes) -> None:
        *whole, rest = (bytes(self.kept) + block).split(b"\n")
        self.kept = bytearray(rest)
        for line in whole:
            self._line(line)
        if len(self.kept) > self.max_bytes:
            self.kept.clear()
            self.skipping = True

    def close(self) -> None:
        """Take the last line, which may lack its newline."""
        if self.kept or self.skipping:
            self._line(bytes(self.kept))
            self.kept.clear()

    def _line(self, line: bytes) -> None:
        too_long = self.skipping or len(line) > self.max_bytes
        self.skipping = False
        self.take(None if too_long else line)


class Child:
    """``with Child(...) as child: code = child.follow(check)``; leaving the block kills whatever still runs."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdout: Ear,
        stderr: Ear,
        pass_fds: Sequence[int] = (),
        extra: Mapping[int, Ear] | None = None,
    ) -> None:
        """``extra``: read ends of pipes whose write ends are in ``pass_fds``; both are closed here."""
        try:
            self.process = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=pass_fds,
                start_new_session=True,
                bufsize=0,
            )
        except BaseException:
            for fd in extra or ():
                os.close(fd)
            raise
        finally:
            for fd in pass_fds:
                os.close(fd)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        said: dict[int, Ear] = {self.process.stdout.fileno(): stdout, self.process.stderr.fileno(): stderr}
        self.ears = {**said, **(extra or {})}
        self._said = tuple(said.values())
        self._extra = tuple(extra or ())

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        for ear in self._said:  # what a process that is ended was drawing is its last word
            ear.close()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        for fd in self._extra:
            os.close(fd)

    def kill(self) -> None:
        """SIGKILL to the group.

        Under bubblewrap that also ends the namespace, with every process that left the group.
        """
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return self._reap()  # nothing of the group is left
        except PermissionError:
            # macOS answers so for a group of zombies
            assert sys.platform == "darwin", "our own child's group must be ours to kill"
        return self._reap()

    def _reap(self) -> None:
        self.process.wait(timeout=REAPED_S)

    def follow(self, check: Callable[[], None]) -> int:
        """Read until the process ends; its exit code (negative: a signal).

        ``check`` is called on every tick; what it raises ends the wait, and leaving the block kills the child.
        """
        with selectors.DefaultSelector() as selector:
            for fd, lines in self.ears.items():
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ, lines)
            while self.process.poll() is None:
                self._read_once(selector, TICK_S)
                check()
            self._read_what_is_left(selector)
        for lines in self.ears.values():
            lines.close()
        return self.process.returncode

    def _read_what_is_left(self, selector: selectors.BaseSelector) -> None:
        self.kill()  # what the process left behind in its group would hold the pipes open
        until = time.monotonic() + LAST_BYTES_S
        while selector.get_map() and time.monotonic() < until:
            self._read_once(selector, TICK_S)

    def _read_once(self, selector: selectors.BaseSelector, wait_s: float) -> None:
        if not selector.get_map():  # all closed, though the process lives
            time.sleep(wait_s)
            return
        flooded = False
        for key, _ in selector.select(wait_s):
            block = os.read(key.fd, READ_BYTES)
            if not block:
                selector.unregister(key.fd)
                continue
            key.data.feed(block)
            flooded = flooded or len(block) == READ_BYTES
        if flooded:
            time.sleep(FLOOD_PAUSE_S)
