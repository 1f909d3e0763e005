"""Ends a command, with all that it started, when the process that asked for it is gone, however it ended.

    python -S gpu_runner/process/guard.py LIFELINE [GRACE_S] -- COMMAND ...

LIFELINE is the read end of a pipe whose write end only the parent holds. The kernel closes it when the
parent ends, by kill -9 too, and the guard then ends COMMAND: SIGTERM to its process group, SIGKILL after
GRACE_S seconds. SIGTERM, SIGINT and SIGHUP to the guard do the same; a second one does not wait. When COMMAND
is over, nothing that it started stays. Exits with COMMAND's exit code, 128 + N when signal N ended it.

Standard library only, and started with -S: there is one for every supervised process. Where Linux offers it,
COMMAND also dies with the guard, and processes that moved to another session are found and killed.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

GRACE_S = 10.0
STRAYS_END_WITHIN_S = 2.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def prctl(option: int, value: int) -> None:
    """prctl(2), on Linux only. Where the kernel refuses, only the process group is ended, as on macOS."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def wake_pipe() -> int:
    """A descriptor that becomes readable with the numbers of the signals that arrived."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    os.set_blocking(readable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return readable


def start(command: list[str], lifeline: int) -> subprocess.Popen[bytes]:
    """Start COMMAND in a session of its own. It inherits all of our descriptors but the lifeline."""
    os.set_inheritable(lifeline, False)
    return subprocess.Popen(
        command,
        close_fds=False,
        start_new_session=True,
        preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
    )


def signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # nobody is left; macOS says "not permitted" where only a zombie is


def arrived(wake: int) -> list[int]:
    """The signals that arrived and are passed on to COMMAND."""
    try:
        numbers = os.read(wake, 512)
    except BlockingIOError:
        return []
    return [number for number in numbers if number in FORWARDED]


def watch(child: subprocess.Popen[bytes], lifeline: int, wake: int, grace_s: float) -> int:
    """Wait for COMMAND, and end it when told to or when the lifeline breaks. Its exit code."""
    kill_at: float | None = None
    watched = [lifeline, wake]
    while child.poll() is None:
        left = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready = select.select(watched, [], [], left)[0]
        orders = arrived(wake) if wake in ready else []
        reap_adopted(child)
        if lifeline in ready:
            watched.remove(lifeline)  # at its end, and readable for ever
            orders += [signal.SIGTERM] if kill_at is None else []
        for order in orders:
            signal_group(child, order)
            kill_at = time.monotonic() + (grace_s if kill_at is None else 0.0)
        if kill_at is not None and time.monotonic() >= kill_at:
            signal_group(child, signal.SIGKILL)
            return child.wait()
    return child.returncode


def children() -> list[int]:
    """Our living children on Linux, where we are the subreaper: orphans of COMMAND are among them. Elsewhere empty."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # macOS, or a kernel without this list
        return []


def reap_adopted(child: subprocess.Popen[bytes]) -> None:
    """Reap orphans that have ended: a run leaves some, and no other process will."""
    for pid in children():
        if pid != child.pid:  # its exit code is for ``poll``
            os.waitpid(pid, os.WNOHANG)


def end_strays(child: subprocess.Popen[bytes]) -> None:
    """Kill what COMMAND left behind: its group, and on Linux also what moved to other sessions."""
    signal_group(child, signal.SIGKILL)
    give_up_at = time.monotonic() + STRAYS_END_WITHIN_S
    while (strays := children()) and time.monotonic() < give_up_at:
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(-1, 0)


def main(arguments: list[str]) -> int:
    head, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    lifeline = int(head[0])
    grace_s = float(head[1]) if len(head) > 1 else GRACE_S
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake = wake_pipe()
    try:
        child = start(command, lifeline)
    except OSError as problem:
        print(f"{command[0]}: {problem.strerror}", file=sys.stderr)
        return 127
    code = watch(child, lifeline, wake, grace_s)
    end_strays(child)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
