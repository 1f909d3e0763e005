"""Run folders: one a run, locked while its worker lives, swept when it does not."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_runner.contract import RunSpec

SETTLED_S = 60.0  # a folder without a lock for so long is no longer being made


@contextmanager
def run_folder(runs: Path, spec: RunSpec, *, num_kept: int) -> Iterator[Path]:
    """A fresh folder for one lease, removed at the end unless it is among the ``num_kept`` newest.

    The lock on it ends with this process, however that ends, so a later ``sweep`` knows what is left over.
    """
    folder = runs / f"run-{spec.run_id}-fence-{spec.fence}"
    if folder.exists():  # this lease was given to a worker of the same folder that died, and to us again
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)
    with open(folder / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            sweep(runs, num_kept=num_kept)


def sweep(runs: Path, *, num_kept: int) -> None:
    """Remove all but the newest ``num_kept`` folders that no living worker uses."""
    left = [(folder.stat().st_mtime, folder) for folder in runs.glob("run-*") if _is_left(folder)]
    for _, folder in sorted(left, reverse=True)[num_kept:]:
        _remove(folder)


def _is_left(folder: Path) -> bool:
    try:
        with open(folder / "lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # gone, or so new that its worker has not locked it yet
        return folder.exists() and time.time() - folder.stat().st_mtime > SETTLED_S
    return True


def _remove(folder: Path) -> None:
    for here, names, _ in os.walk(folder):  # top-down: a run may have closed a folder in out/ to everybody
        for path in (Path(here, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)
