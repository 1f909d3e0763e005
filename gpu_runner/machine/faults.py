"""Is an error the machine's fault? Reads it for signs of disk, quota, descriptors, memory, helpers and devices.

Such errors come in many types: Python's OSError, safetensors' own (which is none), torch's RuntimeError, a
compiler's that was raised from one of these, the words of git. What they share is an errno, or the C library's words
for it. Without torch: harness, scorer and supervisor read the same table.

Inside of a run an error is only the run's word, since a recipe may raise what it likes. So it excuses nothing: the run
is tried again within its attempts, and that is counted (research/runs/attempts.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gpu_runner.contract import FailureKind
from gpu_runner.sandbox.bubblewrap import TMPFS_BYTES
from gpu_runner.sandbox.tally import PRIVATE


def _known(**words: str) -> dict[int, str]:
    """errno -> words, for those that this system has: macOS lacks a few."""
    return {getattr(errno, name): said for name, said in words.items() if hasattr(errno, name)}


# Nothing that a recipe does within its limits brings these about on a sound machine.
MACHINE = _known(
    ENOSPC="its disk is full",
    EDQUOT="its disk quota is used up",
    EIO="its disk does not read or write",
    EREMOTEIO="its disk does not read or write",
    EUCLEAN="its file system is damaged",
    ESTALE="its network file system has lost a file",
    ENOTCONN="its file system is not connected any more",
    ENFILE="all processes together have too many files open",
    EROFS="its disk can only be read",
)
# What the sandbox allows one run (meter.Bounds), unless the machine allows its worker even less.
LIMITS = _known(EFBIG="a file became larger than a run's may be", EMFILE="it has more files open than a run may have")
NO_THREAD = "it has more processes or threads than a run may have"
EVERYWHERE = Path("/")  # may be written by our own processes
PROBE_BYTES = 1 << 20


class Cause(NamedTuple):
    """Which kind of failure an error is; ``why`` is said of the machine, or of the run."""

    kind: FailureKind
    why: str


class MachineFault(Exception):
    """The machine failed under our own process; ``str()`` is a sentence."""


# --- an error ---------------------------------------------------------------------------------------


def cause_of(error: BaseException, writable: Path | None = None) -> Cause | None:
    """The machine's failure, or the limit, behind ``error`` or what it was raised from; None: neither.

    ``writable`` is the run's output folder: everywhere else the sandbox, not the disk, is read-only.
    """
    if isinstance(error, KeyboardInterrupt):
        return Cause("killed", "it was interrupted from outside (SIGINT)")
    for link in _chain(error):
        if (found := _cause_of_one(link, writable)) is not None:
            return found
    return None


def is_machines(error: BaseException) -> bool:
    """Whether an error in our own processes is the machine's. No sandbox limits where these write or what they get."""
    if isinstance(error, MachineFault):
        return True
    found = cause_of(error, EVERYWHERE)
    return (found is not None and found.kind != "killed") or any(map(_wants, _chain(error)))


def _wants(error: BaseException) -> bool:
    """Whether it wants for memory, a process or a thread, or waits for the end of a killed one."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EBUSY)
    return _WANTING.search(str(error)) is not None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """``error``, and what it was raised from or while handling."""
    seen = set[int]()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        yield here
        seen.add(id(here))
        here = here.__cause__ or here.__context__


def _cause_of_one(error: BaseException, writable: Path | None) -> Cause | None:
    if isinstance(error, OSError) and error.errno is not None:
        return _by_number(error.errno, str(error.filename or ""), writable)
    said = str(error)
    if "can't start new thread" in said:
        return Cause("over_limit", NO_THREAD)
    if _CUT_SHORT.search(said):
        return Cause("machine_failed", "a file could not be written to its end")
    if (number := _number_in(said)) is not None:
        return _by_number(number, _place_in(said), writable)
    return _helper_of(error, said)


def _by_number(number: int, place: str, writable: Path | None) -> Cause | None:
    if number in LIMITS:
        return Cause("over_limit", LIMITS[number])
    if number not in MACHINE:
        return None
    is_ours = writable == EVERYWHERE or bool(writable and place and Path(place).absolute().is_relative_to(writable))
    if number == errno.EROFS and not is_ours:
        return None  # the sandbox lets it write nowhere else
    if number == errno.ENOSPC and not is_ours and _is_full_private(place):
        return Cause("over_limit", f"{TMPFS_BYTES >> 20:,} MiB in memory, below {' and '.join(PRIVATE)}, are full")
    return Cause("machine_failed", MACHINE[number])


# Of numpy (an OSError without a number) and of torch.save: no word of why.
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written|inline_container.*unexpected pos|failed writing file")
_NUMBERED = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
_PLACED = re.compile(r'at path "([^"]+)"')
# Of Python, glibc and git, which hands on what the C library says.
_WANTING = re.compile(
    rf"can't start new thread|\b[Oo]ut of memory\b|MemoryError|{os.strerror(errno.ENOMEM)}|{os.strerror(errno.EAGAIN)}"
)
_WORDS = {os.strerror(number): number for number in (*MACHINE, *LIMITS)}
# torch's words where shared memory is full: the error of a worker process, a bus error, has no number.
_SHARED = re.compile(r"</torch_|shared memory|killed by signal: Bus error")


def _number_in(said: str) -> int | None:
    """The errno that the words of an error tell: in Rust's, Python's or the C library's way."""
    if (found := _NUMBERED.search(said)) is not None:
        return int(found[1] or found[2])
    if "killed by signal: Bus error" in said or "unable to allocate shared memory" in said:
        return errno.ENOSPC
    return next((number for words, number in _WORDS.items() if words in said), None)


