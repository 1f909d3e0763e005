"""``recipe check``: five steps in the sandbox, with the worker's own code; a line about each thing that must hold."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpu_runner.adopt.opened import Opened
from gpu_runner.adopt.tree import Tree
from gpu_runner.adopt.values import comment
from gpu_runner.adopt.walls import STEPS, Heard, launched, spec_of
from gpu_runner.command.layout import laid_out
from gpu_runner.command.reading import Reading
from gpu_runner.command.safely import opened
from gpu_runner.contract import Failure, Recipe, Score, SelfReported, parse_recipe
from gpu_runner.process.child import Child
from gpu_runner.worker import adopting, foreign, launch
from gpu_runner.worker.endings import Cancelled, EarlyEnd, GivenBack, RunFailure
from gpu_runner.worker.parts import Launch, Machine
from gpu_runner.worker.preparing import SMOKE_S, prepared
from gpu_runner.worker.scoring import score

MAX_RECIPE_BYTES = 1 << 20
SEEDS = (1, 2)
NUM_LAST_WORDS = 8
MAX_LISTED, MAX_DEPTH = 1_000, 8
# Which line a failure belongs to; of every other kind it is the trainer that did not come through.
ABOUT = {"no_metric": "metric", "not_finite": "metric", "no_checkpoint": "model", "scorer_failed": "model",
         "dataset_missing": "data"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing that must hold. ``ok`` None: it is not known, or need not be."""

    name: str
    ok: bool | None
    found: str
    todo: str = ""


Tell = Callable[[Line], None]


@dataclass
class Seen:
    """What one run showed."""

    failure: Failure | None = None
    said: SelfReported | None = None
    score: Score | None = None
    opened: list[str] | None = None  # None: not known
    written: dict[str, int] = field(default_factory=dict)  # path -> bytes, in {out} and beside its source
    first_line_s: float | None = None
    train_s: float | None = None
    memory_mib: float | None = None
    num_records: int = 0
    points: list[tuple[int, tuple[tuple[str, float | None], ...]]] = field(default_factory=list)
    last_words: list[str] = field(default_factory=list)


class Stopped(Exception):
    """A person stopped the check."""


# --- before anything is started -------------------------------------------------------------


def read_recipe(folder: Path) -> Recipe:
    """The parsed recipe.toml. Raises ValueError that names file, line, key and the way out."""
    if not folder.is_dir():
        raise ValueError(f"PATH: {folder} is no folder; give that of the recipe, such as ./nanoGPT")
    if (fd := opened(folder, "recipe.toml")) is None:
        raise ValueError(f"PATH: {folder} holds no recipe.toml; `recipe new {folder}` writes a first one")
    with open(fd, "rb") as file:
        body = file.read(MAX_RECIPE_BYTES + 1)
    if len(body) > MAX_RECIPE_BYTES:
        raise ValueError(f"recipe.toml: larger than {MAX_RECIPE_BYTES >> 20} MiB; a recipe is a page of text")
    try:
        return parse_recipe(body.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"recipe.toml: is not UTF-8 ({error}); save it as such") from error


def of_its_files(recipe: Recipe, folder: Path) -> Iterator[Line]:
    """Whether the files that it names are there, and somebody reads the variables that tell seed and data."""
    named = dict.fromkeys((*recipe.editable, *recipe.shown))
    scripts = [word for word in (recipe.command.run if recipe.command else ("train.py",)) if word.endswith(".py")]
    missing = [path for path in (*named, *scripts) if "{" not in path and not (folder / path).is_file()]
    if missing:
        yield Line(name="files", ok=False, found=f"{missing[0]} is no file of {folder.name}",
                   todo="Mend editable, shown or run in recipe.toml: paths begin at its folder.")  # fmt: skip
    else:
        yield Line(name="files", ok=True, found=f"{len(named)} named, {len(recipe.editable)} may be edited")
    for variable, text in (recipe.command.env if recipe.command else {}).items():
        if text in ("{seed}", "{data}") and not _is_read(folder, variable):
            yield Line(name=text.strip("{}"), ok=False, found=f"no Python file here reads the variable {variable}",
                       todo=f"Let it read os.environ[{variable!r}], or tell it {text} by an option.")  # fmt: skip


