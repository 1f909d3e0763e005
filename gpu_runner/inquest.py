"""What ended a training process that did not end well, as far as it can be known from outside of it.

    out_of_memory   its control group, our own meter, or the kernel's counter say so; or it said so itself
    over_limit      more than the sandbox gives it; or it filled the disk alone
    machine_failed  nothing can be written here, or the worker itself is limited more than a run
    killed          a signal that a program does not send itself, and none of the above
    recipe_error    everything else: it broke

What the run says of itself may be a lie (``testimony.py``); which of it is believed is decided here.
"""

from __future__ import annotations

import resource
import shutil
import signal
import time
from pathlib import Path

from gpu_runner import sandbox
from gpu_runner.child import Child
from gpu_runner.contract import FAULT_OF, Failure, FailureKind
from gpu_runner.endings import RunFailure
from gpu_runner.machine_fault import SENT, disk_problem, out_of_memory_kills, signal_of
from gpu_runner.sandbox import tally
from gpu_runner.testimony import Testimony

MIN_FREE_BYTES = 512 << 20
LOOK_AT_DISK_S = 0.5
ALONE = 2  # it filled the disk alone when it wrote at least one part in so many of what was free
LESS_MEMORY = "Lower batch_size, seq_len, width or depth."
LESS_OUTPUT = "Start fewer processes, or write only a checkpoint."
TRY_AGAIN = "The kernel's log and whoever manages the GPU machine may know more; then it trains again, as it is."


class Inquest:
    """Made before the run starts: what it looks at afterwards has to be compared with what was."""

    def __init__(self, folder: Path, cell: sandbox.Cell) -> None:
        """``folder`` is the run's own; ``folder/out`` is where it may write."""
        self.folder, self.cell = folder, cell
        self.free_bytes = shutil.disk_usage(folder).free
        self._num_killed = out_of_memory_kills()
        self._look_at = 0.0

    # --- while it runs ----------------------------------------------------------------------------

    def refuse_full_disk(self) -> None:
        """Asked on every tick. RunFailure before the machine itself suffers."""
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + LOOK_AT_DISK_S
        if shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:
            raise self._of_a_full_disk(f"Less than {MIN_FREE_BYTES >> 20} MiB are left on the disk of {self.folder}.")

    def _of_a_full_disk(self, said: str) -> RunFailure:
        """Its own doing, where it wrote much of what was free."""
        try:
            written = tally.usage(self.folder / "out", self.cell.bounds.output_files)[0]
        except tally.Hidden:
            written = 0  # ``Meter`` ends it for that
        if written * ALONE >= max(self.free_bytes, MIN_FREE_BYTES):
            return RunFailure("over_limit", f"{said} The run wrote {written >> 20:,} MiB of it itself.", LESS_OUTPUT)
        return RunFailure("machine_failed", said, "Free space on the GPU machine; then it trains again, as it is.")

    # --- when it is over ---------------------------------------------------------------------------

    def refuse_unless_trained(
        self, exit_code: int, testimony: Testimony, *, is_done: bool = False, recipe_ran: bool = False
    ) -> None:
        """Raises RunFailure, unless it trained to its end.

        ``is_done``: its supervisor ended it after its last word, so that its exit code says nothing. ``recipe_ran``:
        from then on the words are those of proposed code.
        """
        ended = testimony.ended
        if ended is not None and ended.ok and (exit_code == 0 or is_done):
            return
        if (problem := disk_problem(self.folder)) is not None:
            raise self._of_a_full_disk(
                f"The machine failed: {problem}. {_said(ended.failure if ended else None)}".strip()
            )
        if ended is not None and ended.failure is not None:
            raise _believed(ended.failure, recipe_ran, free_bytes=shutil.disk_usage(self.folder).free)
        number = None if is_done else signal_of(exit_code)
        if number is not None:
            raise self._of_a_signal(number, "\n".join(testimony.last_words))
        last_words = "\n".join(testimony.last_words)
        raise RunFailure(
            "recipe_error", f"Training ended with exit code {exit_code} and without a last word.\n{last_words}"
        )

    def _of_a_signal(self, number: signal.Signals, last_words: str) -> RunFailure:
        named = f"signal {number.value} ({number.name})"
        if number == signal.SIGKILL and (num := out_of_memory_kills() - self._num_killed) > 0:
            return self._of_the_kernel(num)
        if number == signal.SIGXFSZ:  # Python ignores it, and is told by an error
            return _of_a_limit("over_limit", f"Training was ended by {named}: a file became too large.", LESS_OUTPUT)
        if number in SENT or number == signal.SIGXCPU:  # we limit no processor time
            said = f"The training process was killed by {named} from outside; nothing says that memory ran out."
            return RunFailure("killed", f"{said}\n{last_words}".rstrip(), TRY_AGAIN)
        return RunFailure("recipe_error", f"Training crashed, ended by {named}.\n{last_words}".rstrip(), CRASHED)

    def _of_the_kernel(self, num: int) -> RunFailure:
        """A counter of the whole machine: whether it meant this run is told by what this run held."""
        held, all_of_it = self.cell.peak_bytes, sandbox.Bounds().memory
        what = f"{num} process{'es' if num > 1 else ''} for want of memory while it trained (oom_kill in /proc/vmstat)"
        said = f"The training process was killed, and the kernel ended {what}. It held {held >> 20:,} MiB."
        if held * 2 >= min(self.cell.bounds.memory, all_of_it):
            return RunFailure("out_of_memory", said, LESS_MEMORY)
        others = f"{said} That is less than half of what it may have: others used the rest."
        return RunFailure("machine_failed", others, "Give the GPU machine less else to do; then it trains again.")


