"""Sets limits on its own process, step by step as the arguments say, and then execs a command.

    python -I -S enter.py STEP=VALUE ... -- CMD ...

    cgroup=DIR      join that control group
    parent=PID      SIGKILL when that parent thread dies (Linux), even if it was killed with -9
    oom=N           /proc/self/oom_score_adj: when memory runs out the kernel ends the run, not its supervisor
    core=N nofile=N fsize=N data=N nproc=N ...
                    soft and hard RLIMIT of that name; a lower present hard limit stays
    cwd=DIR         working directory
    home=DIR        working directory, HOME and TMPDIR
    set:NAME=VALUE  one variable of the environment
    keep=1          stay behind as a keeper: end the whole process group when the command or the parent ends
    read=PATH hide=PATH write=DIR device=PATH
                    rules for Landlock, which is entered after all other steps
    seccomp=bare|isolated
                    which system calls are closed, last of all

Standard library only, because it runs before and inside the sandbox. It is a program and not a ``preexec_fn``
because the worker has threads, and Python between fork and exec in a threaded process can deadlock.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from types import FrameType

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # -I leaves the script's own folder out

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CANNOT_ENTER = 121  # the exit code of a shim that could not do what it was told


def lower(name: str, wanted: int) -> None:
    """Set both the soft and the hard limit, never above the hard limit that is already there."""
    kind = getattr(resource, f"RLIMIT_{name.upper()}")
    hard = resource.getrlimit(kind)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (limit, limit))


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Ask for a signal at the parent's death; leave at once if it died before we asked."""
    if sys.platform != "linux":
        return
    from seccomp import prctl

    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit("the supervisor is already gone")


def keep() -> None:
    """Fork: returns in the child, which goes on. This process waits for it, and then ends all of its group."""
    from seccomp import prctl

    prctl(PR_SET_CHILD_SUBREAPER, 1)  # whoever loses its parent becomes ours
    signal.signal(signal.SIGTERM, _end_the_group)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    us, child = os.getpid(), os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with(us)
        return
    os.closerange(0, 4096)  # pipes that we held open would never end
    code = _buried(child)
    while strays := _children():
        for pid in strays:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(-1, 0)
    os._exit(code if code >= 0 else 128 - code)


def _end_the_group(_signum: int, _frame: FrameType | None) -> None:
    os.killpg(0, signal.SIGKILL)  # us too; seccomp lets nobody leave the group


def _buried(child: int) -> int:
    while True:
        pid, ended = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(ended)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def move_home(folder: str) -> None:
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder)


def step(name: str, value: str) -> None:
    if name == "cgroup":
        write(os.path.join(value, "cgroup.procs"), "0")
    elif name == "parent":
        die_with(int(value))
    elif name == "oom":
        if sys.platform == "linux":
            write("/proc/self/oom_score_adj", value)
    elif name == "cwd":
        os.chdir(value)
    elif name == "home":
        move_home(value)
    elif name.startswith("set:"):
        os.environ[name.removeprefix("set:")] = value
    elif name == "keep":
        keep()
    else:
        lower(name, int(value))


def close(named: dict[str, list[str]]) -> None:
    """Enter Landlock and seccomp, which cannot be undone."""
    if named["read"]:
        import landlock

        landlock.restrict(read=named["read"], hide=named["hide"], write=named["write"], devices=named["device"])
    for strength in named["seccomp"]:
        import seccomp

        seccomp.apply(bare=strength == "bare")


def main(arguments: list[str]) -> None:
    cut = arguments.index("--")
    named: dict[str, list[str]] = {name: [] for name in ("read", "hide", "write", "device", "seccomp")}
    try:
        for setting in arguments[:cut]:
            name, _, value = setting.partition("=")
            if name in named:
                named[name].append(value)
            else:
                step(name, value)
        close(named)
    except OSError as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        sys.exit(CANNOT_ENTER)
    command = arguments[cut + 1 :]
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606  a list of arguments is what we want
    except OSError as problem:
        print(f"sandbox: {command[0]}: {problem.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
