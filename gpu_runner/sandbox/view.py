"""What a sandboxed process can see of this machine: interpreter, libraries, GPU nodes, environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent  # gpu_runner
PRIVATE_TMP = "/tmp"  # noqa: S108  fresh and private at level bubblewrap

# What of the supervisor's environment may go in: where the GPU is, and how many threads. Never a secret.
INHERITED = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")

SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
# At level landlock the host's own trees are there; of them only this may be opened.
PROC = (
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/devices"),
    *("/proc/sys/vm/overcommit_memory", "/proc/driver/nvidia"),
)
CPU_FOLDERS = ("/sys/devices/system/cpu", "/sys/devices/system/node")
GPU_FOLDERS = ("/sys",)  # the driver finds its PCI devices there
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
GPU_NODES = ("nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")


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
            "PYTHONNOUSERSITE": "1",  # nor from HOME, which at level none is everybody's
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONHASHSEED": "0",
        }
    )


def gpu_nodes() -> list[Path]:
    """The device files of NVIDIA GPUs, empty where there are none."""
    return sorted(node for pattern in GPU_NODES for node in Path("/dev").glob(pattern))


def trees() -> list[Path]:
    """Every path of this machine that is shown to every run; some may not exist."""
    return [*map(Path, SYSTEM), *python(), PACKAGE]


def shown_by(path: Path) -> Path | None:
    """The tree that shows ``path`` to every run, or None: nothing secret or held out may lie in one."""
    real = path.resolve()
    return next((tree for tree in trees() if real.is_relative_to(tree.resolve())), None)


def python() -> Iterator[Path]:
    """What the running interpreter needs outside of /usr: its prefixes, every site-packages, its symbolic links.

    A folder that holds somebody's home (a Python installed with --prefix=$HOME) is never shown; the probe then fails.
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
