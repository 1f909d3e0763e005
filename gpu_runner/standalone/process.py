"""Starts the training process, or several under torchrun, reads its reports and tells it to stop.

Reports come through a FIFO in the run's folder, since torchrun passes no descriptors on.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpu_runner import sandbox
from gpu_runner.contract import Failure
from gpu_runner.contract.plain import plain
from gpu_runner.harness.failures import RunFailed
from gpu_runner.process import guard
from gpu_runner.process.child import Child, Lines
from gpu_runner.process.terminal import Terminal
from gpu_runner.sandbox.tally import children_of
from gpu_runner.standalone.plan import Plan
from gpu_runner.worker.testimony import MAX_LINE_BYTES, Testimony

FIFO = ".reports"
HARNESS = "gpu_runner.harness"
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
FOLLOWER_FAILED = re.compile(r"process (\d+): ([a-z_]+): (.*)")
# Told to end, a team has been given its chance to write a snapshot: ranks are told one by one (``tell_to_stop``).
TEAM_GRACE_S = 1.0
TEAM_ENDS_WITHIN_S = 10.0
# Without a sandbox the recipe is the user's own: their switches for CUDA, NCCL and torch apply.
OWN_SWITCHES = ("CUDA_", "NCCL_", "GLOO_", "OMP_", "PYTORCH_", "TORCH_", "TRITON_")


@dataclass(kw_only=True)
class Training:
    """The running processes, and why the first other process of a team failed, if one did before the leader ended."""

    child: Child
    complaints: Complaints
    cell: sandbox.Cell


class Complaints:
    """Reads a team's stderr: only its first process reports, the others say here why they fail.

    A process that fails ends the others, so the first reason is the cause and later ones follow from it.
    """

    def __init__(self, testimony: Testimony) -> None:
        self.testimony = testimony
        self.failure: Failure | None = None

    def take(self, line: bytes | None) -> None:
        if self.testimony.ended is not None:
            return  # torchrun tells at length that its processes have ended, which we know
        if self.failure is None and line is not None:
            self.failure = _failure_in(line.decode(errors="replace"))
        self.testimony.printed(line, "warning")


def _failure_in(line: str) -> Failure | None:
    """The failure in a line ``process 1: out_of_memory: ...``, as the harness words it, with its kind's way out."""
    if (found := FOLLOWER_FAILED.match(line)) is None:
        return None
    rank, kind, message = found.groups()
    todo = {failed.kind: failed.todo for failed in RunFailed.__subclasses__() if failed.kind == kind}
    return Failure.model_validate(
        {
            "kind": kind if todo else "recipe_error",
            "message": f"Process {rank} failed: {plain(message)[:2_000]}",
            "todo": "".join(todo.values()),
        }
    )


@contextmanager
def training_process(plan: Plan, folder: Path, testimony: Testimony) -> Iterator[Training]:
    """Start it; ``testimony`` gets all that it says. Leaving the block kills what still runs."""
    with ExitStack() as stack:
        lifeline, ours = os.pipe()
        stack.callback(os.close, ours)
        stack.callback(_remove_leftovers, folder / "out")
        hearing, reports = _open_fifo(stack, folder / "out" / FIFO, testimony)
        cell = stack.enter_context(
            sandbox.Cell(
                level=plan.sandbox_level,
                read_only=(folder / "source", folder / "spec.json", plan.dataset / "train"),
                writable=folder / "out",
            )
        )
        is_team = plan.spec.machine.processes > 1
        complaints = Complaints(testimony)
        child = Child(
            cell.argv(_command(plan, folder, lifeline)),
            env=_environment(plan.sandbox_level),
            cwd=folder,
            stdout=Terminal(lambda line: testimony.printed(line, "info"), MAX_LINE_BYTES),
            stderr=Terminal(
                complaints.take if is_team else lambda line: testimony.printed(line, "warning"), MAX_LINE_BYTES
            ),
            pass_fds=(lifeline,),
            extra={hearing: reports},
        )
        stack.enter_context(child)
        if is_team:
            stack.callback(_end_team, child)
        yield Training(child=child, complaints=complaints, cell=cell)


def tell_to_stop(child: Child) -> None:
    """SIGTERM to every harness process: each ends after its step, with a snapshot.

    Not to the processes around them: bubblewrap would end and take them along, and torchrun kills after 30 seconds.
    When no harness runs yet, there is nothing to save, and everything is ended.
    """
    for pid in list(_harnesses(child.process.pid)) or [child.process.pid]:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue  # it has just ended by itself


def _command(plan: Plan, folder: Path, lifeline: int) -> list[str]:
    harness = ["-m", HARNESS, str(folder), "--report-to", str(folder / "out" / FIFO)]
    num_processes = plan.spec.machine.processes
    if num_processes == 1:
        return [sys.executable, *harness]
    # torchrun's children are in sessions of their own: the guard finds and kills them, whatever happens to torchrun.
    guarded = [sys.executable, "-S", guard.__file__, str(lifeline), str(TEAM_GRACE_S), "--"]
    # By number and not by name: in the sandbox nothing resolves a name, not even localhost.
    switches = [f"OMP_NUM_THREADS={plan.threads}", f"GLOO_SOCKET_IFNAME={LOOPBACK}"]
    meeting = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *meeting, f"--nproc-per-node={num_processes}"]
    return [*guarded, "/usr/bin/env", *switches, *torchrun, *harness]


def _environment(level: str) -> dict[str, str]:
    own = {} if level != "none" else {k: v for k, v in os.environ.items() if k.startswith(OWN_SWITCHES)}
    return sandbox.child_environment() | own


def _open_fifo(stack: ExitStack, path: Path, testimony: Testimony) -> tuple[int, Lines]:
    """The read end of a fresh FIFO, which the Child closes, and the Lines that parse it.

    We hold a write end until the first line has come, since a FIFO without a writer is at its end at once.
    """
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    stack.callback(path.unlink, missing_ok=True)
    hearing = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = stack.enter_context(path.open("wb", buffering=0))

    def take(line: bytes | None) -> None:
        writer.close()
        testimony.report_line(line)

    return hearing, Lines(take, MAX_LINE_BYTES)


def _remove_leftovers(out: Path) -> None:
    """Remove a folder for logs that torchrun makes and does not use."""
    for folder in out.glob("torchelastic_*"):
        shutil.rmtree(folder)


def _end_team(child: Child) -> None:
    """End torchrun's guard with SIGTERM, which ends all that torchrun started; a killed guard would leave them."""
    child.process.terminate()
    try:
        child.process.wait(TEAM_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        return  # leaving the Child kills what is left


def _harnesses(pid: int) -> Iterator[int]:
    """Those of ``pid`` and the processes below it that are ``python [-u] -m gpu_runner.harness`` itself."""
    if HARNESS in _arguments(pid)[:4]:
        yield pid
        return
    for child in children_of(pid):
        yield from _harnesses(child)


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):  # it has just ended, or this is macOS
        return []