CRASHED = (
    "Look for what runs outside of Python: a kernel of its own, an index that a compiled function does not check; or"
    " for more shared memory than the sandbox gives (docs/sandbox.md)."
)


def _said(failure: Failure | None) -> str:
    return f"The run says: {failure.message}" if failure is not None else ""


def _believed(failure: Failure, recipe_ran: bool, *, free_bytes: int) -> RunFailure:
    """What an operator has to set right is found out before any of the recipe runs: later it is the recipe's word."""
    if failure.kind == "machine_failed":
        seen = f"Seen from outside: {free_bytes >> 20:,} MiB are free there, and a file can be written."
        return RunFailure(failure.kind, f"{failure.message} {seen}", failure.todo)
    if recipe_ran and FAULT_OF[failure.kind] == "operator":
        said = f"It says {failure.kind.replace('_', ' ')}, which is known before a recipe runs: {failure.message}"
        return RunFailure("recipe_error", said, "Let train(run) raise errors as they are.")
    return _of_a_limit(failure.kind, failure.message, failure.todo)


def _of_a_limit(kind: FailureKind, message: str, todo: str) -> RunFailure:
    if (limited := _worker_limit(kind)) is not None:
        return RunFailure("machine_failed", f"{message} {limited}", "Raise that limit of the worker.")
    return RunFailure(kind, message, todo)


# What a run may have at most, and which limit of this process (inherited, and never raised) can be below that.
LIMITS: dict[FailureKind, tuple[tuple[str, int, str], ...]] = {
    "over_limit": (
        ("ulimit -f", resource.RLIMIT_FSIZE, "file_bytes"),
        ("ulimit -n", resource.RLIMIT_NOFILE, "open_files"),
    ),
    "out_of_memory": (("ulimit -v", resource.RLIMIT_AS, "memory"), ("ulimit -d", resource.RLIMIT_DATA, "memory")),
}


def _worker_limit(kind: FailureKind) -> str | None:
    """That whoever started this worker gave it less than a run may have, of what a failure of ``kind`` is about."""
    for name, limit, bound in LIMITS.get(kind, ()):
        hard = resource.getrlimit(limit)[1]
        if hard != resource.RLIM_INFINITY and hard < getattr(sandbox.Bounds(), bound):
            return f"This worker itself was given less than a run may have: {hard:,} ({name})."
    return None


def refuse_excess(cell: sandbox.Cell, child: Child) -> None:
    """Raises RunFailure for what the run used too much of, if it did."""
    if (excess := cell.excess(child.process.pid)) is None:
        return
    if excess.what == "memory":
        raise RunFailure("out_of_memory", str(excess), LESS_MEMORY)
    raise RunFailure("over_limit", str(excess), LESS_OUTPUT)
