"""Runs the trusted scorer on a run's checkpoint, in a process of its own, so that an order or a signal can end it."""

from __future__ import annotations

import time
from pathlib import Path

from gpu_runner import contract, sandbox
from gpu_runner.contract import LogLine, Score
from gpu_runner.contract.plain import plain
from gpu_runner.machine.faults import signal_of
from gpu_runner.process.child import Child, Lines
from gpu_runner.process.terminal import Terminal
from gpu_runner.worker.endings import SEE_LOG, RunFailure
from gpu_runner.worker.parts import Launch
from gpu_runner.worker.testimony import MAX_LINE_BYTES

SCORING_DEADLINE_S = 900.0
CANNOT_BEGIN, EX_TEMPFAIL = 2, 75  # of a scorer that was asked wrongly, or whose machine failed (scorer/__main__.py)
CHALLENGES, CHALLENGES_OF_A_SHORT_RUN, LONG_RUN_S = 2_048, 256, 120.0
# No verdict reads a smoke run's score. It has few rows and a process is asked each row once, so every further batch
# of challenges would take another process.
CHALLENGES_OF_A_SMOKE_RUN = 1  # rounded up to a batch
MAX_SCORE_BYTES = 1 << 20


def score(launch: Launch, recipe: Path, dataset: Path) -> Score:
    """The scorer's Score of the checkpoint. Raises an EarlyEnd."""
    checkpoint = launch.out / "checkpoint"
    if not checkpoint.is_dir() or checkpoint.is_symlink():
        raise RunFailure(
            "no_checkpoint", "Training ended well but left no checkpoint.", "Call run.save(model, config)."
        )
    launch.reporter.enter("scoring")
    said = bytearray()
    exit_code = _run_scorer(launch, recipe, checkpoint, dataset, said)
    try:
        measured = contract.parse(Score, bytes(said))
    except ValueError as error:
        raise _no_score(exit_code) from error
    if measured.outcome == "failed" and exit_code == EX_TEMPFAIL:
        raise RunFailure("machine_failed", "; ".join(measured.reasons), SEE_LOG)
    if measured.outcome == "failed" and exit_code == CANNOT_BEGIN:
        raise RunFailure("worker_error", f"The scorer could not begin: {'; '.join(measured.reasons)}", SEE_LOG)
    if measured.outcome == "failed":
        raise RunFailure(
            "scorer_failed",
            "; ".join(measured.reasons) or "The scorer failed and gave no reason.",
            "See what the model's process said and mend build_model or forward; by hand, on a kept run folder"
            " (COUNTERSIGN_KEEP_RUNS=1): python -m gpu_runner.scorer --recipe DIR --checkpoint DIR --dataset NAME.",
        )
    if measured.outcome == "ok" and "sealed" in launch.spec.splits and measured.sealed_bpb is None:
        raise RunFailure("worker_error", "The scorer was asked for the sealed text and gave no number on it.", SEE_LOG)
    ended = launch.tally.ended
    return measured.model_copy(update={"self_reported_bpb": ended.self_reported_bpb if ended else None})


def _no_score(exit_code: int) -> RunFailure:
    """The failure when the scorer gave no score: never the proposal's, which cannot reach the scorer."""
    if (number := signal_of(exit_code)) is not None:
        said = f"The scorer was ended by signal {number.value} ({number.name}) from outside, and gave no score."
        return RunFailure("killed", said, SEE_LOG)
    return RunFailure("worker_error", f"The scorer ended with exit code {exit_code} and no score.", SEE_LOG)


def _run_scorer(launch: Launch, recipe: Path, checkpoint: Path, dataset: Path, said: bytearray) -> int:
    """Fills ``said`` with the scorer's stdout and returns its exit code."""
    began_at = time.monotonic()

    def complain(line: bytes | None) -> None:
        text = "(a very long line is left out)" if line is None else plain(line.decode(errors="replace"))
        launch.reporter.log(LogLine(at_s=time.monotonic() - began_at, level="warning", text=f"scorer: {text}"[:2_000]))

    def check() -> None:
        launch.check()
        if time.monotonic() - began_at > (limit_s := SCORING_DEADLINE_S * len(launch.spec.splits)):
            raise RunFailure("scorer_failed", f"Scoring did not end within {limit_s:g} s.")

    # Trusted, so not sandboxed; but limited, and killed with this worker, like everything that it starts.
    with (
        sandbox.Cell(level="none") as cell,
        Child(
            cell.argv(_scorer_command(launch, recipe, checkpoint, dataset)),
            env=sandbox.child_environment(),
            cwd=Path("/"),  # nothing that the run wrote may be imported by the trusted side
            stdout=Lines(lambda line: said.extend(line or b""), MAX_SCORE_BYTES),
            stderr=Terminal(complain, MAX_LINE_BYTES),
        ) as child,
    ):
        return child.follow(check)


def _num_challenges(launch: Launch) -> int:
    """How many challenges the scorer asks: few in a smoke run, all after a long training, fewer after a short one.

    A verdict reads several short runs.
    """
    if launch.spec.purpose == "smoke":
        return CHALLENGES_OF_A_SMOKE_RUN
    spent = launch.tally.spent  # of a foreign trainer, its whole process
    long = spent is not None and spent.train_s >= LONG_RUN_S
    return CHALLENGES if long else CHALLENGES_OF_A_SHORT_RUN


def _scorer_command(launch: Launch, recipe: Path, checkpoint: Path, dataset: Path) -> list[str]:
    where = ["--recipe", str(recipe), "--checkpoint", str(checkpoint), "--dataset", str(dataset.resolve())]
    spec, budget = launch.spec, launch.spec.approval.budget
    how = [
        *("--device", launch.machine.device, "--sandbox", launch.machine.sandbox_level),
        *("--split", "val", "--num-tokens", str(spec.score_tokens), "--challenges", str(_num_challenges(launch))),
        *(["--sealed"] if "sealed" in spec.splits else []),
        *(["--usual", spec.usual_effort.model_dump_json()] if spec.usual_effort else []),
        *(["--trained-s", str(budget.amount)] if budget.kind == "seconds" and spec.purpose != "smoke" else []),
    ]
    return [*launch.machine.scorer, *where, *how, "--json"]
