"""Asks ``gpu_runner.names`` what dotted names lead to in the installed packages, and caches the answers.

That process is trusted and sandboxed, and imports what this one never does. It is started by the first question, stays
for more, and ends by itself when idle. When it cannot answer, ``CannotTell`` says the way out, and the gate blocks.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import IO, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

COMMAND = [sys.executable, "-m", "gpu_runner.names"]
HOUSE = Path(__file__).resolve().parents[3]
START_S = 120.0  # to import torch from a cold disk
DIE_S = 10.0
MAX_ANSWER = 1 << 20  # bytes of a line
MAX_KEPT = 50_000  # names
WAY_OUT = "Repair that on the machine of the control worker (`make` installs it), and check again."

Kind = Literal["module", "class", "function", "value", "missing", "unseen"]


Installed = tuple[tuple[str, int], ...]  # folder, time of its last change


class Step(NamedTuple):
    """What one more part of a name leads to (``gpu_runner.names.lookup``)."""

    kind: Kind
    home: str
    is_listed: bool | None


class CannotTell(Exception):
    """The packages could not be asked; ``str()`` is a sentence with the way out."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


L = TypeVar("L", bound=_Line)


class _Hello(_Line):
    packages: dict[str, str | None]


class _Answer(_Line):
    leads: dict[str, list[Step]]
    absent: dict[str, str]


class Packages:
    """The process and its answers so far. One question at a time, from any thread."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._turn = threading.Lock()
        self._process: _Process | None = None
        self._known: dict[str, tuple[Step, ...]] = {}
        self._installed: Installed = ()
        self._versions: dict[str, str | None] = {}

    def steps(self, dotted: str) -> tuple[Step, ...]:
        """A Step for every part of ``dotted``, up to the first that is missing or unseen. Raises CannotTell."""
        with self._turn:
            if dotted not in self._known:
                if len(self._known) >= MAX_KEPT:
                    self._known.clear()
                self._known[dotted] = self._asked(dotted)
            return self._known[dotted]

    def versions(self) -> dict[str, str | None]:
        """Package -> version; None for one that is not installed. Raises CannotTell."""
        with self._turn:
            if not self._versions:
                self._start()
            return self._versions

    def look(self) -> Installed:
        """Forget all answers if packages were installed or removed. Returns what identifies the present state."""
        installed = tuple((path, os.stat(path).st_mtime_ns) for path in _folders())
        with self._turn:
            if installed != self._installed:
                self._end()
                self._known.clear()
                self._versions = {}
                self._installed = installed
        return installed

    def end(self) -> None:
        with self._turn:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

    def _asked(self, dotted: str) -> tuple[Step, ...]:
        if self._process is not None:
            try:
                return self._answer(self._process, dotted)
            except CannotTell:
                self._end()  # idle for too long, it has ended by itself; only a fresh one counts
        try:
            return self._answer(self._start(), dotted)
        except CannotTell:
            self._end()
            raise

    def _start(self) -> _Process:
        self._process = _Process(self._command)
        self._versions = self._process.hello.packages
        return self._process

    def _answer(self, process: _Process, dotted: str) -> tuple[Step, ...]:
        said = process.ask({"names": [dotted]})
        root = dotted.split(".")[0]
        if root in said.absent:
            raise CannotTell(
                f"{root} cannot be imported on the machine that checks ({said.absent[root]}), so nobody can tell what"
                f" {dotted} is. {WAY_OUT}"
            )
        if dotted not in said.leads:
            raise CannotTell(f"Nothing was said of {dotted}. {WAY_OUT}")
        return tuple(said.leads[dotted])


def _folders() -> list[str]:
    """Folders with packages; their modification time changes when a package comes or goes."""
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages") and Path(path).is_dir()]


class _Process:
    """One run of ``command``. Any failure is CannotTell, within ``START_S``."""

    def __init__(self, command: list[str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by end()
        self._rest = b""
        try:
            self._process = subprocess.Popen(
                command,
                cwd=HOUSE,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                start_new_session=True,  # a terminal's Ctrl+C is the asker's to deal with
            )
        except OSError as error:
            self._errors.close()
            raise CannotTell(f"What names lead to could not be looked up ({error}). {WAY_OUT}") from error
        try:
            self.hello = self._read(_Hello)
        except CannotTell:
            self.end()
            raise

    def ask(self, question: dict[str, list[str]]) -> _Answer:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")  # far less than a pipe holds
        except OSError as error:
            raise self._failed(f"it has ended ({error.strerror})") from error
        return self._read(_Answer)

    def _read(self, kind: type[L]) -> L:
        try:
            return kind.model_validate_json(self._line())
        except ValidationError as error:
            raise self._failed("it did not speak as it should") from error

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        until = time.monotonic() + START_S
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not ready.select(until - time.monotonic()):
                    raise self._failed(f"no answer within {START_S:g} s")
                block = os.read(self._process.stdout.fileno(), 65_536)
                if not block or len(self._rest) > MAX_ANSWER:
                    raise self._failed("it ended" if not block else "its answer has no end")
                self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _failed(self, why: str) -> CannotTell:
        self._errors.seek(0)
        said = self._errors.read(65_536).decode(errors="replace").strip().splitlines()
        last = f"; it said: {said[-1][:200]}" if said else ""
        return CannotTell(f"What names lead to could not be looked up: {why}{last}. {WAY_OUT}")

    def end(self) -> None:
        """End the process by closing its input, or by force."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(DIE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # what it runs inside dies with it
            self._process.wait()
        self._errors.close()


def _environment() -> dict[str, str]:
    """The process's environment: no secrets, and no GPU, which looking at names does not need."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return {"CUDA_VISIBLE_DEVICES": "", "LANG": "C.UTF-8", **kept}


@cache
def installed() -> Packages:
    """The Packages that this process asks."""
    found = Packages(COMMAND)
    atexit.register(found.end)
    return found
