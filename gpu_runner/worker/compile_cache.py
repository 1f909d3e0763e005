"""Keeps compiled kernels from one run to the next, in a way that proposed code cannot poison.

What torch.compile keeps is code: shared objects, kernels and pickles, which the process that finds them loads and runs.
So no process that ran proposed code may write what another run reads. An approval or a verdict does not change
that: a kept proposal could leave kernels behind for later runs, also for those that take its code out again.

    written   after a run that trained well and whose recipe's files are, but for the numbers in recipe.toml, byte
              for byte the ones that are shipped with this worker: no code but ours was in that process
    read      by every run, as a copy in its own output folder; what it adds or changes there goes with the folder
    never     at level none, where any run could write here by itself

Entries are found by the hash of what they were compiled from. An incumbent whose code has moved away from the shipped
recipe finds the parts that are still the same, and compiles the rest in every run.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_runner.contract import canonical_json, sha256
from gpu_runner.machine import hardware

log = logging.getLogger(__name__)

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
SETTINGS = "recipe.toml"  # numbers and choices, parsed strictly: no code
FOLDER = "compile-cache"  # in a run's output folder; harness/__main__.py sends torch and Triton there
NUM_KEYS = 3  # cache folders that are kept (see ``home``); the oldest go
MAX_BYTES, MAX_FILES = 1 << 30, 20_000  # of one cache folder; a larger one is emptied


class CompileCache:
    """The kernels of one machine, driver, installation and version of the shipped recipes, below ``root``."""

    def __init__(self, root: Path, *, lock_sha256: str) -> None:
        self.root, self.lock_sha256 = root, lock_sha256

    @property
    def home(self) -> Path:
        """The cache folder for this machine, driver, installation and version of the shipped recipes."""
        facts = hardware.facts()
        of_machine = {name: facts[name] for name in ("cpu", "gpu", "gpu_driver", "torch", "python")}
        shipped = {folder.name: _files(folder) for folder in sorted(RECIPES.iterdir()) if folder.is_dir()}
        key = canonical_json(of_machine | {"lock": self.lock_sha256, "recipes": shipped})
        return self.root / sha256(key)[:32]

    def give(self, out: Path) -> None:
        """Copy the kernels into a run's fresh output folder. Where the disk is full, the run compiles for itself."""
        home = self.home
        if not home.is_dir():
            return
        try:
            with _held(self.root, fcntl.LOCK_SH):
                shutil.copytree(home, out / FOLDER)
        except OSError as error:
            log.warning("no kernels of earlier runs: %s", error)
            shutil.rmtree(out / FOLDER, ignore_errors=True)

    def keep(self, recipe: Path, out: Path) -> None:
        """Add the kernels that a well-trained run compiled, if its recipe is a shipped one."""
        if not is_shipped(recipe) or not (out / FOLDER).is_dir():
            return
        home = self.home
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _held(self.root, fcntl.LOCK_EX):
                _add(out / FOLDER, home)
                _prune(self.root, home)
        except OSError as error:
            log.warning("the kernels of this run are not kept: %s", error)


def is_shipped(recipe: Path) -> bool:
    """Whether the recipe's files are exactly those of a shipped recipe; recipe.toml may differ."""
    found = _files(recipe)
    return any(found == _files(folder) for folder in RECIPES.iterdir() if folder.is_dir())


def _files(recipe: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file but recipe.toml, and of shipped recipes but their bytecode."""
    found = {}
    for path in sorted(recipe.rglob("*")):
        name = path.relative_to(recipe).as_posix()
        if path.is_symlink():
            found[name] = "a link"
        elif path.is_file() and name != SETTINGS and not (path.suffix == ".pyc" and recipe.parent == RECIPES):
            found[name] = sha256(path.read_bytes())
    return found


@contextmanager
def _held(root: Path, how: int) -> Iterator[None]:
    with open(root / "lock", "ab") as lock:
        fcntl.flock(lock, how)
        yield


def _add(cache: Path, home: Path) -> None:
    """Copy regular files that ``home`` does not have yet, each whole or not at all. Nothing is overwritten."""
    found = [path for path in cache.rglob("*") if stat.S_ISREG(path.lstat().st_mode)]
    if len(found) > MAX_FILES or sum(path.stat().st_size for path in found) > MAX_BYTES:
        shutil.rmtree(home)  # the run had a copy of all of ``home``, so that is nearly as large
        return
    for path in found:
        place = home / path.relative_to(cache)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            scratch = place.with_name(f".{place.name}.partial")
            shutil.copy(path, scratch)
            os.replace(scratch, place)


def _prune(root: Path, home: Path) -> None:
    if home.is_dir():
        os.utime(home)
    kept = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: -path.stat().st_mtime)
    for old in kept[NUM_KEYS:]:
        shutil.rmtree(old)