def _place_in(said: str) -> str:
    if (found := _PLACED.search(said)) is not None:
        return found[1]
    return "/dev/shm" if _SHARED.search(said) else ""  # noqa: S108


def _is_full_private(place: str) -> bool:
    """Whether the sandbox's own tmpfs, told by its size, is full.

    Where no place is named, one that is full now counts.
    """
    for private in PRIVATE:
        if place and not Path(place).is_relative_to(private):
            continue
        with contextlib.suppress(OSError):  # there is none, in a container without shared memory
            about = os.statvfs(private)
            is_full = bool(place) or about.f_bavail * about.f_frsize < PROBE_BYTES
            if is_full and about.f_blocks * about.f_frsize == TMPFS_BYTES:
                return True
    return False


_KILLED = re.compile(
    r"killed by signal: (Killed|Terminated)|terminated with signal SIG(KILL|TERM)|Killed signal terminated"
)


def _helper_of(error: BaseException, said: str) -> Cause | None:
    """The cause where a process that training had started (a data loader, a compiler, a pool) was killed."""
    code = getattr(error, "returncode", None)
    if _KILLED.search(said) or type(error).__name__ == "BrokenProcessPool" or code in (-9, -15):
        return Cause("killed", "a process that it had started was killed")
    if "DataLoader worker" in said and "exited unexpectedly" in said:
        return Cause("killed", "a process that it had started was killed")
    return None


def cause_in(said: str) -> Cause | None:
    """As ``cause_of``, from words alone, such as those of a model's process that is gone."""
    return _cause_of_one(RuntimeError(said), None)


def are_machines(said: str) -> bool:
    """As ``is_machines``, from the words of our own helpers, such as git."""
    return is_machines(RuntimeError(said))


# --- a GPU ------------------------------------------------------------------------------------------

# CUDA's own words for a device that is gone; a wrong index or a bad kernel has others, and is the recipe's.
LOST_DEVICE = (
    "unspecified launch failure",
    "uncorrectable ECC",
    "uncorrectable NVLink",
    "GPU is lost",
    "fallen off the bus",
    "all CUDA-capable devices are busy or unavailable",
    "CUDA-capable device(s) is/are busy or unavailable",
    "no CUDA-capable device",
    "unknown error",
    "CUDA driver initialization failed",
    "driver shutting down",
    "Hardware stack error",
)
# ... and for a torch that was built for other GPUs, or for a newer driver.
UNFIT_DEVICE = (
    "no kernel image is available",
    "driver version is insufficient",
    "device kernel image is invalid",
    "compiled with an unsupported toolchain",
    "system not yet initialized",
)


def says_device_lost(said: str) -> bool:
    return "CUDA" in said and any(words in said for words in LOST_DEVICE)


def says_device_unfit(said: str) -> bool:
    return "CUDA" in said and any(words in said for words in UNFIT_DEVICE)


# --- a disk -----------------------------------------------------------------------------------------


def disk_problem(folder: Path) -> str | None:
    """Why a mebibyte cannot be written below ``folder``; None where it can."""
    probe = folder / ".probe"
    try:
        with probe.open("wb") as file:
            file.write(b"\0" * PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return MACHINE.get(error.errno or 0, str(error.strerror))
    finally:
        with contextlib.suppress(OSError):  # which is what was asked
            probe.unlink(missing_ok=True)
    return None


# --- the end of a process ------------------------------------------------------------------------------

# Signals that a program does not send itself when it breaks: somebody did.
SENT = frozenset(
    {
        signal.SIGKILL,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)


def signal_of(exit_code: int) -> signal.Signals | None:
    """The signal that ended a process, from Popen's negative exit code or a shim's 128 + N; None: it exited."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    try:
        return signal.Signals(number) if number > 0 else None
    except ValueError:
        return None


def out_of_memory_kills() -> int:
    """Processes that the kernel has ended for want of memory, since it started; 0 where it does not say (macOS)."""
    try:
        counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(counters.get("oom_kill", 0))
