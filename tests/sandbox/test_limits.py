"""What Charlie's code uses up ends with its run: memory, processes, disk, time, and whatever it left running."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gpu_runner.sandbox import cgroups
from tests.sandbox import told, trials
from tests.waiting import wait_until

FOREVER = "import time\nwhile True: time.sleep(1)"
MARK = f"countersign-left-running-{os.getpid()}"  # others may test on the same machine


def inside(
    code: str, *options: str, level: str = "bubblewrap", account: str = "root", within_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """``code`` through the command line, as anybody would try it."""
    command = [*told.COMMAND, "--level", level, *options, "--"]
    return subprocess.run(
        trials.as_account(account, [*command, sys.executable, "-c", textwrap.dedent(code)]),
        env=os.environ | told.environment() | {"PYTHONPATH": str(trials.PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=within_s,
    )


def running(mark: str) -> list[int]:
    """Processes with ``mark`` on their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir(mode=0o777)
    return folder


levels = pytest.mark.parametrize("level", trials.LEVELS)
accounts = pytest.mark.parametrize("account", trials.ACCOUNTS)


@levels
@accounts
def test_a_fork_bomb_is_stopped(level: str, account: str) -> None:
    bomb = """
        import os, time
        num = 0
        try:
            while num < 2_000:
                if os.fork() == 0:
                    time.sleep(30)
                num += 1
        except OSError:
            print("STOPPED BY THE KERNEL", num, flush=True)
    """
    done = inside(bomb, "--processes", "200", "--seconds", "20", level=level, account=account)
    held_by_kernel = "STOPPED BY THE KERNEL" in done.stdout
    assert done.returncode == 125 or held_by_kernel, done.stderr
    assert "more than its limit of 200 processes" in done.stderr or held_by_kernel


@levels
@accounts
def test_memory_that_nobody_granted_is_not_had(level: str, account: str) -> None:
    """One process meets RLIMIT_DATA; several together meet the control group, or the count where there is none."""
    greedy = """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                held = bytearray(150 << 20)
                held[::4096] = b"x" * len(held[::4096])
                time.sleep(30)
        time.sleep(30)
    """
    done = inside(greedy, "--memory-mib", "300", "--seconds", "25", level=level, account=account)
    assert done.returncode in (125, 137), done
    assert "more than its limit of 300 MiB of memory" in done.stderr


IN_MEMORY = {
    "a file without a name": "file = os.memfd_create('x'); fill(lambda block: os.write(file, block))",
    "a mapping that can be shared": "fill(mmap.mmap(-1, 800 << 20).write)",
    "a private file of /dev/shm": "fill(open('/dev/shm/x', 'wb').write)",
}


@levels
@pytest.mark.parametrize("how", IN_MEMORY)
def test_memory_by_another_name_is_memory_too(how: str, level: str) -> None:
    """No RLIMIT_DATA holds it, and it is not resident, or counts as shared. Where root is, the control group does."""
    greedy = f"""
        import mmap, os, time
        def fill(write):
            for _ in range(700):
                write(b"x" * (1 << 20))
            time.sleep(20)
        try:
            {IN_MEMORY[how]}
        except PermissionError:
            print("there is none at this level")
    """
    done = inside(greedy, "--memory-mib", "400", "--seconds", "30", level=level, account=trials.ACCOUNTS[-1])
    if "/dev/shm" in how and level == "landlock":
        assert done.stdout == "there is none at this level\n"
        return
    assert done.returncode in (125, 137), done
    assert "more than its limit of 400 MiB of memory" in done.stderr


@levels
def test_memory_that_processes_share_counts_once(level: str) -> None:
    shared = """
        import mmap, os, time
        held = mmap.mmap(-1, 200 << 20)
        held.write(b"x" * (200 << 20))
        children = []
        for _ in range(4):
            if (pid := os.fork()) == 0:
                held[::4096]
                time.sleep(1)
                os._exit(0)
            children.append(pid)
        for pid in children: os.waitpid(pid, 0)
        print("done")
    """
    done = inside(shared, "--memory-mib", "600", "--seconds", "30", level=level, account=trials.ACCOUNTS[-1])
    assert done.stdout == "done\n", done


