"""Trains with a foreign trainer (``kind = "command"``) in the sandbox. Reads downward.

What it prints is hostile text, read out here, outside of the sandbox. Its budget in seconds is the wall clock of its
whole process, measured from outside; tokens and steps are only told.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gpu_runner import sandbox
from gpu_runner.command.reading import MAX_LINE_BYTES, Reading
from gpu_runner.contract import MAX_STEPS, Progress, Recipe, Score, SelfReported, Spent, parse_recipe
from gpu_runner.machine.faults import cause_in
from gpu_runner.process.child import Child, Ear, Lines
from gpu_runner.process.terminal import Terminal
from gpu_runner.sandbox import tally
from gpu_runner.worker import adopting, allowance
from gpu_runner.worker.endings import RunFailure
from gpu_runner.worker.inquest import Inquest, refuse_excess, refuse_overrun
from gpu_runner.worker.parts import Launch
from gpu_runner.worker.preparing import SMOKE_S, Prepared, prepared
from gpu_runner.worker.scoring import score
from gpu_runner.worker.testimony import Level, Testimony

PROGRESS_S = 1.0
GRACE_S = 10.0  # between SIGTERM and SIGKILL, for a last evaluation or checkpoint


def foreign(recipe: Path) -> Recipe | None:
    """The parsed recipe.toml of a foreign trainer; None of any other recipe, which the harness reads itself."""
    try:
        about = parse_recipe((recipe / "recipe.toml").read_text())
    except (OSError, ValueError):  # the harness says what is wrong with it
        return None
    return about if about.kind == "command" else None


def train_and_score(launch: Launch, recipe: Path, about: Recipe, dataset: Path) -> Score:
    """The whole run. Raises an EarlyEnd."""
    ready = prepared(launch, recipe, about, dataset)
    said = Trainer(launch=launch, ready=ready).train()
    if about.model is None:
        assert said is not None, "without [model] there are [metrics]"
        return Score(val_bpb=None, outcome="self_reported", reasons=[], provenance={}, seconds=0.0, self_reported=said)
    adopting.adopt(launch, about.model, ready.values, dataset)
    return score(launch, recipe, dataset).model_copy(update={"self_reported": said})


# --- while it runs --------------------------------------------------------------------------


@dataclass(kw_only=True)
class Both:
    """Two ears on one pipe: the log, and the reader of numbers."""

    ears: Sequence[Ear]

    def feed(self, block: bytes) -> None:
        for ear in self.ears:
            ear.feed(block)

    def close(self) -> None:
        for ear in self.ears:
            ear.close()


@dataclass(kw_only=True)
class Trainer:
    """One run of a foreign trainer."""

    launch: Launch
    ready: Prepared
    began_at: float = field(default_factory=time.monotonic)
    asked_to_end_at: float | None = None  # since when it has SIGTERM
    is_done: bool = False  # we ended it, and that is no failure
    progressed_at_s: float = 0.0

    @property
    def about(self) -> Recipe:
        return self.ready.about

    def train(self) -> SelfReported | None:
        """Run it to its end; its own word on the metric. None where the recipe reads no metrics. Raises an EarlyEnd."""
        launch = self.launch
        self.began_at = time.monotonic()
        testimony = Testimony(launch.reporter, clock=self._now_s)
        reading = Reading(self.about.metrics, testimony, launch.out) if self.about.metrics else None
        cell = sandbox.Cell(level=launch.machine.sandbox_level, read_only=self.ready.shown, writable=launch.out)
        inquest = Inquest(launch.folder, cell)
        launch.reporter.enter("training")
        launch.reporter.started(self._facts())
        with cell, Child(
            cell.argv(self.ready.starts),
            env=sandbox.child_environment(),
            cwd=launch.folder,
            stdout=self._ears(testimony, reading, "info"),
            stderr=self._ears(testimony, reading, "warning"),
        ) as child:  # fmt: skip
            exit_code = child.follow(lambda: self._watch(inquest, child, reading))
            launch.tally.train_s = self._now_s()
            if not self.is_done:
                refuse_excess(cell, child)  # the kernel may have been quicker than the last look
        if not sandbox.gpu_nodes():  # main memory only, which says little where a GPU trains
            launch.tally.peak_memory_mib = cell.peak_bytes / (1 << 20)
        testimony.close()
        if reading is not None:
            reading.close()
            launch.tally.num_steps = reading.step or None
        self._refuse_failure(exit_code, inquest, testimony)
        return None if reading is None else self._said(reading)

    def _ears(self, testimony: Testimony, reading: Reading | None, level: Level) -> Both:
        log = Terminal(lambda line: testimony.printed(line, level), MAX_LINE_BYTES)
        return Both(ears=[log, *([Lines(reading.line, MAX_LINE_BYTES)] if reading else [])])

    def _now_s(self) -> float:
        return time.monotonic() - self.began_at

    def _facts(self) -> dict[str, object]:
        """What was told, without this machine's paths. Pages say that these numbers were told, not measured."""
        told = self.ready.told
        numbers = {"seed": told.seed, "seconds": told.seconds, "tokens": told.tokens, "steps": told.steps}
        named = {name: number for name, number in numbers.items() if name in self.ready.command.named}
        return {"trainer": " ".join(self.ready.command.run)[:500], "told": named}

    def _watch(self, inquest: Inquest, child: Child, reading: Reading | None) -> None:
        """Every check that may end a living trainer, on every tick."""
        self.launch.check()
        if reading is not None:
            reading.look()
            _refuse_slow(reading)
        with inquest.tick():
            self._measure(inquest, child)
            self._tell_progress(reading)
            if self._is_over(child, reading):
                self.is_done = True
                return child.kill()
            refuse_overrun(self.launch.spec, now_s=self._now_s())
            refuse_excess(inquest.cell, child)
            inquest.refuse_full_disk(child.process.pid)
        return None

    def _measure(self, inquest: Inquest, child: Child) -> None:
        """Note what it used until now: later runs of this incumbent are compared with it. RunFailure for too much."""
        now, is_counted, spec = inquest.cell.spent(child.process.pid), not sandbox.gpu_nodes(), self.launch.spec
        wall_s, cpu_s = self._now_s(), now.cpu_s if is_counted else None
        self.launch.tally.spent = Spent(
            before_s=0.0, train_s=wall_s, train_cpu_s=cpu_s, after_s=0.0, num_tokens=0, num_batches=0
        )
        if spec.purpose == "candidate":
            used = allowance.Used(wall_s, cpu_s)
            failure = allowance.over_by_the_clock(used, budget=spec.approval.budget, usual=spec.usual)
            if failure is not None:
                raise RunFailure(failure.kind, failure.message, failure.todo)

    def _tell_progress(self, reading: Reading | None) -> None:
        """How far it is, every second: by the clock of a budget in seconds, else by the steps that it says."""
        now_s, budget, steps = self._now_s(), self.launch.spec.approval.budget, self.ready.told.steps
        step = reading.step if reading else 0
        if now_s - self.progressed_at_s < PROGRESS_S:
            return
        self.progressed_at_s = now_s
        by_clock = budget.kind == "seconds" and self.launch.spec.max_steps is None
        if not by_clock and not (steps and step):
            return
        fraction = min(now_s / budget.amount if by_clock else step / (steps or 1), 1.0)
        eta_s = now_s / fraction - now_s if fraction else None
        self.launch.reporter.progress(Progress(fraction=fraction, eta_s=eta_s, step=step, num_steps=steps))

    def _is_over(self, child: Child, reading: Reading | None) -> bool:
        """Whether it is time to end it, which is no failure. Raises RunFailure where it should have ended itself."""
        now_s, budget = self._now_s(), self.launch.spec.approval.budget
        if self.launch.spec.max_steps is not None:
            has_shown = reading is not None and reading.value is not None and self.about.model is None
            return has_shown or ("steps" not in self.ready.command.named and now_s > SMOKE_S)
        if budget.kind != "seconds":
            return False
        if self.ready.command.ends == "told":
            if now_s > budget.amount and self.asked_to_end_at is None:
                self.asked_to_end_at = now_s
                ask_to_end(child, self.launch.machine.sandbox_level)
            return self.asked_to_end_at is not None and now_s > self.asked_to_end_at + GRACE_S
        if now_s > (limit_s := budget.longest_s or math.inf):
            told = (
                f"It was told {budget.amount:g} s" if "seconds" in self.ready.command.named else "It was told no time"
            )
            raise RunFailure(
                "over_budget",
                f"Over budget: {budget.amount:g} s were signed. {told}, and was killed after {limit_s:g} s.",
                'Let the trainer end itself, or set ends = "told" in [command]: then it gets SIGTERM in time.',
            )
        return False

    # --- when it is over ------------------------------------------------------------------------

    def _refuse_failure(self, exit_code: int, inquest: Inquest, testimony: Testimony) -> None:
        if self.is_done or self.asked_to_end_at is not None or exit_code == 0:
            return
        last_words = "\n".join(testimony.last_words)
        if exit_code > 0 and _is_out_of_memory(last_words):
            raise RunFailure("out_of_memory", f"The trainer ran out of memory.\n{last_words}", "Make it smaller.")
        inquest.refuse_unless_trained(exit_code, testimony, recipe_ran=True)

    def _said(self, reading: Reading) -> SelfReported:
        """Its last word on the metric. RunFailure where it said none, or said NaN."""
        metrics, is_smoke = reading.metrics, self.launch.spec.max_steps is not None
        is_needed = self.about.model is None and not (is_smoke and self.is_done)
        if is_needed and reading.value is None:
            raise RunFailure(
                "no_metric",
                f"It ended and never said its {metrics.reads}; {reading.num_records:,} records were read from"
                f" {metrics.file or 'what it prints'} by the reader {metrics.reader}.",
                "Let it say it, or mend reader, key, pattern or file in [metrics] of recipe.toml.",
            )
        if is_needed and reading.value is not None and not math.isfinite(reading.value):
            todo = "Lower the learning rate that the change raised, or add warm-up."
            raise RunFailure("not_finite", f"Its last {metrics.reads} is {reading.value}, no finite number.", todo)
        is_number = reading.value is not None and math.isfinite(reading.value)
        return SelfReported(
            metric=metrics.metric,
            unit=metrics.unit,
            direction=metrics.direction,
            value=reading.value if is_number else None,
            step=reading.step or None,
            num_values=min(reading.num_values, MAX_STEPS),
        )


def _refuse_slow(reading: Reading) -> None:
    if reading.is_slow:
        raise RunFailure(
            "over_limit",
            f"Reading what it prints took {reading.spent_s:.0f} s, so it was killed.",
            "Print less, or write a pattern in [metrics] that is quick to fail.",
        )


def _is_out_of_memory(said: str) -> bool:
    cause = cause_in(said)
    return (
        "CUDA out of memory" in said or "MemoryError" in said or (cause is not None and cause.kind == "out_of_memory")
    )


def ask_to_end(child: Child, level: str) -> None:
    """SIGTERM to every process of the trainer; not to those of the sandbox around it, which would end it at once."""
    for pid in _of_the_trainer(child.process.pid, level):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def _of_the_trainer(pid: int, level: str) -> Iterator[int]:
    if level == "none":  # nothing stands around it
        yield pid
    yield from tally.descendants(pid, 4_096)[0]
