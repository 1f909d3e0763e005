"""A tiny exec shim: lower this process's limits, then become the command.

``python -I -S limits.py nofile=4096 core=0 -- CMD ...``. Standard library only and no imports of
ours, because it runs before and inside the sandbox. It is a shim and not a ``preexec_fn`` because
the worker has threads, and Python between fork and exec in a threaded process can deadlock.

    LIMIT=N     soft and hard RLIMIT of that name. A lower present hard limit stays.
    oom=N       /proc/self/oom_score_adj: when memory runs out the kernel ends the run, not its supervisor
    parent=PID  SIGKILL when that parent thread dies (Linux), even if it was killed with -9
    home=DIR    working directory, HOME and TMPDIR
"""

import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def lower(name: str, wanted: int) -> None:
    """Set both the soft and the hard limit, never above the hard limit that is already there."""
    kind = getattr(resource, f"RLIMIT_{name.upper()}")
    hard = resource.getrlimit(kind)[1]
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (limit, limit))


def offer_to_the_oom_killer(score: int) -> None:
    if sys.platform == "linux":
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(score))


def die_with(parent: int) -> None:
    """Ask for SIGKILL at the parent's death; leave at once if it died before we asked."""
    if sys.platform != "linux":
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("limits.py: prctl(PR_SET_PDEATHSIG) failed: " + os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        sys.exit("limits.py: the supervisor is already gone")


def move_home(folder: str) -> None:
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder)


def main(arguments: list[str]) -> None:
    cut = arguments.index("--")
    for setting in arguments[:cut]:
        name, _, value = setting.partition("=")
        if name == "home":
            move_home(value)
        elif name == "parent":
            die_with(int(value))
        elif name == "oom":
            offer_to_the_oom_killer(int(value))
        else:
            lower(name, int(value))
    command = arguments[cut + 1 :]
    os.execvpe(command[0], command, os.environ)  # noqa: S606  a list of arguments is what we want


if __name__ == "__main__":
    main(sys.argv[1:])
