"""Finds out why a training process did not end well, as far as it can be known from outside of it.

    out_of_memory   its control group, our own meter or the kernel's counter says so; or the run itself does
    over_limit      it used more than its sandbox allows, or filled the disk by itself
    machine_failed  nothing can be written here, the worker's own limits are lower than a run's, or the process ended
                    before any of the recipe ran
    killed          a signal that a program does not send itself, and none of the above
    recipe_error    everything else: the recipe broke

What the run says about its own end may be a lie (``testimony.py``); what of it is believed is decided here.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_runner import sandbox
from gpu_runner.contract import FAULT_OF, Failure, FailureKind, RunSpec
from gpu_runner.machine.faults import LIMITS as OF_A_LIMIT
from gpu_runner.machine.faults import NO_THREAD, SENT, disk_problem, out_of_memory_kills, signal_of
from gpu_runner.process.child import Child
from gpu_runner.sandbox import cgroups, tally
from gpu_runner.worker.allowance import PROCESSOR_TIME
from gpu_runner.worker.endings import RunFailure
from gpu_runner.worker.testimony import Testimony

MIN_FREE_BYTES = 512 << 20
LOOK_AT_DISK_S = 0.5
ALONE = 2  # a run filled the disk by itself when it wrote at least 1 / ALONE of what was free
STALL_S = 2.0  # twenty ticks
LESS_MEMORY = "Lower batch_size, seq_len, width or depth."
LESS_OUTPUT = "Start fewer processes, or write only a checkpoint."
TRY_AGAIN = "The kernel's log and whoever manages the GPU machine may know more; then it trains again, as it is."


class Inquest:
    """Watches one run and explains its end. Made before the run starts, to compare with the machine as it was then."""

    def __init__(self, folder: Path, cell: sandbox.Cell) -> None:
        """``folder`` is the run's folder; the run may write to ``folder/out`` only."""
        self.folder, self.cell = folder, cell
        about = os.statvfs(folder)
        self.free_bytes = about.f_bavail * about.f_frsize
        self.free_files = about.f_favail if about.f_files else math.inf  # some file systems count none
        self._num_killed = out_of_memory_kills()
        self._look_at = 0.0
        self._seen_at = time.monotonic()  # when the last tick ended
        self._stood_still_s = 0.0

    # --- while it runs ----------------------------------------------------------------------------

    @contextmanager
    def tick(self) -> Iterator[None]:
        """Wraps the checks of one tick. A gap of STALL_S between two ticks means that the machine stood still.

        Such time (suspended, moved, far too busy) is not the run's: a failure by the clock is then the machine's.
        """
        if (gap_s := time.monotonic() - self._seen_at) > STALL_S:
            self._stood_still_s += gap_s
        try:
            yield
        except RunFailure as early:
            is_by_clock = early.failure.kind in ("deadline", "over_budget") and PROCESSOR_TIME not in str(early)
            if not (is_by_clock and self._stood_still_s):
                raise
            still = f"{early} But this machine stood still for {self._stood_still_s:.1f} s meanwhile."
            raise RunFailure(
                "machine_failed", still, "See what else runs there, and whether it is suspended."
            ) from early
        finally:
            self._seen_at = time.monotonic()

    def refuse_full_disk(self, pid: int) -> None:
        """Raises RunFailure before the disk is full. Called on every tick."""
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + LOOK_AT_DISK_S
        if shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:
            said = f"Less than {MIN_FREE_BYTES >> 20} MiB are left on the disk of {self.folder}."
            raise self._of_a_full_disk(said, pid)

    def _of_a_full_disk(self, said: str, pid: int | None = None) -> RunFailure:
        """The failure for a full disk: over_limit where the run wrote much of what was free. ``pid``: the run's."""
        num_bytes, num_files = self._written(pid)
        said = f"{said} The run wrote {num_bytes >> 20:,} MiB in {num_files:,} files itself."
        if num_bytes * ALONE >= max(self.free_bytes, MIN_FREE_BYTES) or num_files * ALONE >= self.free_files:
            return RunFailure("over_limit", said, LESS_OUTPUT)
        return RunFailure("machine_failed", said, "Free space on the GPU machine; then it trains again, as it is.")

    def _written(self, pid: int | None) -> tuple[int, int]:
        """Bytes and files that the run wrote, also those that it deleted and holds open: they fill a disk, too."""
        enough = self.cell.bounds.output_files
        try:
            num_bytes, num_files = tally.usage(self.folder / "out", enough)
            below = tally.descendants(pid, self.cell.bounds.processes)[0] if pid is not None else []
            nameless, _ = tally.nameless(below, enough)
        except tally.Hidden:
            return 0, 0  # ``Meter`` ends it for that
        disk = self.folder.stat().st_dev
        sizes = [size for (device, _), size in nameless.items() if device == disk]
        return num_bytes + sum(sizes), num_files + len(sizes)

    # --- when it is over ---------------------------------------------------------------------------

    def refuse_unless_trained(
        self, exit_code: int, testimony: Testimony, *, is_done: bool = False, recipe_ran: bool | None = None
    ) -> None:
        """Raises RunFailure unless training ran to its end.

        ``is_done``: the supervisor killed it after its "done", so its exit code says nothing. ``recipe_ran``: whether
        proposed code had started, from when on the run's words are proposed code's; None where that is not known.
        """
        ended = testimony.ended
        if ended is not None and ended.ok and (exit_code == 0 or is_done):
            return
        if (problem := disk_problem(self.folder)) is not None:
            raise self._of_a_full_disk(
                f"The machine failed: {problem}. {_said(ended.failure if ended else None)}".strip()
            )
        if ended is not None and ended.failure is not None and ended.failure.kind == "killed" and self._num_oom_kills:
            raise self._of_the_kernel()  # one of the run's processes was killed; the run cannot know by what
        if ended is not None and ended.failure is not None:
            raise _believed(ended.failure, recipe_ran, free_bytes=shutil.disk_usage(self.folder).free)
        number, last_words = None if is_done else signal_of(exit_code), "\n".join(testimony.last_words)
        if (
            recipe_ran is False and number not in SENT
        ):  # no proposed code has been at work: bwrap, Python or torch broke
            raise _before_the_recipe(exit_code, number, last_words)
        if number is not None:
            raise self._of_a_signal(number, last_words)
        raise RunFailure(
            "recipe_error", f"Training ended with exit code {exit_code} and without a last word.\n{last_words}"
        )

    def _of_a_signal(self, number: signal.Signals, last_words: str) -> RunFailure:
        named = f"signal {number.value} ({number.name})"
        if number == signal.SIGKILL and self._num_oom_kills:
            return self._of_the_kernel()
        if number == signal.SIGXFSZ:  # not Python, which ignores it and gets an OSError
            return _of_a_limit("over_limit", f"Training was ended by {named}: a file became too large.", LESS_OUTPUT)
        if number in SENT or number == signal.SIGXCPU:  # we limit no processor time
            said = f"The training process was killed by {named} from outside; nothing says that memory ran out."
            return RunFailure("killed", f"{said}\n{last_words}".rstrip(), TRY_AGAIN)
        return RunFailure("recipe_error", f"Training crashed, ended by {named}.\n{last_words}".rstrip(), CRASHED)

    @property
    def _num_oom_kills(self) -> int:
        """Kills for want of memory: by its control group's count, or else the machine's (oom_kill in /proc/vmstat)."""
        return self.cell.num_oom_kills or max(out_of_memory_kills() - self._num_killed, 0)

    def _of_the_kernel(self) -> RunFailure:
        """The failure for a kill for want of memory below the run's limit: its own if it held at least half of that."""
        held, num = self.cell.peak_bytes, self._num_oom_kills
        what = f"{num} process{'es' if num > 1 else ''} for want of memory while it trained"
        said = f"The training process was killed, and the kernel ended {what}. It held {held >> 20:,} MiB."
        if held * 2 >= self.cell.bounds.memory:
            return RunFailure("out_of_memory", said, LESS_MEMORY)
        others = f"{said} That is less than half of what it may have: others used the rest."
        return RunFailure("machine_failed", others, "Give the GPU machine less else to do; then it trains again.")