def _is_read(folder: Path, variable: str) -> bool:
    tree = Tree.read(folder)
    return any(variable in tree.text(path) for path in tree.ending(".py")[:MAX_LISTED])


# --- one run --------------------------------------------------------------------------------


class Watched(foreign.Trainer):
    """A trainer that goes on after its first number, to its own end, so that its output folder can be looked at."""

    heard_by: Reading | None = None
    look: Callable[[], None] = staticmethod(lambda: None)

    def _is_over(self, child: Child, reading: Reading | None) -> bool:
        self.heard_by = reading
        self.look()
        has_number = reading is not None and reading.value is not None
        limit_s = SMOKE_S if "steps" not in self.ready.command.named else self.launch.spec.deadline_s - 1.0
        return self._now_s() > limit_s and (has_number or limit_s == SMOKE_S)


def run(
    recipe: Recipe,
    folder: Path,
    dataset: Path,
    machine: Machine,
    *,
    seed: int,
    within_s: float,
    tick: Callable[[int | None], None],
    is_leaving: Callable[[], bool],
) -> Seen:
    """Train five steps. Raises Stopped when a person stops it, ValueError where nothing could be started."""
    spec, seen = spec_of(recipe, machine, dataset, seed=seed, within_s=within_s), Seen()
    with launched(machine, spec, folder, tick, is_leaving) as (it, heard):
        before = _listed(it.folder / "source")
        try:
            if recipe.kind == "harness":
                launch.train(it, it.folder / "source", dataset)
                seen.score = score(it, it.folder / "source", dataset)
            else:
                _foreign(it, recipe, dataset, seen)
        except RunFailure as early:
            seen.failure = early.failure
        except (Cancelled, GivenBack) as early:
            raise Stopped from early
        except EarlyEnd as early:
            seen.failure = Failure(kind="worker_error", message=str(early) or type(early).__name__)
        _look_back(seen, it, heard, before, is_foreign=recipe.kind == "command")
    return seen


def _foreign(it: Launch, recipe: Recipe, dataset: Path, seen: Seen) -> None:
    ready = prepared(it, it.folder / "source", recipe, dataset)
    trainer = Watched(launch=it, ready=ready)
    with Opened(ready.shown[0]) as watch:
        trainer.look = watch.look
        try:
            seen.said = trainer.train()
        finally:
            watch.look()
            seen.opened = watch.names
            seen.num_records = trainer.heard_by.num_records if trainer.heard_by else 0
    if recipe.model is not None:
        adopting.adopt(it, recipe.model, ready.values, dataset)
        seen.score = score(it, it.folder / "source", dataset)


def _look_back(seen: Seen, it: Launch, heard: Heard, before: dict[str, int], *, is_foreign: bool) -> None:
    tally = it.tally
    seen.train_s, seen.memory_mib = tally.train_s, tally.peak_memory_mib
    if tally.ended is not None:
        seen.train_s, seen.memory_mib = tally.ended.train_s, tally.ended.peak_memory_mib
    seen.first_line_s = heard.lines[0].at_s if heard.lines else None
    seen.points = [(point.step, tuple(sorted(point.metrics.items()))) for point in heard.points]
    seen.last_words = [comment(line.text, 200) for line in heard.lines[-NUM_LAST_WORDS:]]
    beside = {name: size for name, size in _listed(it.out / "source").items() if name not in before}
    inside = _listed(it.out / ("out" if is_foreign else "checkpoint"))  # the harness writes its checkpoint there itself
    seen.written = {f"{{out}}/{name}": size for name, size in inside.items()} | beside


def _listed(folder: Path) -> dict[str, int]:
    """Regular files below a folder, with their sizes: what hostile code left, so no link is followed, nothing is deep.

    Caches of Python are left out.
    """
    found: dict[str, int] = {}
    within = [""] if folder.is_dir() else []
    while within and len(found) < MAX_LISTED:
        here = within.pop()
        try:
            with os.scandir(folder / here) as entries:
                inside = list(itertools.islice(entries, MAX_LISTED))
        except OSError:  # closed to us, or gone
            continue
        for entry in inside:
            name = f"{here}{entry.name}"
            if entry.is_file(follow_symlinks=False):
                found[name] = entry.stat(follow_symlinks=False).st_size
            elif entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__" and name.count("/") < MAX_DEPTH:
                within.append(f"{name}/")
    return found


