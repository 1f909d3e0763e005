"""The command line ``python -m gpu_runner recipe``: new and check."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_runner.adopt.draft import Draft, draft
from gpu_runner.adopt.tree import Tree
from gpu_runner.contract import Recipe
from gpu_runner.contract.closest import closest
from gpu_runner.contract.plain import plain
from gpu_runner.data.find import DEFAULT_DATASET, default_root, find_dataset

if TYPE_CHECKING:  # what trains is not needed to read
    from gpu_runner.adopt.check import Line, Seen
    from gpu_runner.worker.parts import Machine

WITHIN_S = 300.0
MAX_SOURCES = 60
STOPPED = 128 + signal.SIGINT
MARKS = {True: "ok     ", False: "missing", None: "       "}
COLOURS = {True: "32", False: "31", None: "2"}


def add_recipe_commands(commands: Any) -> None:
    """The command ``recipe`` with its two acts."""
    acts = commands.add_parser("recipe", help="write a first recipe.toml, or try one").add_subparsers(
        dest="act", required=True
    )
    new = acts.add_parser("new", help="read a repository and write a first recipe.toml; runs nothing of it")
    new.add_argument("path", type=Path, metavar="PATH", help="the repository's folder")
    new.add_argument("--entry", metavar="FILE", help="the file that is started; default: the likeliest")
    new.add_argument("--dry-run", action="store_true", help="print recipe.toml and write nothing")
    new.add_argument("--force", action="store_true", help="replace a recipe.toml that is there")
    new.set_defaults(run=recipe_new)
    check = acts.add_parser("check", help="train five steps in the sandbox and say what is missing")
    check.add_argument("path", type=Path, metavar="PATH", help="the folder that holds recipe.toml")
    check.add_argument("--dataset", default=DEFAULT_DATASET, metavar="NAME", help="default: %(default)s")
    check.add_argument("--environment", metavar="NAME", help="a declared one, instead of the recipe's")
    check.add_argument("--seeds", action="store_true", help="train twice, to see whether the seed is heard")
    check.add_argument("--within", type=float, default=WITHIN_S, metavar="S", help="seconds; default: %(default)g")
    check.add_argument("--root", type=Path, default=default_root(), help="of datasets; default: %(default)s")
    check.add_argument("--json", action="store_true", help="one JSON object on stdout")
    check.set_defaults(run=recipe_check)


# --- new ------------------------------------------------------------------------------------


def recipe_new(chosen: argparse.Namespace) -> int:
    """Raises ValueError or OSError in one sentence; then nothing was written."""
    target = chosen.path / "recipe.toml"
    if not chosen.dry_run and not chosen.force and os.path.lexists(target):
        raise ValueError(f"PATH: {target} is there already; --force replaces it, --dry-run only prints a new one")
    made = draft(Tree.read(chosen.path), chosen.entry)
    if chosen.dry_run:
        print(made.text, end="")
        tell(made, sys.stderr)
        return 0
    _write(target, made.text)
    tell(made, sys.stdout)
    print(f"\nWrote {target}. Next: mend what is marked, then `manage.py recipe check {chosen.path}`.")
    return 0


def _write(target: Path, text: str) -> None:
    """Whole or not at all; a link in its place is replaced, not followed."""
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=".recipe-", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.chmod(file.name, 0o644)
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def tell(made: Draft, to: Any) -> None:
    """Say what was found, where each came from, and what is not sure."""
    first, *others = made.entries
    print(f"Entry: {first.path} ({', '.join(first.why) or 'as you named it'})", file=to)
    if others:
        print(f"  others: {', '.join(entry.path for entry in others)}", file=to)
    print(f"Knobs: {len(made.recipe.knobs)}", file=to)
    width = max((len(source.what) for source in made.sources), default=0)
    for source in made.sources[:MAX_SOURCES]:
        print(f"  {source.what:<{width}}  {source.path}:{source.line}  {source.text}", file=to)
    for sentence in made.left_out:
        print(f"  {sentence}", file=to)
    print("Not sure of:" if made.doubts else "Sure of all of it.", file=to)
    for about, sentence in made.doubts:
        print(f"  {about}: {sentence}", file=to)


# --- check ----------------------------------------------------------------------------------


def recipe_check(chosen: argparse.Namespace) -> int:
    """Returns 0 where all is well, 1 where something is missing, 130 where a person stopped it."""
    from gpu_runner.adopt.check import Stopped

    told: list[Line] = []

    def say(line: Line) -> None:
        told.append(line)
        if not chosen.json:
            _print(line)

    try:
        _check(chosen, say)
    except Stopped:
        print("recipe: stopped; nothing is left behind", file=sys.stderr)
        return STOPPED
    is_well = all(line.ok is not False for line in told)
    if chosen.json:
        print(json.dumps({"ok": is_well, "lines": [asdict(line) for line in told]}, indent=2))
    return 0 if is_well else 1


def _check(chosen: argparse.Namespace, say: Callable[[Line], None]) -> None:
    """Say a line about each thing that must hold. Raises Stopped, OSError."""
    from gpu_runner.adopt import check, walls

    try:
        recipe = check.read_recipe(chosen.path)
    except ValueError as error:
        return say(check.Line(name="recipe", ok=False, found=str(error)))
    if chosen.environment is not None and recipe.command is not None:
        recipe = replace_environment(recipe, chosen.environment)
    kind = f"kind {recipe.kind}, {len(recipe.knobs)} knobs"
    say(check.Line(name="recipe", ok=True, found=f"{recipe.name or chosen.path.name}: {kind}"))
    of_files = list(check.of_its_files(recipe, chosen.path))
    for line in of_files:
        say(line)
    if any(line.name == "files" and not line.ok for line in of_files):
        return None
    home = Path(os.environ.get("COUNTERSIGN_HOME") or ".countersign").absolute()
    try:
        machine = walls.this_machine(home, recipe.command.environment if recipe.command else "")
        _refuse_environment(recipe, machine)
        dataset = find_dataset(chosen.dataset, Path(), chosen.root)
    except ValueError as error:
        return say(check.Line(name="machine", ok=False, found=str(error)))
    say(check.Line(name="machine", ok=True, found=f"sandbox {machine.sandbox_level}, dataset {dataset.name}"))
    try:
        seen = _trained(chosen, recipe, dataset, machine)
    except ValueError as error:
        return say(check.Line(name="source", ok=False, found=str(error)))
    for line in check.lines_of(seen[0], recipe, dataset, home):
        say(line)
    if not any(line.name == "seed" for line in of_files):
        say(check.of_its_seed(recipe, seen[0], seen[1] if len(seen) > 1 else None))
    if seen[0].failure is not None and not chosen.json:
        print("Its last words:", *(f"  {line}" for line in seen[0].last_words), sep="\n", file=sys.stderr)
    return None


def _trained(chosen: argparse.Namespace, recipe: Recipe, dataset: Path, machine: Machine) -> list[Seen]:
    """What one run showed, or two under two seeds. Raises Stopped, ValueError."""
    from gpu_runner.adopt import check
    from gpu_runner.standalone.train import heard_signals

    with heard_signals() as orders, progress(quiet=chosen.json) as tick:
        return [
            check.run(
                recipe,
                chosen.path,
                dataset,
                machine,
                seed=seed,
                within_s=chosen.within,
                tick=tick,
                is_leaving=lambda: bool(orders),
            )
            for seed in (check.SEEDS if chosen.seeds else check.SEEDS[:1])
        ]


def replace_environment(recipe: Recipe, name: str) -> Recipe:
    assert recipe.command is not None
    return recipe.model_copy(update={"command": recipe.command.model_copy(update={"environment": name})})


def _refuse_environment(recipe: Recipe, machine: Machine) -> None:
    """Raises ValueError where the recipe's environment is not declared here."""
    name = recipe.command.environment if recipe.command else ""
    if name and name not in machine.environments:
        raise ValueError(
            f"environment: {name} is not declared on this machine; {closest(name, machine.environments)}."
            f" Declare it: COUNTERSIGN_ENVIRONMENTS={name}=/path/to/bin/python"
        )


def _print(line: Line) -> None:
    mark = MARKS[line.ok]
    if sys.stdout.isatty():
        mark = f"\x1b[{COLOURS[line.ok]}m{mark}\x1b[0m"
    print(f"{mark} {line.name:<8} {plain(line.found)}", flush=True)
    if line.todo:
        print(f"{'':16} {plain(line.todo)}", flush=True)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[int | None], None]]:
    """A bar of five steps on a terminal; nothing elsewhere, where the lines come soon enough."""
    if quiet or not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from gpu_runner.adopt.walls import STEPS

    columns = (TextColumn("{task.description:<20}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, began_at = bar.add_task("starting", total=STEPS), time.monotonic()

        def tick(step: int | None) -> None:
            if step is not None:
                said = f"step {step} of {STEPS}"
                bar.update(task, completed=min(step, STEPS), description=said)
            elif time.monotonic() - began_at > 1.0 and not bar.tasks[0].completed:
                bar.update(task, description="training")

        yield tick
