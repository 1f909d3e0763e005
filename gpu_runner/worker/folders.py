"""Run folders: one for each lease, locked while its worker lives; folders of dead workers are removed."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_runner.contract import RunSpec

log = logging.getLogger(__name__)
SETTLED_S = 60.0  # a folder without a lock for so long is no longer being made


@contextmanager
def run_folder(runs: Path, spec: RunSpec, *, num_kept: int) -> Iterator[Path]:
    """A fresh folder for one lease, removed at the end unless it is among the ``num_kept`` newest.

    Its lock ends with this process, however that ends, so that a later ``sweep`` knows which folders are left over.
    """
    folder = runs / f"run-{spec.run_id}-fence-{spec.fence}"
    if folder.exists():  # this lease was given to a worker of the same folder that died, and to us again
        _remove(folder)
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
    """Remove a run's folder with all that hostile code put into it, however deep, closed or named; no link is followed.

    Folders are moved to the top before they are emptied, since they may lie deeper than any path or recursion goes.
    What cannot be removed is logged and stays, so that the worker goes on.
    """
    try:
        while inner := _without_files(folder):
            for path in inner:
                for deeper in _without_files(path):
                    deeper.chmod(0o700)  # a folder that is moved is written to
                    deeper.rename(folder / os.urandom(8).hex())
                path.rmdir()
        folder.rmdir()
    except OSError as error:
        log.warning("a run's folder stays behind: %s", error)


def _without_files(folder: Path) -> list[Path]:
    """Remove everything in ``folder`` but its folders, and return these."""
    folder.chmod(0o700)  # a run may have closed it to everybody
    with os.scandir(folder) as found:
        entries = list(found)
    folders = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
    return folders