@levels
def test_threads_are_processes_to_the_kernel_and_to_us(level: str) -> None:
    many = """
        import threading, time
        threading.stack_size(1 << 16)
        try:
            for _ in range(1_000):
                threading.Thread(target=time.sleep, args=(20,), daemon=True).start()
        except RuntimeError:
            print("STOPPED BY THE KERNEL", flush=True)
        time.sleep(20)
    """
    done = inside(many, "--processes", "200", "--seconds", "3", level=level, account=trials.ACCOUNTS[-1])
    assert done.returncode == 125 or "STOPPED BY THE KERNEL" in done.stdout, done


@levels
def test_one_process_is_told_that_there_is_no_memory(level: str) -> None:
    done = inside(
        "try:\n    bytearray(1 << 30)\nexcept MemoryError:\n    print('none left')", "--memory-mib", "300", level=level
    )
    assert done.stdout == "none left\n"


@levels
def test_a_full_disk_is_the_runs_own_trouble(level: str, out: Path) -> None:
    fill = """
        import itertools, time
        for n in itertools.count():
            open(f"{n}.bin", "wb").write(b"x" * (1 << 20))
            time.sleep(0.002)
    """
    done = inside(fill, "--writable", str(out), "--output-mib", "20", "--seconds", "20", level=level)
    assert done.returncode == 125, done
    assert "more than its limit of 20 MiB of disk space for its output" in done.stderr


HIDING = {
    "behind a closed door": "os.mkdir('shut', 0o300); file = open('shut/x', 'wb')",
    "very deep": "for _ in range(30): os.mkdir('d' * 200); os.chdir('d' * 200)\nfile = open('x', 'wb')",
    "by a process that shows nothing": "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); file = open('x', 'wb'); "
    "os.unlink('x')",
    "in a deleted file": "file = open('x', 'wb'); os.unlink('x')",
}


@levels
@pytest.mark.parametrize("how", HIDING)
def test_output_that_is_hidden_from_its_supervisor_ends_a_run(how: str, level: str, out: Path) -> None:
    write = "for _ in range(60): file.write(b'x' * (1 << 20))\nfile.flush()\ntime.sleep(20)"
    out.chmod(0o777)
    code, options = f"import os, time\n{HIDING[how]}\n{write}", ("--writable", str(out), "--output-mib", "20")
    done = inside(code, *options, "--seconds", "20", level=level, account=trials.ACCOUNTS[-1])
    assert done.returncode == 125, done
    assert "disk space for its output" in done.stderr or "closed a folder or a process" in done.stderr


@levels
def test_a_million_small_files_are_too_many(level: str, out: Path) -> None:
    litter = """
        import itertools, os
        for n in itertools.count():
            os.mkdir(f"{n}")
    """
    done = inside(litter, "--writable", str(out), "--output-files", "5000", "--seconds", "20", level=level)
    assert done.returncode == 125, done
    assert "more than its limit of 5,000 files" in done.stderr


LEAVE_CHILDREN = f"""
    import os, subprocess, sys, time
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                subprocess.run([sys.executable, "-c", "import time; time.sleep(60)", "{MARK}"], start_new_session=True)
            os._exit(0)
    print("left", flush=True)
    time.sleep(60)
"""


@levels
@accounts
def test_children_that_fled_do_not_outlive_the_deadline(level: str, account: str) -> None:
    began = time.monotonic()
    done = inside(LEAVE_CHILDREN, "--seconds", "2", level=level, account=account)
    assert done.returncode == 124, done
    assert done.stdout == "left\n"
    assert "did not end within 2 s" in done.stderr
    assert time.monotonic() - began < 15
    wait_until(lambda: not running(MARK), "nobody is left running", 5)


