"""Which files of a folder were opened while a run trained, as the kernel tells it (Linux's inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path
from types import TracebackType

IN_OPEN, IN_ISDIR, IN_NONBLOCK, IN_CLOEXEC = 0x20, 0x40000000, os.O_NONBLOCK, getattr(os, "O_CLOEXEC", 0)
HEAD = struct.Struct("iIII")
MAX_NAMES = 1_000


class Opened:
    """Watches one folder, not those in it. ``names`` are the files opened so far; None where nothing can be said."""

    def __init__(self, folder: Path) -> None:
        self.fd = self._watch(folder) if sys.platform == "linux" else -1
        self._names: dict[str, None] = {}

    @staticmethod
    def _watch(folder: Path) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        fd: int = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
        if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(folder), IN_OPEN) < 0:
            os.close(fd)
            return -1
        return fd

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.look()
        if self.fd >= 0:
            os.close(self.fd)

    @property
    def names(self) -> list[str] | None:
        return sorted(self._names) if self.fd >= 0 else None

    def look(self) -> None:
        """Take what the kernel has told since the last look; its queue holds some 16,000 events."""
        while self.fd >= 0 and len(self._names) < MAX_NAMES:
            try:
                events = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return
            at = 0
            while at < len(events):
                _, mask, _, length = HEAD.unpack_from(events, at)
                name = events[at + HEAD.size : at + HEAD.size + length].rstrip(b"\0").decode(errors="replace")
                at += HEAD.size + length
                if name and not mask & IN_ISDIR:
                    self._names[name] = None
