"""Prepares what a foreign trainer finds when it starts: its own copy of the source, its data, its command line.

It works in a copy of the approved source, ``out/source``, since trainers write beside their source (logs, checkpoints,
caches), and our config file or constants are written there. The supervisor's copy stays as it was approved: the scorer
reads that one. The dataset is shown read-only, without held-out text.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.command import overrides, words
from gpu_runner.command.environments import Environment, asked
from gpu_runner.command.layout import laid_out
from gpu_runner.contract import Command, Knobs, Recipe
from gpu_runner.worker.endings import RunFailure
from gpu_runner.worker.parts import Launch

SMOKE_S = 60.0  # of a smoke run whose recipe tells its trainer no {steps}
CHANGE_DIRECTORY = ("sh", "-c", 'cd "$1" || exit 121; shift; exec "$@"', "sh")
# Ours guard the harness: a foreign trainer imports what lies beside its script, and nothing of ours.
NOT_OURS = ("env", "-u", "PYTHONPATH", "-u", "PYTHONSAFEPATH")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A trainer that is ready to be started by ``starts`` in a sandbox that shows it ``shown``."""

    about: Recipe
    command: Command
    values: Knobs
    told: words.Told
    starts: list[str]
    shown: tuple[Path, ...]


def _values(launch: Launch, about: Recipe) -> Knobs:
    try:
        return about.effective(launch.spec.approval.overrides)
    except ValueError as error:
        raise RunFailure("bad_override", str(error), "Choose values inside the bounds of recipe.toml.") from error


def prepared(launch: Launch, recipe: Path, about: Recipe, dataset: Path) -> Prepared:
    """Everything that the trainer finds when it starts. Raises RunFailure, OSError."""
    command, approval = about.command, launch.spec.approval
    assert command is not None
    values = _values(launch, about)
    if (problem := command.problem_with_budget(approval.budget.kind)) is not None:
        raise RunFailure("worker_error", problem, "Give the campaign such a run budget, or mend recipe.toml.")
    environment = _environment(launch, command.environment)
    try:
        data = laid_out(dataset, command.layout, command.data_prefix, launch.machine.runs.parent / "layouts")
    except ValueError as error:
        raise RunFailure("dataset_missing", str(error), "Set layout in [command], or take another dataset.") from error
    source = launch.out / "source"
    (launch.out / "out").mkdir(parents=True, mode=0o700)
    shutil.copytree(recipe, source)
    told = _told(launch, command, environment, data)
    try:
        _place_data(command, source, data)
        overrides.write(command.overrides, words.travelling(command, about.knobs), values, source)
        line = words.command_line(command, about.knobs, values, told)
        variables = words.variables(command, about.knobs, values, told)
    except ValueError as error:
        todo = "Mend recipe.toml, or leave in its place what it names."
        raise RunFailure("bad_override", str(error), todo) from error
    path = _path(environment)
    starts = [*CHANGE_DIRECTORY, str(source), *NOT_OURS, *(f"{k}={v}" for k, v in (path | variables).items()), *line]
    shown = (data, *(environment.shown if environment else ()))
    return Prepared(about=about, command=command, values=values, told=told, starts=starts, shown=shown)


def _told(launch: Launch, command: Command, environment: Environment | None, data: Path) -> words.Told:
    spec, budget = launch.spec, launch.spec.approval.budget
    is_smoke = spec.max_steps is not None
    seconds = budget.amount if budget.kind == "seconds" else spec.deadline_s
    return words.Told(
        python=str(environment.python) if environment else sys.executable,
        seed=spec.seed,
        seconds=min(seconds, SMOKE_S) if is_smoke else seconds,
        tokens=int(budget.amount) if budget.kind == "tokens" else None,
        steps=spec.max_steps if is_smoke else command.steps,
        data=str(data),
        out=str(launch.out / "out"),
    )


def _environment(launch: Launch, name: str) -> Environment | None:
    """The environment that the recipe names, as it was countersigned. RunFailure where this worker has not it."""
    approved = launch.spec.approval.environment_sha256
    if not name:
        return None
    found = launch.machine.environments.get(name)
    if found is None:
        known = ", ".join(sorted(launch.machine.environments)) or "none"
        raise RunFailure(
            "worker_error",
            f"The recipe trains in the environment {name!r}, which this worker has not; it has {known}.",
            "Declare it there: COUNTERSIGN_ENVIRONMENTS=NAME=/path/to/bin/python. Nothing is installed by a run.",
        )
    try:
        found = asked(name, found.python)  # somebody may have installed something since this worker started
    except ValueError as error:
        raise RunFailure("worker_error", str(error), "Mend that environment, and start the worker anew.") from error
    if found.sha256 != approved:
        raise RunFailure(
            "digest_mismatch",
            f"Approved were the packages {approved[:12] or '(none)'} of {name}, here are {found.sha256[:12]}.",
            "Install the same packages there, or review the proposal again.",
        )
    return found


def _path(environment: Environment | None) -> dict[str, str]:
    if environment is None:
        return {}
    return {"PATH": os.pathsep.join((str(environment.python.parent), "/usr/local/bin", "/usr/bin", "/bin"))}


def _place_data(command: Command, source: Path, data: Path) -> None:
    """Make a link to the data in the trainer's own copy. Raises ValueError where something else is there."""
    if command.data_at is None:
        return
    place = source / command.data_at
    if place.exists():
        raise ValueError(
            f"recipe.toml: data_at in [command]: the source has {command.data_at} already; name a folder of its own"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(data)
