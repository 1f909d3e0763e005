"""``python -m gpu_runner train SPEC.toml``: one run by hand, without the dashboard. Reads downward.

    plan        the spec, the recipe, the knobs, the dataset: mistakes end here, with exit code 2
    folder      runs/<spec>-<seed>, whole or not at all
    train       the harness in a process of its own; the screen shows it, the record keeps it
    end         ended.json and a table; exit code 0
    score       with --score: the trusted scorer on the checkpoint

Exit codes: 0 trained (and scored well), 1 failed, 2 refused before anything was started, 75 stopped: the same
command with --resume goes on, as schedulers that requeue expect (EX_TEMPFAIL).
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gpu_runner import contract, sandbox
from gpu_runner.contract import Failure, LogLine, Progress, Score
from gpu_runner.contract.plain import plain
from gpu_runner.process.child import Child, Lines
from gpu_runner.process.terminal import Terminal
from gpu_runner.standalone.folder import has_snapshot, run_folder
from gpu_runner.standalone.plan import Plan, make_plan
from gpu_runner.standalone.process import Training, tell_to_stop, training_process
from gpu_runner.standalone.record import Ending, Record, write_ending
from gpu_runner.standalone.screen import Screen, open_screen, table
from gpu_runner.standalone.spec import TrainSpec, load_spec, with_changes
from gpu_runner.worker.endings import RunFailure
from gpu_runner.worker.inquest import Inquest, refuse_excess
from gpu_runner.worker.parts import SCORER
from gpu_runner.worker.reporter import Point
from gpu_runner.worker.scoring import MAX_SCORE_BYTES, SCORING_DEADLINE_S
from gpu_runner.worker.testimony import MAX_LINE_BYTES, Listener, Testimony

EXIT_CODE = {"ok": 0, "failed": 1, "stopped": 75}
REFUSED = 2
SNAPSHOT_WITHIN_S = 120.0  # a run that was told to stop has so long for its step and its snapshot


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("spec", type=Path, metavar="SPEC.toml", help="see gpu_runner/standalone/example.toml")
    command.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default: runs/<spec>-<seed>")
    command.add_argument(
        "--set", action="append", default=[], metavar="KNOB=VALUE", help="an override; may be repeated"
    )
    command.add_argument("--seed", type=int, metavar="N", help="instead of the spec's")
    command.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run; starts one if there is none"
    )
    command.add_argument(
        "--score", action="store_true", help="then measure bits per byte on val with the trusted scorer"
    )
    command.add_argument("--quiet", action="store_true", help="show the end only")
    command.add_argument("--json", action="store_true", help="print ended.json on stdout, all else on stderr")


def run(chosen: argparse.Namespace, root: Path) -> int:
    """Carry out the command; datasets lie under ``root``. Returns the exit code.

    Raises OSError when the run's folder can no longer be written.
    """
    console = Console(stderr=chosen.json, highlight=False)
    with ExitStack() as stack:
        try:
            spec = with_changes(load_spec(chosen.spec), settings=chosen.set, seed=chosen.seed)
            plan = make_plan(spec, chosen.spec, root=root, out=chosen.out)
            folder = stack.enter_context(run_folder(plan, resume=chosen.resume))
        except (ValueError, OSError) as error:
            print(f"train: {error}", file=sys.stderr)
            return REFUSED
        ending = train(plan, folder, console, quiet=chosen.quiet)
        body = write_ending(ending, plan, folder)
        if chosen.score and ending.outcome == "ok":
            if not chosen.quiet:
                console.print("Scoring.")
            ending.score = score(plan, folder)
            body = write_ending(ending, plan, folder)
    tell(ending, plan, console, resume_with=resume_command(chosen))
    if chosen.json:
        print(json.dumps(body, indent=2))
    badly_scored = ending.score is not None and ending.score.outcome != "ok"
    return 1 if badly_scored else EXIT_CODE[ending.outcome]


# --- training -------------------------------------------------------------------------------


def train(plan: Plan, folder: Path, console: Console, *, quiet: bool) -> Ending:
    """Run the harness until it ends, is stopped, or overruns. Its failure is in the Ending."""
    began_at = time.monotonic()
    failure: Failure | None = None
    with Record(folder) as record, open_screen(plan, console, quiet=quiet) as screen, heard_signals() as orders:
        testimony = Testimony(Both(record, screen), clock=lambda: time.monotonic() - began_at)
        try:
            with training_process(plan, folder, testimony) as training:
                inquest = Inquest(folder, training.cell)
                watch = Watch(plan, training, testimony, screen, orders)
                exit_code = training.child.follow(watch.tick)
            testimony.close()
            if testimony.ended is None or not testimony.ended.ok:
                failure = training.complaints.failure
            stopped = failure is None and has_stopped(exit_code, testimony, inquest, ordered=bool(orders))
        except Killed:
            stopped = True
        except RunFailure as early:
            stopped, failure = False, early.failure
    return Ending(
        outcome="failed" if failure else "stopped" if stopped else "ok",
        failure=failure,
        ended=testimony.ended,
        total_s=time.monotonic() - began_at,
        facts=record.facts,
        mfu_percent=record.mfu_percent,
    )


def has_stopped(exit_code: int, testimony: Testimony, inquest: Inquest, *, ordered: bool) -> bool:
    """Whether it was stopped early; False when it trained to its end. RunFailure when it did neither."""
    ended = testimony.ended
    if (ordered and ended is None) or (ended is not None and ended.stopped):
        return True
    inquest.refuse_unless_trained(exit_code, testimony)
    return False


class Killed(Exception):
    """The run was killed: a person did not want to wait, or the snapshot did not come."""


@contextmanager
def heard_signals() -> Iterator[list[int]]:
    """The SIGINT, SIGTERM and SIGHUP so far, in a list that grows; none of them ends this process.

    One that is ignored stays so: ``nohup`` and background processes of a shell rely on it.
    """
    heard: list[int] = []
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in numbers}
    try:
        yield heard
    finally:
        for number, action in before.items():
            signal.signal(number, action)


class Watch:
    """The checks that may end a living run, and the screen's clock, on every tick."""

    def __init__(self, plan: Plan, it: Training, testimony: Testimony, screen: Screen, orders: list[int]) -> None:
        self.plan, self.it, self.testimony, self.screen, self.orders = plan, it, testimony, screen, orders
        self.told_at: float | None = None

    def tick(self) -> None:
        """Raises Killed or RunFailure; then the process is killed."""
        self.screen.tick()
        if self.orders and self.told_at is None:
            self.told_at = time.monotonic()
            tell_to_stop(self.it.child)
            self.screen.note("Stopping after this step, with a snapshot. Once more ends it at once.")
        if len(self.orders) > 1 or (self.told_at and time.monotonic() - self.told_at > SNAPSHOT_WITHIN_S):
            raise Killed
        refuse_excess(self.it.cell, self.it.child)
        refuse_overrun(self.plan.spec, now_s=self.testimony.clock(), started_at_s=self.testimony.started_at_s)


