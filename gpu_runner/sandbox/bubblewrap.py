"""The bwrap command line: own namespaces of every kind, and a file system that has only what is named here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from gpu_runner.sandbox import view
from gpu_runner.sandbox.hidden import below

PRIVATE_SHM = "/dev/shm"  # noqa: S108
TMPFS_BYTES = 2 << 30  # /tmp and /dev/shm live in memory
HELP_S = 30.0
ABSENT = Path(__file__).with_name("absent")  # lies over what is hidden: a module that says so when it is imported


def command(read_only: Sequence[Path], writable: Path | None, hidden: Sequence[Path] = ()) -> list[str]:
    """The bwrap command line, up to the ``--`` before the command that runs inside."""
    size = ["--size", str(TMPFS_BYTES)] if _knows("--size") else []
    parts = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    parts += ["--disable-userns"] if _knows("--disable-userns") else []
    parts += ["--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"]
    for name, value in view.child_environment().items():
        parts += ["--setenv", name, value]
    for system in (*view.SYSTEM, *view.SYSTEM_FILES):
        parts += _as_on_the_host(system)
    # For the host's root /proc/sys/kernel/core_pattern is writable by its owner alone, without any
    # capability, and bwrap does not cover it: all of /proc is read-only.
    parts += ["--proc", "/proc", "--remount-ro", "/proc", *_shut(), "--dev", "/dev", *_gpu()]
    parts += [*size, "--tmpfs", PRIVATE_SHM, "--remount-ro", "/dev", *size, "--tmpfs", view.PRIVATE_TMP]
    for path in dict.fromkeys((*view.python(), view.PACKAGE)):
        parts += ["--ro-bind", os.path.abspath(path), os.path.abspath(path)]
    parts += _hide(hidden)
    for path in dict.fromkeys(read_only):
        parts += ["--ro-bind", os.path.abspath(path), os.path.abspath(path)]
    if writable is not None:
        parts += ["--bind", os.path.abspath(writable), os.path.abspath(writable)]
    return [*parts, "--remount-ro", "/", "--chdir", os.path.abspath(writable or view.PRIVATE_TMP)]


def _as_on_the_host(path: str) -> list[str]:
    """Bind ``path`` read-only.

    /lib is mostly a link into /usr and stays one: bound, it would show what is hidden there.
    """
    return ["--symlink", os.readlink(path), path] if _leads_into_usr(path) else ["--ro-bind-try", path, path]


def _leads_into_usr(path: str) -> bool:
    return path in view.SYSTEM and os.path.islink(path) and os.path.realpath(path).startswith("/usr/")


def _hide(hidden: Sequence[Path]) -> Iterator[str]:
    """Mount ABSENT over each of these real paths, in every tree that shows it."""
    for tree in dict.fromkeys(map(os.path.abspath, view.trees())):
        if _leads_into_usr(tree):
            continue
        real = os.path.realpath(tree)
        for place in below(real, [str(path) for path in hidden]):
            cover = ABSENT if os.path.isdir(place) else ABSENT / "__init__.py"
            yield from ("--ro-bind", str(cover), tree + place.removeprefix(real))


def _shut() -> Iterator[str]:
    """Cover files of /proc that only root may read, or that tell of the whole kernel: its timers, pages, keys.

    To the host's root they are open inside, too.
    """
    for entry in os.scandir("/proc"):
        if entry.is_file() and (entry.name == "keys" or not entry.stat().st_mode & 0o077):
            yield from ("--ro-bind", os.devnull, entry.path)  # which no mount of bwrap's lets anybody open


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