# --- what it showed -------------------------------------------------------------------------


def lines_of(seen: Seen, recipe: Recipe, dataset: Path, home: Path) -> Iterator[Line]:
    """A line about each thing, in the order in which a trainer comes to it."""
    failure = seen.failure
    about = ABOUT.get(failure.kind, "starts") if failure else ""
    yield _of_its_start(seen, about)
    yield _of_its_data(seen, recipe, dataset, home, about)
    yield _of_its_metric(seen, recipe, about)
    yield _of_its_output(seen, recipe)
    if recipe.model is not None or recipe.kind == "harness":
        yield _of_its_model(seen, about)
    if seen.memory_mib is not None:
        yield Line(name="memory", ok=True, found=f"{seen.memory_mib:,.0f} MiB at most")
    if seen.train_s is not None:
        start = ", its start among them" if recipe.kind == "command" else ""
        yield Line(name="seconds", ok=True, found=f"{seen.train_s:.1f} s for {STEPS} steps{start}")


def _of_its_start(seen: Seen, about: str) -> Line:
    failure = seen.failure
    if failure is not None and about == "starts":
        first, *more = [line.strip() for line in failure.message.splitlines() if line.strip()] or ["no word"]
        said = comment(f"{first} {more[-1] if more else ''}", 400)
        return Line(name="starts", ok=False, found=said, todo=failure.todo or _way_out(failure.message))
    at = "" if seen.first_line_s is None else f"; its first line came after {seen.first_line_s:.1f} s"
    return Line(name="starts", ok=True, found=f"the entry ran{at}")


def _way_out(message: str) -> str:
    """For what most often keeps somebody else's trainer from starting."""
    if found := re.search(r"No module named '([\w.]+)'", message):
        return f"Install {found[1]} where it trains, and declare that interpreter: COUNTERSIGN_ENVIRONMENTS=NAME=PATH."
    if re.search(r"CUDA|NVIDIA|nvcc|cuda", message):
        return "It wants a GPU: check it on a machine that has one, or let run in [command] choose another device."
    if re.search(r"unrecognized arguments|Unknown config key|no such option", message):
        return "Mend run or the name of the knob in recipe.toml: the trainer does not know that option."
    if re.search(r"Errno -[23]|resolve host|ConnectionError|Max retries|Temporary failure in name", message):
        return "It wants the network, which no run has: give it the data that {data} names."
    if found := re.search(r"No such file or directory: '([^']{1,120})'", message):
        return f"It looks for {found[1]}: name its folder by {{data}}, or set data_at or layout in [command]."
    return "Start the same command by hand in its folder; what it says is above."


def _of_its_data(seen: Seen, recipe: Recipe, dataset: Path, home: Path, about: str) -> Line:
    if recipe.command is None:
        return Line(name="data", ok=None if seen.failure else True, found="handed out by the harness, batch by batch")
    if about == "data" and seen.failure is not None:
        return Line(name="data", ok=False, found=comment(seen.failure.message, 300), todo=seen.failure.todo)
    layout = recipe.command.layout
    there = ", ".join(sorted(_listed(laid_out(dataset, layout, recipe.command.data_prefix, home / "layouts")))[:4])
    if seen.opened is None:
        return Line(name="data", ok=None, found=f"{there} lay there; what was opened is not known here")
    if seen.opened:
        return Line(name="data", ok=True, found=f"opened: {', '.join(seen.opened[:4])} (layout {layout})")
    if about == "starts":
        return Line(name="data", ok=None, found=f"nothing of {there} was opened before it failed (layout {layout})")
    todo = "Name {data} in run or env, or set data_at to where it looks, and layout to what it reads."
    return Line(name="data", ok=False, found=f"nothing of {there} was opened (layout {layout})", todo=todo)


