"""Where proposed code runs: no network, no secrets, read-only code and shards, one writable folder.

Three levels, best first; the level is part of what a person approves and stands on every run.

    bubblewrap  own user, mount, pid, network, ipc and uts namespaces; the file system has only what is named here
    landlock    in the host's namespaces: the kernel opens only what is named here, and no socket at all
    none        a clean environment, limits and an own session, and nothing else. Not a boundary.

``COUNTERSIGN_SANDBOX`` = auto | bubblewrap | landlock | none chooses; *auto* takes the better of the first two that
works here, and never *none*, which only the operator can choose. A GPU's driver is reachable from inside (its ioctls
cannot be fenced): the real boundary there is a host without secrets and one run per GPU.

``python -m gpu_runner.sandbox -- CMD ...`` runs any command as a run would.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache

from gpu_runner.sandbox import landlock
from gpu_runner.sandbox.account import Spent
from gpu_runner.sandbox.cell import Cell
from gpu_runner.sandbox.meter import Bounds, Excess
from gpu_runner.sandbox.view import child_environment, gpu_nodes

__all__ = ["LEVELS", "Bounds", "Cell", "Excess", "Spent", "child_environment", "gpu_nodes", "probe", "problem_with"]

LEVELS = ("bubblewrap", "landlock", "none")
PROBE_S = 30.0


def probe(wanted: str | None = None) -> str:
    """The level that ``wanted`` or ``COUNTERSIGN_SANDBOX`` asks for, proved by running Python at it.

    Raises ValueError when it names no level or one that does not work here, or when *auto* finds none.
    """
    asked, wanted = ("sandbox level", wanted) if wanted else ("COUNTERSIGN_SANDBOX", _from_environment())
    if wanted not in ("auto", *LEVELS):
        raise ValueError(f"{asked}: {wanted!r} is not one of auto, {', '.join(LEVELS)}")
    if wanted == "auto":
        return _best()
    if (problem := problem_with(wanted)) is not None:
        raise ValueError(f"{asked}={wanted}: {problem}")
    return wanted


def _from_environment() -> str:
    return os.environ.get("COUNTERSIGN_SANDBOX", "").strip() or "auto"


def _best() -> str:
    problems = []
    for level in LEVELS[:-1]:
        if (problem := problem_with(level)) is None:
            return level
        problems.append(f"{level}: {problem}")
    raise ValueError(
        f"no sandbox works here ({'; '.join(problems)}). To run code without one, with your own rights, say so: "
        "COUNTERSIGN_SANDBOX=none, or --sandbox none"
    )


@cache
def problem_with(level: str) -> str | None:
    """Why ``level`` does not work on this machine, with the way out; None if it does. Tries it."""
    if level == "none":
        return None
    if sys.platform != "linux":
        return "it is a Linux kernel's; let a Linux machine run proposals"
    if level == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not on PATH; install the package bubblewrap"
    if level == "landlock" and (abi := landlock.abi()) < landlock.NEEDED_ABI:
        return f"the kernel's Landlock is version {abi}, needed is {landlock.NEEDED_ABI} (Linux 6.12)"
    said = _trial(level)
    return None if said is None else f"it does not work here ({said.splitlines()[-1][:300]}); {_way_out(said)}"


def _trial(level: str) -> str | None:
    """The error of Python that cannot start inside; None when it starts."""
    with Cell(level=level) as cell:
        try:
            attempt = subprocess.run(
                cell.argv([sys.executable, "-c", "import gpu_runner; print('inside')"]),
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PROBE_S,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {PROBE_S:g} s"
    if attempt.returncode == 0 and attempt.stdout == "inside\n":
        return None
    return attempt.stderr.strip() or f"exit code {attempt.returncode}"


def _way_out(said: str) -> str:
    if "uid map" in said or "RTM_NEWADDR" in said or "namespace" in said:
        return "allow user namespaces (Ubuntu 24.04: add an AppArmor profile for /usr/bin/bwrap that permits userns)"
    return "run `python -m gpu_runner.sandbox --probe` to see why"