@levels
@accounts
def test_children_that_fled_do_not_outlive_a_supervisor_that_was_killed(level: str, account: str) -> None:
    command = [*told.COMMAND, "--level", level, "--", sys.executable, "-c"]
    supervisor = subprocess.Popen(
        trials.as_account(account, [*command, textwrap.dedent(LEAVE_CHILDREN)]),
        env=os.environ | told.environment() | {"PYTHONPATH": str(trials.PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert supervisor.stdout is not None
    with supervisor, supervisor.stdout:
        assert supervisor.stdout.readline() == "left\n"
        wait_until(lambda: len(running(MARK)) >= 3, "all three run")
        supervisor.send_signal(signal.SIGKILL)
    wait_until(lambda: not running(MARK), "nobody is left running", 5)


@levels
def test_children_that_fled_do_not_outlive_a_run_that_ended_well(level: str) -> None:
    done = inside(LEAVE_CHILDREN.replace("time.sleep(60)\n", "time.sleep(1)\n"), level=level)
    assert (done.returncode, done.stdout) == (0, "left\n"), done.stderr
    wait_until(lambda: not running(MARK), "nobody is left running", 5)


@levels
def test_nothing_of_a_run_stays_on_the_machine(level: str, tmp_path: Path) -> None:
    """No control group, no temporary folder, no process."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "gpu_runner.sandbox", "--level", level, "--", sys.executable, "-c", "print('hello')"],
        env=os.environ | {"PYTHONPATH": str(trials.PROJECT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.communicate(timeout=60)[0] == "hello\n"
    groups = [name for _, names, _ in os.walk(cgroups.ROOT) for name in names]
    assert not [name for name in groups if name.startswith(f"{cgroups.PREFIX}{supervisor.pid}-")]
    assert not list(tmp_path.iterdir())
    assert not running(str(tmp_path))


def test_a_group_goes_with_the_groups_that_were_made_inside_of_it() -> None:
    """A worker killed in the middle of scoring leaves its scorer's, and in it the model's: the next one sweeps both."""
    group = cgroups.make(memory_bytes=1 << 30, processes=64)
    if group is None:
        assert cgroups.problem(), "no group, and no reason"
        return
    for folder in group.folders:
        (folder / "countersign-inside" / "deeper").mkdir(parents=True)
    group.end()
    assert not any(folder.exists() for folder in group.folders)


@levels
def test_what_dana_types_meanwhile_cannot_be_read_inside(level: str) -> None:
    """Standard output is the terminal, and a terminal's every descriptor can be read."""
    steal = """
        import os
        for fd in (1, 2):
            try:
                print("READ", os.read(fd, 99))
            except OSError:
                print("DENIED")
    """
    terminal, hers = pty.openpty()
    command = [sys.executable, "-m", "gpu_runner.sandbox", "--level", level, "--seconds", "20", "--"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", textwrap.dedent(steal)],
        **dict.fromkeys(("stdin", "stdout", "stderr"), hers),
        start_new_session=True,
    ):
        os.close(hers)
        os.write(terminal, b"her password\n")
        said = b""
        with contextlib.suppress(OSError):  # so a terminal says that the other end is closed
            while block := os.read(terminal, 4096):
                said += block
    os.close(terminal)
    assert said.count(b"DENIED") == 2, said


@levels
def test_output_and_exit_code_come_through(level: str) -> None:
    done = inside("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(7)", level=level)
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr == f"sandbox: level {level}\nerr\n"


@levels
def test_what_torch_and_cuda_need_is_there(level: str, out: Path) -> None:
    """Threads, children, anonymous files, pipes, an executable made in the output folder."""
    code = """
        import ctypes, os, subprocess, sys, threading
        fd = os.memfd_create("cuda")
        os.write(fd, b"x")
        threading.Thread(target=lambda: print("thread")).start()
        open("tool.sh", "w").write("#!/bin/sh\\necho child\\n")
        subprocess.run(["/bin/sh", "tool.sh"], check=True)
        said = dict(line.split(":") for line in open("/proc/self/status").read().splitlines() if line.count(":") == 1)
        print(said["NoNewPrivs"].strip(), said["Seccomp"].strip(), said["CapEff"].strip(), said["CapBnd"].strip())
    """
    done = inside(code, "--writable", str(out), level=level)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert {"thread", "child", f"1 2 {'0' * 16} {'0' * 16}"} == set(lines)


def test_a_newcomer_who_forgets_the_command_is_told() -> None:
    for options, said in (
        ([], "name a command after --"),
        (["--memory-mib", "lots", "--", "true"], "'lots' is not a whole number above 0"),
        (["--writable", "/no/such/folder", "--", "true"], "--writable: there is nothing at /no/such/folder"),
        (["--level", "jail", "--", "true"], "invalid choice: 'jail'"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "gpu_runner.sandbox", *options], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


@levels
def test_a_command_that_is_not_there_says_so(level: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpu_runner.sandbox", "--level", level, "--", "no-such-program"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 127
    assert "no-such-program: No such file or directory" in done.stderr


def test_the_probe_says_of_every_level_whether_it_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gpu_runner.sandbox", "--probe", "--json"], capture_output=True, text=True, timeout=60
    )
    told = json.loads(done.stdout)
    assert told["levels"] == {"bubblewrap": None, "landlock": None, "none": None}
    assert set(told) == {"levels", "control_groups"}