def _of_its_metric(seen: Seen, recipe: Recipe, about: str) -> Line:
    metrics, said = recipe.metrics, seen.said
    if metrics is None:
        return Line(name="metric", ok=True, found="none is read: the scorer measures")
    if said is not None and said.value is not None:
        steps = [step for step, values in seen.points if metrics.metric in dict(values)]
        at = f" at step {steps[-1]}" if steps else ""
        found = f"{metrics.metric} = {said.value:.6g} {metrics.unit}".rstrip()
        return Line(name="metric", ok=True, found=f"{found}{at}, said {said.num_values} time(s)")
    if about == "metric" and seen.failure is not None:
        return Line(name="metric", ok=False, found=comment(seen.failure.message, 300), todo=_shown_instead(seen))
    if about == "starts":
        return Line(name="metric", ok=None, found="it did not come so far")
    found = f"{metrics.reads} was not said within five steps; {seen.num_records} other record(s) were read"
    todo = f"Let it evaluate early, as by --eval_interval in run. {_shown_instead(seen)}"
    return Line(name="metric", ok=None if metrics.reader == "block" else False, found=found, todo=todo)


def _shown_instead(seen: Seen) -> str:
    like = [line for line in seen.last_words if re.search(r"loss|bpb|val|ppl", line, re.I) and re.search(r"\d", line)]
    shown = (like or seen.last_words)[-1:]
    return f"Mend reader, key or pattern in [metrics]. It printed: {shown[0]!r}" if shown else "It printed nothing."


def _of_its_output(seen: Seen, recipe: Recipe) -> Line:
    inside = [name for name in seen.written if name.startswith("{out}/")]
    size = sum(seen.written.values()) / (1 << 20)
    first = [*inside, *(name for name in seen.written if name not in inside)][:3]
    named = f"{', '.join(comment(name, 80) for name in first)} ({size:,.1f} MiB in all)"
    if inside:
        return Line(name="output", ok=True, found=f"{named}")
    if seen.written:
        return Line(name="output", ok=None, found=f"beside its source: {named}; it goes with the run",
                    todo="Name {out} in run, if its files are to be where others look for them.")  # fmt: skip
    is_named = recipe.command is not None and "out" in recipe.command.named
    found = "nothing was written in five steps" + (", though {out} is told" if is_named else "")
    return Line(name="output", ok=None, found=found)


def _of_its_model(seen: Seen, about: str) -> Line:
    if seen.score is not None and seen.score.val_bpb is not None:
        return Line(name="model", ok=True, found=f"opened by the scorer: val_bpb {seen.score.val_bpb:.4f}")
    if about == "model" and seen.failure is not None:
        return Line(name="model", ok=False, found=comment(seen.failure.message, 400), todo=seen.failure.todo)
    if seen.score is not None:
        said = comment("; ".join(seen.score.reasons), 400)
        return Line(name="model", ok=False, found=f"{seen.score.outcome}: {said}", todo="See what is said of it.")
    return Line(name="model", ok=None, found="it did not come so far")


def of_its_seed(recipe: Recipe, first: Seen, second: Seen | None) -> Line:
    """Whether another seed gives other numbers; without a second run, whether it is told one at all."""
    if recipe.command is not None and "seed" not in recipe.command.named:
        return Line(name="seed", ok=False, found="it is told no {seed}: all runs of a pair are one",
                    todo="Name {seed} in run or env, and let the trainer read it.")  # fmt: skip
    if second is None:
        return Line(name="seed", ok=None, found="told; `--seeds` trains a second time to see whether it is heard")
    one, other = (_numbers(seen, recipe) for seen in (first, second))
    if not one or second.failure is not None:
        return Line(name="seed", ok=None, found="not known: one of the two runs said no number")
    if one == other:
        return Line(name="seed", ok=False, found=f"seeds {SEEDS[0]} and {SEEDS[1]} gave the same numbers",
                    todo="Let the trainer set its seed from {seed}: pairs tell nothing otherwise.")  # fmt: skip
    return Line(name="seed", ok=True, found=f"heard: seeds {SEEDS[0]} and {SEEDS[1]} gave other numbers")


def _numbers(seen: Seen, recipe: Recipe) -> list[tuple[int, str, float | None]]:
    """The losses of a run; times and speeds differ between any two."""
    wanted = ("train_loss", "loss", "watch_bpb", *([recipe.metrics.metric] if recipe.metrics else []))
    return [(step, name, value) for step, metrics in seen.points for name, value in metrics if name in wanted]
