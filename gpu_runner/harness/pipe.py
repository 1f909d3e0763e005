"""Writes the run's reports: JSON lines on an inherited descriptor, without ever making training wait.

    {"kind": "started",  ...}   once, before the clock starts
    {"kind": "point",    "step", "tokens", "elapsed_s", "metrics": {...}}
    {"kind": "progress", "fraction", "eta_s", "step", "num_steps"}
    {"kind": "log",      "level", "text"}
    {"kind": "ended",    "outcome", "failure", ...}   once, last

A number that does not exist is null, never 0; NaN and infinity do not leave this process.
"""

from __future__ import annotations

import json
import math
import os
import select
import time
from typing import Any

from gpu_runner.contract import LEASE_S

MAX_WAITING = 8 << 20  # bytes kept for a reader that has fallen behind; then points are dropped
LAST_WORDS_S = LEASE_S  # how long the last line may take to leave: a supervisor that stood still for longer lost us


class Pipe:
    """Writes as much as the pipe takes and keeps the rest for the next line. Not thread-safe."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.waiting = bytearray()
        self.num_dropped = 0

    def send(self, kind: str, **fields: Any) -> None:
        """Queue one line and write what the pipe takes now. BrokenPipeError when the reader is gone."""
        if kind == "point" and len(self.waiting) > MAX_WAITING:
            self.num_dropped += 1
            return
        line = json.dumps({"kind": kind} | _without_nan(fields), allow_nan=False, separators=(",", ":"))
        self.waiting += line.encode() + b"\n"
        self._write()

    def log(self, level: str, text: str) -> None:
        self.send("log", level=level, text=text[:2_000])

    def close(self) -> None:
        """Wait until everything is written. Raises TimeoutError when the reader does not take it."""
        deadline = time.monotonic() + LAST_WORDS_S
        while self.waiting:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [self.fd], [], left)[1]:
                raise TimeoutError(f"nobody took the last {len(self.waiting)} bytes within {LAST_WORDS_S:.0f} s")
            self._write()

    def _write(self) -> None:
        while self.waiting:
            try:
                written = os.write(self.fd, self.waiting[:65_536])
            except BlockingIOError:
                return
            del self.waiting[:written]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