def refuse_overrun(spec: TrainSpec, *, now_s: float, started_at_s: float | None) -> None:
    """RunFailure past ``machine.deadline_s``, or when a budget in seconds takes too long; by this process's clock.

    A budget in seconds counts from "started": compiling is not training.
    """
    budget, deadline_s = spec.budget.as_budget, spec.machine.deadline_s
    if deadline_s is not None and now_s > deadline_s:
        raise RunFailure(
            "deadline",
            f"Training did not end within machine.deadline_s = {deadline_s:g} s and was killed.",
            "Give it a longer deadline or a smaller budget; --resume goes on from its last snapshot.",
        )
    longest_s = budget.longest_s
    if started_at_s is not None and longest_s is not None and now_s - started_at_s > longest_s:
        raise RunFailure(
            "deadline",
            f"A budget of {budget.amount:g} s was not spent after {longest_s:g} s of wall clock.",
            "Evaluation, snapshots or the checkpoint take longer than training: make them cheaper or fewer.",
        )


class Both:
    """A Testimony's Listener that passes everything to two others."""

    def __init__(self, record: Record, screen: Screen) -> None:
        self.listeners: tuple[Listener, Listener] = (record, screen)

    def started(self, facts: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener.started(facts)

    def point(self, point: Point) -> None:
        for listener in self.listeners:
            listener.point(point)

    def log(self, line: LogLine) -> None:
        for listener in self.listeners:
            listener.log(line)

    def progress(self, progress: Progress) -> None:
        for listener in self.listeners:
            listener.progress(progress)


# --- scoring --------------------------------------------------------------------------------


def score(plan: Plan, folder: Path) -> Score:
    """The Score of the trusted scorer, run as a process of its own.

    One that breaks gives a failed Score with its last words.
    """
    said, complaints = bytearray(), list[str]()
    began_at = time.monotonic()

    def complain(line: bytes | None) -> None:
        complaints.append(plain((line or b"").decode(errors="replace"))[:300])

    def refuse_overrun() -> None:
        if orders or time.monotonic() - began_at > SCORING_DEADLINE_S:
            raise Killed

    where = ["--recipe", folder / "source", "--checkpoint", folder / "out" / "checkpoint", "--dataset", plan.dataset]
    how = ["--sandbox", plan.sandbox_level, "--device", plan.spec.machine.device, "--json"]
    with (
        heard_signals() as orders,
        sandbox.Cell(level="none") as cell,
        Child(
            cell.argv([*SCORER, *map(str, where), *how]),
            env=sandbox.child_environment(),
            cwd=Path("/"),
            stdout=Lines(lambda line: said.extend(line or b""), MAX_SCORE_BYTES),
            stderr=Terminal(complain, MAX_LINE_BYTES),
        ) as child,
    ):
        try:
            child.follow(refuse_overrun)
            return contract.parse(Score, bytes(said))
        except Killed:
            reason = "Scoring was stopped." if orders else f"Scoring did not end within {SCORING_DEADLINE_S:g} s."
        except ValueError:
            reason = "The scorer ended without a score: " + " ".join(complaints[-3:])
    seconds = time.monotonic() - began_at
    return Score(val_bpb=None, outcome="failed", reasons=[reason[:2_000]], provenance={}, seconds=seconds)


# --- the last words -------------------------------------------------------------------------


def tell(ending: Ending, plan: Plan, console: Console, *, resume_with: str) -> None:
    """Print the failure and the way out, or the table; and the command that resumes the run, where that is possible."""
    if ending.outcome == "ok":
        console.print(table(ending, plan), soft_wrap=True)
    if ending.score is not None and ending.score.outcome != "ok":
        console.print(Text(f"Score {ending.score.outcome}: {' '.join(ending.score.reasons)}"), soft_wrap=True)
    if (failure := ending.failure) is not None:
        console.print(Text(f"{failure.kind}: {failure.message}\n{failure.todo}".rstrip(), style="red"), soft_wrap=True)
    if ending.outcome == "stopped":
        console.print(Text(f"{_where_it_stands(ending, plan)}\n  {resume_with}"), soft_wrap=True)


def _where_it_stands(ending: Ending, plan: Plan) -> str:
    if ending.ended is not None and ending.ended.num_steps is not None:
        return f"Stopped after step {ending.ended.num_steps:,}. This goes on:"
    if has_snapshot(plan.folder):
        return "Stopped. This goes on from the last snapshot:"
    return "Stopped before there was a snapshot. This begins again:"


def resume_command(chosen: argparse.Namespace) -> str:
    """The command line that resumes the run that ``chosen`` asked for."""
    words = ["python", "-m", "gpu_runner", "train", str(chosen.spec)]
    words += ["--out", str(chosen.out)] if chosen.out else []
    words += [word for setting in chosen.set for word in ("--set", setting)]
    words += ["--seed", str(chosen.seed)] if chosen.seed is not None else []
    words += [flag for flag in ("score", "quiet", "json") if getattr(chosen, flag) for flag in (f"--{flag}",)]
    return shlex.join([*words, "--resume"])
