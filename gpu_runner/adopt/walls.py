"""A run that nobody leased, for a person at a terminal: what the worker's own code is handed, and what it reports to.

Nothing of it leaves this machine: the connection of its launch is never used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_runner import contract, sandbox
from gpu_runner.command.environments import VARIABLE, Environment, asked, declared
from gpu_runner.contract import Approval, Budget, Lease, LogLine, Phase, Progress, Recipe, RunSpec, SeedPolicy
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.machine import hardware
from gpu_runner.worker import folders
from gpu_runner.worker.client import RunLine
from gpu_runner.worker.parts import Launch, Machine
from gpu_runner.worker.reporter import Point, Reporter, Stop
from gpu_runner.worker.source import GIT_ENVIRONMENT, GIT_OPTIONS

STEPS = 5
SCORE_TOKENS = 8_192
SECONDS, TOKENS = 60.0, 100_000.0  # of a recipe that recommends no budget
MAX_SOURCE_BYTES = 200 << 20
MAX_SOURCE_FILES = 20_000
MAX_LINES = 400
GIT_S = 30.0
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Heard(Reporter):
    """What the run said: its log, its points and how far it is. It sends nothing."""

    tick: Callable[[int | None], None]  # told the step whenever something was heard
    lines: list[LogLine] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    @property
    def stop(self) -> Stop | None:
        return None

    def enter(self, phase: Phase) -> None:
        self.tick(None)

    def point(self, point: Point) -> None:
        if len(self.points) < MAX_LINES:
            self.points.append(point)
        self.tick(point.step)

    def log(self, line: LogLine) -> None:
        self.lines = [*self.lines[-MAX_LINES:], line]
        self.tick(None)

    def progress(self, progress: Progress) -> None:
        self.tick(progress.step)

    def started(self, facts: dict[str, Any]) -> None:
        self.tick(None)


def this_machine(home: Path, environment: str) -> Machine:
    """This machine, with the one environment that the recipe names. Raises ValueError as the worker would."""
    known = declared(os.environ.get(VARIABLE) or "") if environment else {}
    return Machine(
        runs=home / "checks",
        datasets=home / "datasets",
        hardware_class=hardware.hardware_class(),
        sandbox_level=sandbox.probe(),
        lock_sha256=hardware.lock_sha256(),
        environments=known,
    )


def budget_of(recipe: Recipe) -> Budget:
    """What the recipe recommends, of the kind that its trainer can be told."""
    command = recipe.command
    by_tokens = command is None or "tokens" in command.named
    if by_tokens and command is not None and command.ends == "itself":
        return Budget(kind="tokens", amount=float(recipe.budget_tokens or TOKENS))
    if command is None and recipe.budget_seconds is None:
        return Budget(kind="tokens", amount=float(recipe.budget_tokens or TOKENS))
    return Budget(kind="seconds", amount=recipe.budget_seconds or SECONDS)


def spec_of(recipe: Recipe, machine: Machine, dataset: Path, *, seed: int, within_s: float) -> RunSpec:
    """A smoke run of the recipe as it is, which nobody countersigned."""
    named = recipe.command.environment if recipe.command else ""
    environment: Environment | None = machine.environments.get(named)
    approval = Approval(
        base_commit="0" * 40,
        patch="",
        overrides={},
        budget=budget_of(recipe),
        seeds=SeedPolicy(min_pairs=1, max_pairs=1, alpha=0.05, min_effect_bpb=0.001),
        dataset_sha256=manifest_sha256(dataset),
        scorer_version=contract.SCORER_VERSION,
        lock_sha256=machine.lock_sha256,
        sandbox_level=machine.sandbox_level,
        gate_version=contract.GATE_VERSION,
        environment_sha256=asked(named, environment.python).sha256 if environment else "",
    )
    return RunSpec(
        run_id=os.getpid(),
        fence=seed,
        attempt=1,
        next_seq=1,
        purpose="smoke",
        title="a check of the recipe",
        seed=seed,
        approval=approval,
        digest=approval.digest(),
        dataset=dataset.name,
        max_steps=STEPS,
        score_tokens=SCORE_TOKENS,
        deadline_s=within_s,
    )


@contextmanager
def launched(
    machine: Machine, spec: RunSpec, recipe: Path, tick: Callable[[int | None], None], is_leaving: Callable[[], bool]
) -> Iterator[tuple[Launch, Heard]]:
    """A launch with the recipe's files in place. Its folder is gone at the end, however that comes."""
    with folders.run_folder(machine.runs, spec, num_kept=0) as folder:
        copy_source(recipe, folder / "source")
        heard = Heard(tick)
        line = RunLine(NOWHERE, Lease(spec=spec, token=""))
        yield Launch(spec=spec, machine=machine, line=line, reporter=heard, folder=folder, is_leaving=is_leaving), heard


# --- the source -----------------------------------------------------------------------------


def copy_source(recipe: Path, to: Path) -> None:
    """Copy what a commit of this folder would hold. Raises ValueError where that is more than a campaign takes."""
    num_bytes = num_files = 0
    for name in _files_of(recipe):
        path = recipe / name
        if path.is_symlink() or not path.is_file():
            continue  # a campaign takes no links
        num_bytes, num_files = num_bytes + path.stat().st_size, num_files + 1
        if num_bytes > MAX_SOURCE_BYTES or num_files > MAX_SOURCE_FILES:
            raise ValueError(
                f"PATH: {recipe} holds more than {MAX_SOURCE_BYTES >> 20} MiB or {MAX_SOURCE_FILES:,} files that git"
                " does not ignore; name data and checkpoints in .gitignore"
            )
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to / name)
        (to / name).chmod(0o700 if os.access(path, os.X_OK) else 0o600)


def _files_of(recipe: Path) -> list[str]:
    """What git tracks or would add; in a folder that is no repository, every file."""
    listed = subprocess.run(
        ["git", *GIT_OPTIONS, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=recipe,
        env=GIT_ENVIRONMENT | {"HOME": "/nonexistent", "GIT_CEILING_DIRECTORIES": str(recipe.resolve().parent)},
        capture_output=True,
        timeout=GIT_S,
    )
    names = {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
    if listed.returncode != 0:
        found = (Path(folder, file) for folder, _, files in os.walk(recipe) for file in files)
        names = {path.relative_to(recipe).as_posix() for path in found}
    inside = {name for name in names if not name.startswith(".git/") and "__pycache__" not in name}
    return sorted(inside | {"recipe.toml"})
