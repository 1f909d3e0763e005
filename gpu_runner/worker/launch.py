"""Carries out one leased run, from its source to its end. Reads downward.

    approval   the spec is what was countersigned, and this machine has what it needs (admission.py)
    source     base commit from the bundle, patch on top; it may hold no held-out text (leakage.py)
    training   the harness in the sandbox, or a foreign trainer (foreign.py); its reports go to the Reporter
    scoring    the trusted scorer on the checkpoint (scoring.py)
    end        finished | failed | timed_out | cancelled | lost, delivered once

What ends a run before that is an EarlyEnd (endings.py).
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gpu_runner import contract, sandbox
from gpu_runner.contract import FAULT_OF, Failure, RunEnd, RunSpec, Spent
from gpu_runner.contract.plain import plain
from gpu_runner.data.manifest import TOKEN_BYTES
from gpu_runner.machine.faults import MachineFault, is_machines
from gpu_runner.process.child import Child, Lines
from gpu_runner.process.terminal import Terminal
from gpu_runner.worker import allowance, foreign, source
from gpu_runner.worker.admission import check_approval, find_dataset
from gpu_runner.worker.client import Front, Refused, RunLine, Superseded, Unreachable
from gpu_runner.worker.endings import SEE_LOG, Cancelled, Dropped, GivenBack, RunFailure
from gpu_runner.worker.folders import run_folder
from gpu_runner.worker.inquest import Inquest, refuse_excess, refuse_overrun
from gpu_runner.worker.leakage import refuse_held_out_text
from gpu_runner.worker.parts import Launch, Machine, Tally
from gpu_runner.worker.ration import Ration
from gpu_runner.worker.reporter import Reporter, deliver
from gpu_runner.worker.scoring import score
from gpu_runner.worker.testimony import MAX_LINE_BYTES, Ended, Testimony

log = logging.getLogger(__name__)

LEAVING_S = 1.5  # what a worker that was told to leave still spends on each of its last two messages


def run_lease(
    lease: contract.Lease, *, machine: Machine, front: Front, is_leaving: Callable[[], bool]
) -> RunEnd | None:
    """Carry out one lease and deliver its end. None when the lease was lost: nothing is delivered then.

    Never raises for what the run did; ``is_leaving`` is asked several times a second.
    """
    spec = lease.spec
    reporter = Reporter(
        front.line(lease),
        fence=spec.fence,
        next_seq=spec.next_seq,
        beat_s=machine.beat_s,
        gives_up_s=machine.gives_up_s,
    )
    line = front.line(lease)  # its own session: the reporter's belongs to the reporter's thread

    def patience_s() -> float:
        return LEAVING_S if is_leaving() else machine.gives_up_s

    heard_all, end = True, None
    try:
        reporter.start()
    except RuntimeError as error:  # no thread is to be had here
        end = _end_of_our_own(Tally(), spec, error)
    else:
        try:
            end = _in_a_folder(spec, machine, line, reporter, is_leaving)
        finally:
            heard_all = reporter.close(within_s=patience_s())
    if end is None:
        return None
    if not heard_all:
        log.warning("run %d: its last reports were not acknowledged", spec.run_id)
    deliver(line, end, within_s=patience_s)
    return end


def _in_a_folder(
    spec: RunSpec, machine: Machine, line: RunLine, reporter: Reporter, is_leaving: Callable[[], bool]
) -> RunEnd | None:
    ends: list[RunEnd | None] = []
    make = partial(Launch, spec=spec, machine=machine, line=line, reporter=reporter, is_leaving=is_leaving)
    try:
        with run_folder(machine.runs, spec, num_kept=machine.num_kept) as folder:
            ends.append(_attempt(make(folder=folder)))
    except OSError as error:  # it could not be made, or not be cleared away: the end of a run counts all the same
        log.warning("run %d: its folder: %s", spec.run_id, error)
        ends.append(_end_of_our_own(Tally(), spec, error))
    return ends[0]


def _attempt(launch: Launch) -> RunEnd | None:
    spec, tally = launch.spec, launch.tally
    try:
        train_and_score(launch)
    except RunFailure as early:
        return tally.end(spec.fence, _outcome_of(early.failure), early.failure)
    except Cancelled as early:
        log.info("run %d: cancelled: %s", spec.run_id, early)
        return tally.end(spec.fence, "cancelled")
    except GivenBack as early:
        return tally.end(spec.fence, "lost", early.failure)
    except Dropped as early:
        log.warning("run %d: dropped: %s", spec.run_id, early)
        return None
    except Exception as error:  # a bug of ours must end this run loudly, and not the worker
        log.exception("run %d: the worker broke", spec.run_id)
        return _end_of_our_own(tally, spec, error)
    return tally.end(spec.fence, "finished")


def _end_of_our_own(tally: Tally, spec: RunSpec, error: Exception) -> RunEnd:
    failure = _of_our_own(error)
    return tally.end(spec.fence, _outcome_of(failure), failure)


def _outcome_of(failure: Failure) -> str:
    if failure.kind == "deadline":
        return "timed_out"
    return "lost" if FAULT_OF[failure.kind] == "machine" else "failed"


def _of_our_own(error: Exception) -> Failure:
    """The Failure for an exception of the worker itself; proposed code cannot make it raise one."""
    said = f"{type(error).__name__}: {plain(str(error))}"[:2_000]
    if is_machines(error) or isinstance(error, subprocess.TimeoutExpired):  # a killed process that does not end
        return Failure(kind="machine_failed", message=f"The machine failed under the worker: {said}", todo=SEE_LOG)
    return Failure(kind="worker_error", message=f"The worker broke: {said}", todo=SEE_LOG)


def train_and_score(launch: Launch) -> None:
    """The whole run; what is measured goes into ``launch.tally``. Raises an EarlyEnd."""
    here = launch.machine
    check_approval(launch.spec, lock_sha256=here.lock_sha256, sandbox_level=here.sandbox_level)
    dataset = find_dataset(launch.spec, here.datasets)
    recipe = fetch_source(launch)
    launch.check()
    refuse_held_out_text(launch.spec, recipe, dataset, launch.check, launch.reporter.log)
    launch.tally.device_since = time.monotonic()
    if (about := foreign.foreign(recipe)) is not None:
        launch.tally.score = foreign.train_and_score(launch, recipe, about, dataset)
        return
    train(launch, recipe, dataset)
    launch.tally.score = score(launch, recipe, dataset)


# --- source ---------------------------------------------------------------------------------


def fetch_source(launch: Launch) -> Path:
    """The folder of the approved source. Raises RunFailure, GivenBack when the web side is away, or Dropped."""
    approval = launch.spec.approval
    try:
        bundle = launch.line.source()
        return source.check_out(bundle, base_commit=approval.base_commit, patch=approval.patch, folder=launch.folder)
    except Unreachable as error:
        raise GivenBack("lost_contact", f"The source could not be fetched: {error}") from error
    except Superseded as error:
        raise Dropped(str(error)) from error
    except source.BadPatch as error:
        raise RunFailure("bad_patch", str(error), "Rebase the proposal on the present incumbent.") from error
    except MachineFault as error:
        raise RunFailure("machine_failed", f"The source could not be had: {plain(str(error))}", SEE_LOG) from error
    except (Refused, source.BadSource) as error:
        raise RunFailure("worker_error", f"The source could not be had: {plain(str(error))}") from error


# --- training -------------------------------------------------------------------------------


def train(launch: Launch, recipe: Path, dataset: Path) -> None:
    """Run the harness in the sandbox until it is done, and hand it its text. Raises an EarlyEnd."""
    spec_file = write_harness_spec(launch, dataset / "train")
    launch.out.mkdir(mode=0o700)
    if launch.machine.kernels is not None:
        launch.machine.kernels.give(launch.out)
    began_at = time.monotonic()
    testimony = Testimony(launch.reporter, clock=lambda: time.monotonic() - began_at)
    shown = (recipe, spec_file, *what_is_told_of(dataset))
    cell = sandbox.Cell(level=launch.machine.sandbox_level, read_only=shown, writable=launch.out)
    inquest = Inquest(launch.folder, cell)
    launch.reporter.enter("training")
    with cell, make_ration(launch, dataset) as ration:
        hearing, speaking = os.pipe()
        fds = ("--report-fd", str(speaking), "--text-fd", str(ration.fd))
        with Child(
            cell.argv([*launch.machine.harness, str(launch.folder), *fds]),
            env=sandbox.child_environment(),
            cwd=launch.folder,
            stdout=Terminal(lambda line: testimony.printed(line, "info"), MAX_LINE_BYTES),
            stderr=Terminal(lambda line: testimony.printed(line, "warning"), MAX_LINE_BYTES),
            pass_fds=(speaking, ration.fd),
            extra={hearing: Lines(testimony.report_line, MAX_LINE_BYTES)},
        ) as child:
            ration.follow(lambda: cell.spent(child.process.pid).cpu_s)
            exit_code = child.follow(lambda: watch(launch, inquest, child, testimony, ration))
            refuse_excess(cell, child)  # the kernel may have been quicker than the last look
            refuse_over_budget(launch, ration)
    testimony.close()
    launch.tally.ended = testimony.ended
    inquest.refuse_unless_trained(exit_code, testimony, is_done=ration.is_done, recipe_ran=ration.recipe_ran)
    refuse_other_claims(testimony.ended, launch.tally.spent)
    if launch.machine.kernels is not None:
        launch.machine.kernels.keep(recipe, launch.out)


def make_ration(launch: Launch, dataset: Path) -> Ration:
    """The server of the run's training text. RunFailure when a shard is missing."""
    spec = launch.spec
    try:
        return Ration(
            dataset,
            seed=spec.seed,
            budget=spec.approval.budget,
            max_steps=spec.max_steps,
            counts_processors=not sandbox.gpu_nodes(),
        )
    except ValueError as error:
        raise RunFailure("dataset_missing", f"{error}") from error