CRASHED = (
    "Look for what runs outside of Python: a kernel of its own, an index that a compiled function does not check; or"
    " for more shared memory than the sandbox gives (docs/sandbox.md)."
)


def _before_the_recipe(exit_code: int, number: signal.Signals | None, last_words: str) -> RunFailure:
    how = f"exit code {exit_code}" if number is None else f"signal {number.value} ({number.name})"
    said = f"The training process ended with {how} before any of the recipe ran.\n{last_words}".rstrip()
    return RunFailure(
        "machine_failed", said, "Run `manage.py doctor` on the GPU machine; then it trains again, as it is."
    )


def _said(failure: Failure | None) -> str:
    return f"The run says: {failure.message}" if failure is not None else ""


def _believed(failure: Failure, recipe_ran: bool | None, *, free_bytes: int) -> RunFailure:
    """The run's own failure, as far as it is believed.

    What an operator has to set right shows before any of the recipe runs; said later, it counts as the recipe's error.
    """
    if failure.kind == "machine_failed":
        seen = f"Seen from outside: {free_bytes >> 20:,} MiB are free there, and a file can be written."
        return RunFailure(failure.kind, f"{failure.message} {seen}", failure.todo)
    if recipe_ran and FAULT_OF[failure.kind] == "operator":
        said = f"It says {failure.kind.replace('_', ' ')}, which is known before a recipe runs: {failure.message}"
        return RunFailure("recipe_error", said, "Let train(run) raise errors as they are.")
    return _of_a_limit(failure.kind, failure.message, failure.todo)


