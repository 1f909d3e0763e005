"""Where proposed code runs: no network, no secrets, read-only code and shards, one writable folder.

Two levels, best first; the level is part of what a person approves and stands on every run.

    bubblewrap  own user, mount, pid, network, ipc and uts namespaces; the file system is what is named here
    none        a clean environment, limits and an own session, and nothing else. Not a boundary.

``COUNTERSIGN_SANDBOX`` = auto | bubblewrap | none chooses; *auto* takes the best that works here.
A GPU's driver is reachable from inside (its ioctls cannot be fenced): the real boundary there is a
host without secrets and one run per GPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

LEVELS = ("bubblewrap", "none")
PACKAGE = Path(__file__).resolve().parent
LIMITS = PACKAGE / "limits.py"

GIB = 1 << 30
PRIVATE_TMP, PRIVATE_SHM = "/tmp", "/dev/shm"  # noqa: S108  fresh and private inside
TMPFS_BYTES = 2 * GIB  # they live in memory
MAX_FILE_BYTES = 32 * GIB
MAX_PROCESSES = 4096  # threads count: a compiling torch on a large machine has hundreds
PROBE_S = 30.0

# What of the supervisor's environment may go in: where the GPU is, and how many threads. Never a secret.
INHERITED = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
GPU_NODES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")


def probe() -> str:
    """The level that runs here: what ``COUNTERSIGN_SANDBOX`` asks for, proved by running Python inside.

    Raises ValueError when that variable names no level, or names one that does not work here.
    """
    wanted = os.environ.get("COUNTERSIGN_SANDBOX", "auto").strip() or "auto"
    if wanted not in ("auto", *LEVELS):
        raise ValueError(f"COUNTERSIGN_SANDBOX: {wanted!r} is not one of auto, {', '.join(LEVELS)}")
    if wanted == "auto":
        return next(level for level in LEVELS if problem_with(level) is None)
    if (problem := problem_with(wanted)) is not None:
        raise ValueError(f"COUNTERSIGN_SANDBOX={wanted}: {problem}")
    return wanted


@cache
def problem_with(level: str) -> str | None:
    """Why ``level`` does not work on this machine, with the way out; None if it does. Really tries it."""
    if level == "none":
        return None
    if shutil.which("bwrap") is None:
        return "bwrap is not on PATH; install the package bubblewrap"
    argv = wrap([sys.executable, "-c", "import gpu_runner; print('inside')"], level=level, read_only=(), writable=None)
    try:
        attempt = subprocess.run(
            argv, env=child_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_S
        )
    except subprocess.TimeoutExpired:
        return f"bwrap did not answer within {PROBE_S:g} s"
    if attempt.returncode == 0 and attempt.stdout == "inside\n":
        return None
    said = attempt.stderr.strip().splitlines()[-1:] or [f"exit code {attempt.returncode}"]
    return f"bwrap does not work here ({said[0]}); {_way_out(attempt.stderr)}"


def _way_out(stderr: str) -> str:
    if "uid map" in stderr or "RTM_NEWADDR" in stderr or "namespace" in stderr:
        return "allow user namespaces (Ubuntu 24.04: add an AppArmor profile for /usr/bin/bwrap that permits userns)"
    return "run `bwrap --ro-bind / / true` by hand to see why"


def child_environment() -> dict[str, str]:
    """The whole environment of a sandboxed process. Built from nothing, so that no secret can slip through."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    # Threads that wait must sleep: with anything else on one of two cores, threads that spin trained 1.0k to 1.6k
    # tokens/s and sleeping ones 14k to 15k; on an idle machine sleeping costs a quarter. The operator's choice wins.
    return (
        {"OMP_WAIT_POLICY": "passive"}
        | kept
        | {
            "PATH": os.pathsep.join(
                dict.fromkeys((str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"))
            ),
            "LANG": "C.UTF-8",
            "HOME": PRIVATE_TMP,
            "USER": "sandbox",  # torch.compile asks for a user name, and there is no /etc/passwd inside
            "LOGNAME": "sandbox",
            "PYTHONPATH": str(PACKAGE.parent),
            "PYTHONSAFEPATH": "1",  # the working directory is writable: nothing is imported from there
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONHASHSEED": "0",
        }
    )


def wrap(
    argv: Sequence[str],
    *,
    level: str,
    read_only: Sequence[Path],
    writable: Path | None,
    pass_fds: Sequence[int] = (),
) -> list[str]:
    """The command line that runs ``argv`` at ``level``.

    Start it with ``env=child_environment()``, ``start_new_session=True`` and the same ``pass_fds``, from a
    thread that outlives it: it is killed when that thread dies. ``read_only`` and ``writable`` appear inside
    under their own absolute paths. Kill it by its process group.
    """
    assert all(fd > 2 for fd in pass_fds), "0, 1 and 2 are passed anyway"
    if level == "bubblewrap":
        inside = [*_shim({"nproc": MAX_PROCESSES}), *argv]
        return [*_shim(_limits()), *_bubblewrap(read_only, writable), "--", *inside]
    if level == "none":
        home: dict[str, int | str] = {"home": os.path.abspath(writable)} if writable else {}
        return [*_shim(_limits() | home), *argv]
    raise ValueError(f"sandbox level: {level!r} is not one of {', '.join(LEVELS)}")


def _shim(settings: dict[str, int | str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(LIMITS), *(f"{name}={value}" for name, value in settings.items()), "--"]


def _limits() -> dict[str, int | str]:
    """No address space limit: CUDA and torch reserve far more than they use. Data is limited where there is no GPU."""
    limits: dict[str, int | str] = {
        "core": 0,
        "nofile": 4096,
        "fsize": MAX_FILE_BYTES,
        "oom": 1000,
        "parent": os.getpid(),
    }
    if sys.platform == "linux" and not gpu_nodes():
        # A MemoryError that the run can tell of comes before the machine runs out.
        limits["data"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 7 // 8
    return limits


def gpu_nodes() -> list[Path]:
    """The device files of NVIDIA GPUs, empty where there are none."""
    return sorted(node for pattern in GPU_NODES for node in Path("/dev").glob(pattern))


def _bubblewrap(read_only: Sequence[Path], writable: Path | None) -> list[str]:
    size = ["--size", str(TMPFS_BYTES)] if _knows("--size") else []
    command = [
        shutil.which("bwrap") or "bwrap",
        "--unshare-all",
        "--unshare-user",
        "--die-with-parent",
        "--new-session",
    ]
    command += ["--disable-userns"] if _knows("--disable-userns") else []
    command += ["--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"]
    for name, value in child_environment().items():
        command += ["--setenv", name, value]
    for system in (*SYSTEM, *SYSTEM_FILES):
        command += ["--ro-bind-try", system, system]
    # For the host's root /proc/sys/kernel/core_pattern is writable by its owner alone, without any
    # capability, and bwrap does not cover it: all of /proc is read-only.
    command += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", *_gpu()]
    command += [*size, "--tmpfs", PRIVATE_SHM, "--remount-ro", "/dev", *size, "--tmpfs", PRIVATE_TMP]
    for path in dict.fromkeys((*_python(), PACKAGE, *read_only)):
        command += ["--ro-bind", os.path.abspath(path), os.path.abspath(path)]
    if writable is not None:
        command += ["--bind", os.path.abspath(writable), os.path.abspath(writable)]
    return [*command, "--remount-ro", "/", "--chdir", os.path.abspath(writable or PRIVATE_TMP)]


def _gpu() -> Iterator[str]:
    nodes = gpu_nodes()
    for node in nodes:
        yield from ("--dev-bind", str(node), str(node))
    if nodes:  # the driver finds its PCI devices there
        yield from ("--ro-bind", "/sys", "/sys")


def _python() -> Iterator[Path]:
    """What the running interpreter needs outside of /usr: its prefixes, every site-packages, its symbolic links.

    A folder that holds somebody's home (a Python installed with --prefix=$HOME) is never bound; the probe then fails.
    """
    places = [Path(sys.prefix), Path(sys.base_prefix)]
    places += [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    for place in places:
        if place.is_dir() and not place.is_relative_to("/usr") and not Path.home().is_relative_to(place):
            yield place
    link = Path(sys.executable)
    while link.is_symlink():
        link = link.parent / link.readlink()
        if not any(link.is_relative_to(place) for place in (*places, Path("/usr"), Path("/bin"))):
            yield link


@cache
def _knows(option: str) -> bool:
    """Whether this bwrap has ``option``: --disable-userns came with 0.8, --size with 0.7."""
    said = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, timeout=PROBE_S)
    return option in said.stdout + said.stderr
