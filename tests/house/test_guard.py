"""Whoever is under a guard goes when the parent goes, and takes everything along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.house.processes import GUARD, lives, numbers_in
from tests.waiting import wait_until

# A parent that holds the lifeline and hangs, as a supervisor does.
PARENT = """
import os, subprocess, sys
read_end, write_end = os.pipe()
command = [sys.executable, "-S", sys.argv[1], str(read_end), sys.argv[2], "--", *sys.argv[3:]]
subprocess.Popen(command, pass_fds=[read_end], start_new_session=True).wait()
"""
# A command that is deaf to SIGTERM, with a deaf child in its group and a deaf child in a session of its own.
DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for leaves_the_group in (False, True):
    if os.fork() == 0:
        os.setsid() if leaves_the_group else None
        break
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""


def guarded(*command: str, grace_s: float = 5.0) -> tuple[subprocess.Popen[str], int]:
    """A guard under this test, and the write end of its lifeline."""
    read_end, write_end = os.pipe()
    line = [sys.executable, "-S", str(GUARD), str(read_end), str(grace_s), "--", *command]
    guard = subprocess.Popen(line, pass_fds=[read_end], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(read_end)
    return guard, write_end


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests look into /proc; macOS has no subreaper")


def test_a_parent_killed_with_9_leaves_no_process_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    line = [sys.executable, "-c", PARENT, str(GUARD), "0.2", sys.executable, "-c", DEAF, str(pids)]
    parent = subprocess.Popen(line)
    family = numbers_in(pids, 3)
    assert all(map(lives, family))

    parent.kill()
    parent.wait(timeout=10)

    wait_until(lambda: not any(map(lives, family)), "the deaf family is gone")


def test_a_command_that_ends_by_itself_gives_its_exit_code_and_leaves_no_child(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    guard, lifeline = guarded("sh", "-c", f"sleep 600 & echo $! > {pids}; exit 7")
    assert guard.wait(timeout=15) == 7
    assert not lives(numbers_in(pids, 1)[0])
    guard.communicate()
    os.close(lifeline)


def test_a_polite_end_lets_the_command_tidy_up(tmp_path: Path) -> None:
    tidy = tmp_path / "tidy"
    guard, lifeline = guarded("sh", "-c", f"trap 'touch {tidy}; exit 3' TERM; echo up; while :; do sleep 0.05; done")
    assert guard.stdout is not None
    assert guard.stdout.readline() == "up\n"

    guard.terminate()

    assert guard.wait(timeout=15) == 3
    assert tidy.exists()
    guard.communicate()
    os.close(lifeline)


def test_a_deaf_command_is_killed_after_its_grace_and_at_once_when_asked_twice(tmp_path: Path) -> None:
    for num_asked, grace_s in ((1, 0.2), (2, 600.0)):
        pids = tmp_path / f"pids-{num_asked}"
        guard, lifeline = guarded(sys.executable, "-c", DEAF, str(pids), grace_s=grace_s)
        deaf = numbers_in(pids, 3)[0]
        for _ in range(num_asked):
            guard.terminate()
            wait_until(partial(no_signal_waits, guard.pid), "the guard has taken the signal")
        assert guard.wait(timeout=15) == 128 + signal.SIGKILL
        assert not lives(deaf)
        guard.communicate()
        os.close(lifeline)


def no_signal_waits(pid: int) -> bool:
    """Two signals of one number that wait together are one; so the second is sent once the first is taken."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return not any(line.split()[1].strip("0") for line in lines if "Pnd:" in line)


def test_a_weekend_of_orphans_leaves_no_zombies(tmp_path: Path) -> None:
    """Every sandboxed run leaves a process or two whose parent ended first; the guard inherits them."""
    pids = tmp_path / "pids"
    orphans = f"for i in 1 2 3 4 5; do (sh -c 'echo $$ >> {pids}' &); done; sleep 600"
    guard, lifeline = guarded("sh", "-c", orphans)
    family = numbers_in(pids, 5)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), "the orphans are reaped")
    assert guard.poll() is None
    os.close(lifeline)
    assert guard.wait(timeout=15) == 128 + signal.SIGTERM
    guard.communicate()


def test_the_command_does_not_hold_the_lifeline() -> None:
    guard, lifeline = guarded("ls", "-l", "/proc/self/fd")
    said, _ = guard.communicate(timeout=15)
    inherited = [line for line in said.splitlines() if "pipe:" in line]
    assert len(inherited) == 2, said  # its own stdout and stderr, which this test reads
    os.close(lifeline)


def test_a_command_that_is_not_there_is_one_sentence() -> None:
    guard, lifeline = guarded("/no/such/command")
    _, said = guard.communicate(timeout=15)
    assert (guard.returncode, said) == (127, "/no/such/command: No such file or directory\n")
    os.close(lifeline)