def what_is_told_of(dataset: Path) -> list[Path]:
    """The files of a dataset that the sandbox shows: how its tokens are made, and no text."""
    return [path for name in ("manifest.json", TOKEN_BYTES) if (path := dataset / "train" / name).exists()]


def write_harness_spec(launch: Launch, shards: Path) -> Path:
    """Write ``spec.json``, what the harness needs: no token, fence or digest, and not whose run it is."""
    spec = launch.spec
    body = {
        "run_id": spec.run_id,
        "seed": spec.seed,
        "budget": spec.approval.budget.model_dump(mode="json"),
        "overrides": spec.approval.overrides,
        "dataset_dir": str(shards.resolve()),
        "dataset_sha256": spec.approval.dataset_sha256,
        "max_steps": spec.max_steps,
        "threads": None,
        "device": launch.machine.device,
    }
    path = launch.folder / "spec.json"
    path.write_text(json.dumps(body, allow_nan=False))
    return path


def watch(launch: Launch, inquest: Inquest, child: Child, testimony: Testimony, ration: Ration) -> None:
    """Every check that may end a living child, on every tick."""
    launch.check()
    with inquest.tick():
        refuse_overrun(launch.spec, now_s=testimony.clock())
        refuse_over_budget(launch, ration)
        if ration.is_done:  # the clock has ended: nothing that it left running may touch the checkpoint any more
            return child.kill()
        refuse_excess(inquest.cell, child)
        inquest.refuse_full_disk(child.process.pid)
    return None


def refuse_over_budget(launch: Launch, ration: Ration) -> None:
    """Raises RunFailure when a run used more than it may, measured from outside; sets ``tally.spent`` either way."""
    spec = launch.spec
    launch.tally.spent = spent = ration.spent()
    failure = allowance.over(spent, budget=spec.approval.budget, purpose=spec.purpose, usual=spec.usual)
    if failure is not None:
        raise RunFailure(failure.kind, failure.message, failure.todo)


def refuse_other_claims(ended: Ended | None, spent: Spent | None) -> None:
    """Raises RunFailure when the run claims more tokens or steps than it was given text for."""
    if ended is None or spent is None:
        return
    for claimed, given, what in (
        (ended.num_tokens, spent.num_tokens, "tokens"),
        (ended.num_steps, spent.num_batches, "steps"),
    ):
        if claimed is not None and claimed > given:
            raise RunFailure(
                "over_budget",
                f"Over budget: it says that it took {claimed:,} {what}, and was given text for {given:,}.",
                "Leave the counting to run.batches and run.report.",
            )
