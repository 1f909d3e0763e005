"""How training can end badly, as a tree; each branch is one FailureKind of the contract.

RunFailed
 ├─ BadOverride      bad_override      knobs out of bounds, or that do not fit each other
 ├─ DatasetMissing   dataset_missing   no shards, or other ones than were approved
 ├─ NotFinite        not_finite        the loss became NaN or infinite
 ├─ OutOfMemory      out_of_memory     the device or the machine had no more
 ├─ RecipeError      recipe_error      the proposed code raised, or broke the rules of Run
 └─ SpecError        worker_error      spec.json is wrong: our bug, not the proposal's
"""

from __future__ import annotations

import traceback
from pathlib import Path

from gpu_runner.contract import Failure, FailureKind

TRACEBACK_LINES = 12


class RunFailed(Exception):
    """Ends the run; ``str()`` is the sentence that a person reads."""

    kind: FailureKind
    todo = ""


class BadOverride(RunFailed):
    kind: FailureKind = "bad_override"
    todo = "Choose values inside the bounds that recipe.toml declares."


class DatasetMissing(RunFailed):
    kind: FailureKind = "dataset_missing"
    todo = "On the GPU machine run `python -m gpu_runner data prepare`, then `data verify`."


class NotFinite(RunFailed):
    kind: FailureKind = "not_finite"
    todo = "Lower the learning rate that the change raised, or add warm-up."


class OutOfMemory(RunFailed):
    kind: FailureKind = "out_of_memory"
    todo = "Lower batch_size, seq_len, width or depth."


class RecipeError(RunFailed):
    kind: FailureKind = "recipe_error"
    todo = "Correct the code at the last line of the traceback."


class SpecError(RunFailed):
    kind: FailureKind = "worker_error"
    todo = "Worker and harness are of different versions; update the worker."


def from_exception(error: BaseException, source: Path) -> RunFailed:
    """What an exception that came out of the recipe means."""
    if isinstance(error, RunFailed):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(_last_line(error))
    if isinstance(error, SystemExit):
        return RecipeError("train.py ended the process itself; it must return from train(run)")
    return RecipeError(_traceback(error, source))


def is_out_of_memory(error: BaseException) -> bool:
    """torch says it in three ways: its own class on CUDA, a RuntimeError on the CPU, MemoryError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def wire(failure: RunFailed) -> dict[str, str]:
    """The ``failure`` field of the last line, within the contract's lengths."""
    return Failure(kind=failure.kind, message=str(failure)[-4_000:], todo=failure.todo).model_dump()


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _traceback(error: BaseException, source: Path) -> str:
    """The last lines, from the first line of the recipe on: the harness's own frames say nothing."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if Path(frame.filename).is_relative_to(source)), 0)
    lines = "".join(traceback.format_list(frames[first:])).replace(f"{source}/", "").splitlines()
    return "\n".join([*lines[-TRACEBACK_LINES:], _last_line(error)])
