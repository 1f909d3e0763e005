"""Counts what a process tree holds: files below a folder, deleted and anonymous files, processes, threads, memory.

It reads /proc and the file system without privileges. What a process closes to its supervisor raises Hidden.
Without /proc (macOS) every tree counts as empty.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PRIVATE = ("/tmp", "/dev/shm")  # noqa: S108  of its own at level bubblewrap
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CLOSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)


class Hidden(Exception):
    """The supervisor may not, or cannot, look at something."""


def usage(folder: Path, enough: int) -> tuple[int, int]:
    """Allocated bytes and number of entries below ``folder``, counted up to ``enough`` entries. Follows no link.

    Raises Hidden for a folder that is closed to us, or too deep for a path.
    """
    waiting, num_bytes, num_files = [str(folder)], 0, 0
    while waiting and num_files < enough:
        for entry in _entries(waiting.pop()):
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError as error:
                _refuse_closed(error)
                continue
            num_files += 1
            num_bytes += 512 * about.st_blocks
            if stat.S_ISDIR(about.st_mode):
                waiting.append(entry.path)
    return num_bytes, num_files


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        _refuse_closed(error)
        return []


def _refuse_closed(error: OSError) -> None:
    """Hidden where access was refused.

    Other errors come from the run at work: what was listed is gone or has changed.
    """
    if error.errno in CLOSED:
        raise Hidden(str(error)) from error


# --- processes ----------------------------------------------------------------------------------


def descendants(pid: int, enough: int) -> tuple[list[int], int]:
    """Processes below ``pid``, and the number of their threads; counted up to ``enough`` threads."""
    waiting, found, num_threads = [pid], list[int](), 0
    while waiting and num_threads < enough:
        here = waiting.pop()
        children, threads = _children_and_threads(here)
        found += children
        waiting += children
        num_threads += threads if here != pid else 0
    return found, num_threads


def children_of(pid: int) -> list[int]:
    """Direct children. Empty for a process that has ended, and where the kernel does not say (macOS)."""
    return _children_and_threads(pid)[0]


def _children_and_threads(pid: int) -> tuple[list[int], int]:
    """Direct children and number of threads; none of a process that has ended."""
    children, num_threads = list[int](), 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            num_threads += 1
            children += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return children, num_threads
    return children, num_threads


def mapped_bytes(pids: Sequence[int], enough: int) -> int:
    """Resident memory of these processes without mapped files.

    Shared memory counts for each process; beyond ``enough`` bytes once, which takes longer to read.
    """
    told = [_status(pid) for pid in pids]
    private, shared = (sum(int(about.get(name, "0").split()[0]) << 10 for about in told) for name in MEMORY)
    return private + (shared if private + shared <= enough else sum(map(_share_of_shared, pids)))


MEMORY = ("RssAnon", "RssShmem")


def _status(pid: int) -> dict[str, str]:
    """Field -> value (memory in kB); empty for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _share_of_shared(pid: int) -> int:
    """Shared memory in bytes, divided by the number of processes that map it; all of it where that is not known."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return int(_status(pid).get("RssShmem", "0").split()[0]) << 10
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_Shmem:")), 0)


def cpu_times(pids: Sequence[int]) -> dict[tuple[int, str], tuple[float, float]]:
    """(pid, start time) -> processor seconds of its own, and of the children that it has reaped.

    A child that ended and was never reaped by its parent is in neither.
    """
    found = dict[tuple[int, str], tuple[float, float]]()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            told = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            own, buried = (sum(map(int, told[first : first + 2])) / TICKS_PER_S for first in (11, 13))
            found[pid, told[19]] = (own, buried)
    return found


def peak_bytes(pids: Sequence[int]) -> int:
    """Sum of the processes' peak memory (VmHWM); shared memory counts for each."""
    return sum(int(_status(pid).get("VmHWM", "0").split()[0]) << 10 for pid in pids)


# --- files that only processes have ----------------------------------------------------------------


def nameless(pids: Sequence[int], enough: int) -> tuple[dict[tuple[int, int], int], int]:
    """(device, inode) -> allocated bytes of the deleted and anonymous files that these processes hold open.

    And how many descriptors were looked at, up to ``enough``. Raises Hidden for a process that does not let us look.
    """
    found, num_open = dict[tuple[int, int], int](), 0
    for pid in pids:
        with _looking_into(pid):
            for number in os.listdir(f"/proc/{pid}/fd"):
                if (num_open := num_open + 1) >= enough:
                    return found, num_open
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    about = os.stat(f"/proc/{pid}/fd/{number}")
                    if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                        found[about.st_dev, about.st_ino] = 512 * about.st_blocks
    return found, num_open


@contextmanager
def _looking_into(pid: int) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        if not _is_ours(pid):
            raise Hidden(str(error)) from error
    except (FileNotFoundError, ProcessLookupError):
        return  # it has just ended


def _is_ours(pid: int) -> bool:
    """Whether a closed process is bwrap's own, which has no filter of system calls; or is ending and hides nothing."""
    about = _status(pid)
    return about.get("State", "Z")[0] in "ZX" or _num_filters(about) <= _num_filters(_status(os.getpid()))


def _num_filters(about: Mapping[str, str]) -> int:
    return int(about.get("Seccomp_filters", "0"))


def own_file_systems(pids: Sequence[int]) -> dict[int, int]:
    """Device -> bytes used of the tmpfs that were made for this tree, where it has any."""
    found = dict[int, int]()
    for place in PRIVATE:
        try:
            there = f"/proc/{pids[-1]}/root{place}" if pids else place
            if (device := os.stat(there).st_dev) != os.stat(place).st_dev:
                about = os.statvfs(there)
                found[device] = (about.f_blocks - about.f_bfree) * about.f_frsize
        except OSError:  # it has just ended, or there is no such place
            continue
    return found