def _of_a_limit(kind: FailureKind, message: str, todo: str) -> RunFailure:
    if (limited := _worker_limit(kind, message)) is not None:
        return RunFailure("machine_failed", f"{message} {limited}", "Raise that limit of the worker.")
    return RunFailure(kind, message, todo)


# What a run may have at most: the words of a failure that is about it, and which limit of this process (inherited, and
# never raised) can be below that.
LIMITS: dict[FailureKind, tuple[tuple[str, str, int, str], ...]] = {
    "over_limit": (
        (OF_A_LIMIT[errno.EFBIG], "ulimit -f", resource.RLIMIT_FSIZE, "file_bytes"),
        (OF_A_LIMIT[errno.EMFILE], "ulimit -n", resource.RLIMIT_NOFILE, "open_files"),
        (NO_THREAD, "ulimit -u", resource.RLIMIT_NPROC, "processes"),
    ),
    "out_of_memory": (
        ("", "ulimit -v", resource.RLIMIT_AS, "memory"),
        ("", "ulimit -d", resource.RLIMIT_DATA, "memory"),
    ),
}


def _worker_limit(kind: FailureKind, message: str) -> str | None:
    """A sentence where this worker's own limit (ulimit, control group) of what failed is below a run's; else None."""
    bounds = sandbox.Bounds()
    for words, name, limit, bound in LIMITS.get(kind, ()):
        hard = resource.getrlimit(limit)[1]
        if words in message and hard != resource.RLIM_INFINITY and hard < getattr(bounds, bound):
            return f"This worker itself was given less than a run may have: {hard:,} ({name})."
    if NO_THREAD in message and (granted := cgroups.processes_granted()) < bounds.processes:
        return f"This worker itself was given less than a run may have: {granted:,} (pids.max of its control group)."
    return None


def refuse_overrun(spec: RunSpec, *, now_s: float) -> None:
    """Raises RunFailure at the deadline, by the worker's clock: proposed code could change the one inside training."""
    if now_s > spec.deadline_s:
        raise RunFailure(
            "deadline",
            f"Training did not end within {spec.deadline_s:g} s of wall clock and was killed.",
            "Make the change cheaper, or give the campaign a longer deadline.",
        )


def refuse_excess(cell: sandbox.Cell, child: Child) -> None:
    """Raises RunFailure when the run used more memory, processes, files or output than it may, or hid what it used."""
    if (excess := cell.excess(child.process.pid)) is None:
        return
    if excess.what == "memory":
        raise RunFailure("out_of_memory", str(excess), LESS_MEMORY)
    raise RunFailure("over_limit", str(excess), LESS_OUTPUT)
