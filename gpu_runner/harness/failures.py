"""The exceptions that end a run, as a tree; each branch is one FailureKind of the contract.

RunFailed
 ├─ BadOverride      bad_override      knobs out of bounds, or that do not fit each other
 ├─ DatasetMissing   dataset_missing   no shards, or other ones than were approved
 ├─ NotFinite        not_finite        the loss became NaN or infinite
 ├─ OverBudget       over_budget       more text was asked for than was signed, or at another time
 ├─ OutOfMemory      out_of_memory     the device or the machine had no more
 ├─ OverLimit        over_limit        more open files, or more written, than the sandbox allows
 ├─ MachineFailed    machine_failed    the machine's disk, quota, descriptors or file system, not the recipe
 ├─ Killed           killed            the run, or a process that it had started, was killed from outside
 ├─ DeviceLost       device_lost       the GPU is gone, or its driver does not answer
 ├─ DeviceUnfit      machine_failed    torch and the GPU, or its driver, do not fit each other
 ├─ NoCompiler       no_compiler       compiling was asked for and cannot be done here
 ├─ SnapshotUnfit    snapshot_unfit    the snapshot to resume from is another run's
 ├─ Stopped          worker_stopped    told to stop, with a snapshot: nothing is wrong
 ├─ RecipeError      recipe_error      the proposed code raised, or broke the rules of Run
 └─ SpecError        worker_error      spec.json is wrong: our bug, not the proposal's
"""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from gpu_runner.contract import Failure, FailureKind
from gpu_runner.contract.plain import plain
from gpu_runner.machine.faults import Cause, cause_of, says_device_lost, says_device_unfit

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


class OverBudget(RunFailed):
    kind: FailureKind = "over_budget"
    todo = "Draw one batch a step, inside of run.steps, and none after it ends."


class OutOfMemory(RunFailed):
    kind: FailureKind = "out_of_memory"
    todo = "Lower batch_size, seq_len, width or depth."


class OverLimit(RunFailed):
    kind: FailureKind = "over_limit"
    todo = "Keep fewer files open, and write only a checkpoint: less than the sandbox allows (docs/sandbox.md)."


class MachineFailed(RunFailed):
    kind: FailureKind = "machine_failed"
    todo = "See to that on the GPU machine (`df`, `quota`, the kernel's log); then it trains again, as it is."


class Killed(RunFailed):
    kind: FailureKind = "killed"
    todo = "The kernel's log and whoever manages the GPU machine may know; then it trains again, as it is."


class DeviceLost(RunFailed):
    kind: FailureKind = "device_lost"
    todo = "Look at `nvidia-smi` and the kernel's log for Xid errors; reset the GPU, then run again."


class DeviceUnfit(RunFailed):
    kind: FailureKind = "machine_failed"
    todo = "Install a torch that was built for this GPU and its driver: `nvidia-smi` shows both."


class NoCompiler(RunFailed):
    kind: FailureKind = "no_compiler"
    todo = (
        'Install a C++ compiler (Debian: apt install g++), or ask for compile = "auto", which trains eager without one.'
    )


class SnapshotUnfit(RunFailed):
    kind: FailureKind = "snapshot_unfit"
    todo = "Start again without resuming, or bring back the recipe and settings that the snapshot was taken of."


class Stopped(RunFailed):
    kind: FailureKind = "worker_stopped"
    todo = "Run it again with --resume: it goes on from the snapshot."


class RecipeError(RunFailed):
    kind: FailureKind = "recipe_error"
    todo = "Correct the code at the last line of the traceback."


class SpecError(RunFailed):
    kind: FailureKind = "worker_error"
    todo = "Worker and harness are of different versions; update the worker."


CAUSES: dict[FailureKind, type[RunFailed]] = {each.kind: each for each in (OverLimit, MachineFailed, Killed)}


def from_exception(error: BaseException, source: Path) -> RunFailed:
    """The failure for an exception that came out of the recipe in the folder ``source``."""
    if isinstance(error, RunFailed):
        return error
    if is_out_of_memory(error):
        return OutOfMemory(_last_line(error))
    if is_device_lost(error):
        return DeviceLost(_last_line(error))
    if is_device_unfit(error):
        return DeviceUnfit(_last_line(error))
    if (cause := cause_of(error, source.parent / "out")) is not None:
        return CAUSES[cause.kind](_of_cause(cause, error))
    if isinstance(error, SystemExit):
        return RecipeError("train.py ended the process itself; it must return from train(run)")
    return RecipeError(_traceback(error, source))


def before_the_recipe(error: BaseException, source: Path) -> RunFailed:
    """The failure for an exception before any of the recipe ran: what would be the recipe's is then the machine's.

    A broken installation, say, no memory for torch, or no more threads.
    """
    failure = from_exception(error, source)
    if isinstance(error, RunFailed) or failure.kind not in ("recipe_error", "out_of_memory", "over_limit"):
        return failure
    return MachineFailed(f"The machine failed before any of the recipe ran: {_traceback(error, source)}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch's class on CUDA, a RuntimeError on the CPU, MemoryError, or ENOMEM."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_device_unfit(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and says_device_unfit(str(error))


def is_machines(error: BaseException) -> bool:
    """Whether the machine or its GPU failed, so that training in another way would not help."""
    cause = cause_of(error)
    return is_device_lost(error) or is_device_unfit(error) or (cause is not None and cause.kind == "machine_failed")


def _of_cause(cause: Cause, error: BaseException) -> str:
    whose = "The machine failed: " if cause.kind == "machine_failed" else "The run ended: "
    return f"{whose}{cause.why}. {_last_line(error)}"


def is_device_lost(error: BaseException) -> bool:
    """Whether it is a RuntimeError (torch.AcceleratorError is one) of CUDA that says that the device is gone."""
    return isinstance(error, RuntimeError) and says_device_lost(str(error))


def told(failure: RunFailed, rank: str) -> str:
    """The failure for a terminal.

    Its last line names process and kind, and has no line ends or escapes of the recipe's.
    """
    *before, last = str(failure).split("\n")
    return "\n".join([*before, f"process {rank}: {failure.kind}: {plain(' '.join(last.split()))}"])


def wire(failure: RunFailed) -> dict[str, str]:
    """The ``failure`` field of the "ended" line, within the contract's lengths."""
    return Failure(kind=failure.kind, message=str(failure)[-4_000:], todo=failure.todo).model_dump()


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _traceback(error: BaseException, source: Path) -> str:
    """The traceback's last lines, without the harness's own frames above the recipe's."""
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if Path(frame.filename).is_relative_to(source)), 0)
    lines = "".join(traceback.format_list(frames[first:])).replace(f"{source}/", "").splitlines()
    return "\n".join([*lines[-TRACEBACK_LINES:], _last_line(error)])
