"""Opens files that a hostile trainer wrote, below a folder that it may write to. No link is followed anywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import PurePosixPath


def opened(folder: os.PathLike[str], path: str) -> int | None:
    """A descriptor of the regular file ``path`` below ``folder``; None where there is none, or something else.

    Each part is opened in the one before it, so that nothing which is exchanged meanwhile leads elsewhere.
    """
    return _walked(folder, path, os.O_RDONLY | os.O_NONBLOCK, stat.S_ISREG)


def listed(folder: os.PathLike[str], path: str, at_most: int) -> list[str]:
    """Up to ``at_most`` names in the folder ``path`` below ``folder``, sorted; empty where there is no such folder."""
    if (fd := _walked(folder, path, os.O_RDONLY | os.O_DIRECTORY, stat.S_ISDIR)) is None:
        return []
    try:
        with os.scandir(fd) as entries:
            return sorted(entry.name for _, entry in zip(range(at_most), entries, strict=False))
    finally:
        os.close(fd)


def _walked(folder: os.PathLike[str], path: str, how: int, is_wanted: Callable[[int], bool]) -> int | None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *parents, last = PurePosixPath(path).parts or (".",)
        for name, flags in (*((name, os.O_RDONLY | os.O_DIRECTORY) for name in parents), (last, how)):
            deeper = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = deeper
        if is_wanted(os.fstat(fd).st_mode):
            kept, fd = fd, -1
            return kept
    except OSError:  # not there yet, a link, or closed to us: nothing to read in any case
        return None
    finally:
        if fd >= 0:
            os.close(fd)
    return None
