"""The folder of one run by hand. It appears whole or not at all, and only one process at a time may write to it.

    source/            a copy of the recipe as it was run
    spec.toml          the spec with every field written out; it can be trained again as it stands
    spec.json          the same for the harness
    points.jsonl       every measurement of the curve, one JSON object a line
    log.txt            every line that the run printed
    out/checkpoint/    weights and config, when it ended well
    out/snapshot-N/    where a stopped or killed run can be resumed
    ended.json         how it ended, and the numbers; a run without one is under way or was killed

Nothing in a finished run's folder is ever written again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from gpu_runner.standalone.plan import Plan
from gpu_runner.standalone.spec import TrainSpec, as_toml, load_spec

MAX_RECIPE_BYTES = 16 << 20  # a recipe is source code; more is somebody's whole home by mistake

State = Literal["absent", "foreign", "interrupted", "failed", "finished"]


@contextmanager
def run_folder(plan: Plan, *, resume: bool) -> Iterator[Path]:
    """The run's folder, new or ready to resume, locked until the end of the block.

    Raises ValueError, and changes nothing, when it is finished, another run's, in use, or interrupted without
    ``resume``.
    """
    if state_of(plan.folder) == "absent":
        with _new(plan) as folder:
            yield folder
    else:
        with _held(plan.folder):
            _refuse_unless_resumable(plan, resume)
            (plan.folder / "ended.json").unlink(missing_ok=True)
            write_whole(plan.folder / "spec.json", _harness_spec(plan, resume=True))
            yield plan.folder


def state_of(folder: Path) -> State:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return "absent"
    if not (folder / "spec.json").is_file() or not (folder / "spec.toml").is_file():
        return "foreign"
    if not (folder / "ended.json").exists():
        return "interrupted"
    outcome = json.loads((folder / "ended.json").read_bytes()).get("outcome")
    return {"ok": "finished", "failed": "failed"}.get(outcome, "interrupted")  # type: ignore[return-value]  # a dict of literals


def write_whole(path: Path, text: str) -> None:
    """Replace a file atomically: a reader sees the old or the new one, also after a crash."""
    scratch = path.with_name(f".{path.name}.partial")
    with open(scratch, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def recipe_files(recipe: Path) -> list[Path]:
    """A recipe's own files, as relative paths: without hidden files, caches, and run folders that lie inside."""
    found: list[Path] = []
    for here, folders, names in os.walk(recipe):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__pycache__" and not _is_run(Path(here, f))]
        found += [Path(here, name).relative_to(recipe) for name in names if not name.startswith(".")]
    return sorted(found)


# --- a new one ------------------------------------------------------------------------------


@contextmanager
def _new(plan: Plan) -> Iterator[Path]:
    """Make the folder under another name and rename it when it is whole; the lock moves with it."""
    plan.folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{plan.folder.name}-", dir=plan.folder.parent))
    try:
        scratch.chmod(0o755)
        with _held(scratch):
            _fill(scratch, plan)
            os.rename(scratch, plan.folder)
            yield plan.folder
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # gone already when it got its name


def _fill(folder: Path, plan: Plan) -> None:
    _copy_recipe(plan.recipe, folder / "source")
    (folder / "out").mkdir()
    write_whole(folder / "spec.toml", _kept_spec(plan))
    write_whole(folder / "spec.json", _harness_spec(plan, resume=False))
    for name in ("points.jsonl", "log.txt"):
        (folder / name).touch()


def _copy_recipe(recipe: Path, source: Path) -> None:
    files = recipe_files(recipe)
    if sum((recipe / file).stat().st_size for file in files) > MAX_RECIPE_BYTES:
        raise ValueError(
            f"recipe: {recipe} holds more than {MAX_RECIPE_BYTES >> 20} MiB; put recipe.toml and train.py in a folder"
            " of their own"
        )
    for file in files:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recipe / file, source / file)


def _kept_spec(plan: Plan) -> str:
    kept = plan.spec.model_copy(update={"recipe": "source", "dataset": str(plan.dataset)})
    about = f"# What was run, from {plan.name}.toml with recipe {plan.spec.recipe}, which is kept in source/.\n"
    return about + as_toml(kept)


def _harness_spec(plan: Plan, *, resume: bool) -> str:
    spec = plan.spec
    body: dict[str, Any] = {
        "run_id": 0,  # of the dashboard's record, where this run is not
        "seed": spec.seed,
        "budget": spec.budget.as_budget.model_dump(),
        "overrides": spec.overrides,
        "dataset_dir": str(plan.dataset / "train"),
        "dataset_sha256": plan.dataset_sha256,
        "threads": plan.threads,
        "device": spec.machine.device,
        "dtype": spec.machine.dtype,
        "compile": spec.machine.compile,
        "resume": resume,
        "snapshot_every_s": spec.machine.snapshot_every_s,
    }
    return json.dumps(body, indent=2, allow_nan=False) + "\n"


# --- one that stands ------------------------------------------------------------------------


def _refuse_unless_resumable(plan: Plan, resume: bool) -> None:
    folder, state = plan.folder, state_of(plan.folder)
    elsewhere = "name another folder with --out, another --seed, or remove it"
    if state == "foreign":
        raise ValueError(f"--out: {folder} holds something else than a run; name another folder")
    if state == "finished":
        raise ValueError(f"{folder} holds a finished run, which is never written over; {elsewhere}")
    if state == "failed" and not has_snapshot(folder):
        raise ValueError(f"{folder} holds a run that failed, with nothing to go on from; {elsewhere}")
    if not resume:
        what = "failed" if state == "failed" else "was interrupted"
        raise ValueError(f"{folder} holds a run that {what}; add --resume to go on with it, or {elsewhere}")
    if (field := _what_changed(plan, load_spec(folder / "spec.toml"))) is not None:
        as_begun = f"`python -m gpu_runner train {folder}/spec.toml --out {folder} --resume` goes on as it was begun"
        raise ValueError(f"{field}: is not what {folder} was begun with; {as_begun}; or {elsewhere}")


def has_snapshot(folder: Path) -> bool:
    return any((folder / "out").glob("snapshot-*"))


def _what_changed(plan: Plan, kept: TrainSpec) -> str | None:
    """The first changed field on which the result depends; None when the run may be resumed."""
    asked = plan.spec
    for key in sorted(asked.overrides.keys() | kept.overrides.keys()):
        if asked.overrides.get(key) != kept.overrides.get(key):
            return f"overrides.{key}"
    pairs = {
        "recipe": (_contents(plan.recipe), _contents(plan.folder / "source")),
        "dataset": (plan.dataset_sha256, json.loads((plan.folder / "spec.json").read_bytes())["dataset_sha256"]),
        "seed": (asked.seed, kept.seed),
        "budget": (asked.budget, kept.budget),
        "machine.processes": (asked.machine.processes, kept.machine.processes),
        "machine.dtype": (asked.machine.dtype, kept.machine.dtype),
    }
    return next((field for field, (now, then) in pairs.items() if now != then), None)


def _contents(recipe: Path) -> dict[Path, bytes]:
    return {file: (recipe / file).read_bytes() for file in recipe_files(recipe)}


def _is_run(folder: Path) -> bool:
    return (folder / "spec.toml").exists() and (folder / "source").is_dir()


@contextmanager
def _held(folder: Path) -> Iterator[IO[bytes]]:
    """Lock the folder in this block; the lock ends with the process, too. ValueError when another process has it."""
    if not folder.is_dir():
        raise ValueError(f"--out: {folder} is no folder; name another one")
    with open(folder / ".lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder} is being trained by another process; wait for it or name another") from error
        yield lock
