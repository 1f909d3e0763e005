"""The bwrap command line: own namespaces of every kind, and a file system in which only what is named exists."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from gpu_runner.sandbox import view

PRIVATE_SHM = "/dev/shm"  # noqa: S108
TMPFS_BYTES = 2 << 30  # /tmp and /dev/shm live in memory
HELP_S = 30.0


def command(read_only: Sequence[Path], writable: Path | None) -> list[str]:
    """Everything up to the ``--`` before the command that is to run inside."""
    size = ["--size", str(TMPFS_BYTES)] if _knows("--size") else []
    parts = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    parts += ["--disable-userns"] if _knows("--disable-userns") else []
    parts += ["--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"]
    for name, value in view.child_environment().items():
        parts += ["--setenv", name, value]
    for system in (*view.SYSTEM, *view.SYSTEM_FILES):
        parts += ["--ro-bind-try", system, system]
    # For the host's root /proc/sys/kernel/core_pattern is writable by its owner alone, without any
    # capability, and bwrap does not cover it: all of /proc is read-only.
    parts += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev", *_gpu()]
    parts += [*size, "--tmpfs", PRIVATE_SHM, "--remount-ro", "/dev", *size, "--tmpfs", view.PRIVATE_TMP]
    for path in dict.fromkeys((*view.python(), view.PACKAGE, *read_only)):
        parts += ["--ro-bind", os.path.abspath(path), os.path.abspath(path)]
    if writable is not None:
        parts += ["--bind", os.path.abspath(writable), os.path.abspath(writable)]
    return [*parts, "--remount-ro", "/", "--chdir", os.path.abspath(writable or view.PRIVATE_TMP)]


def _gpu() -> Iterator[str]:
    nodes = view.gpu_nodes()
    for node in nodes:
        yield from ("--dev-bind", str(node), str(node))
    if nodes:  # the driver finds its PCI devices there
        yield from ("--ro-bind", "/sys", "/sys")


@cache
def _knows(option: str) -> bool:
    """Whether this bwrap has ``option``: --disable-userns came with 0.8, --size with 0.7."""
    said = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, timeout=HELP_S)
    return option in said.stdout + said.stderr
