"""``Run``: the recipe's interface to the harness. A recipe's ``train(run)`` goes

    config = ...                                    # run.knobs, run.vocab_size, run.dtype, run.attention
    model = build_model(config).to(run.device)
    batches = run.batches(batch_size, seq_len)      # (x, y), each [B, T] int64, in the seed's order
    run.begin(model, config, step=step, state=tensors, flops_per_token=..., groups={"matrices": [...]})
    for fraction in run.steps():                    # 0..1 of the budget; the clock runs inside
        x, y = next(batches)
        loss, _ = step(x, y, scale)
        run.report(loss, lr_scale=scale)            # nats per token, not .item(): that would stall a GPU
    run.save(model, config)

and must call ``begin``, ``report`` once a step, and ``save``. There is no text before ``begin``. Between steps the
harness takes the watch curve and writes snapshots; it sends points, and ends the run when a loss is
not finite. With several GPUs there is one such process for each: ``run.team`` (team.py).
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch

from gpu_runner.contract import Knobs
from gpu_runner.harness import checkpoint, lookups, snapshot
from gpu_runner.harness.batches import Batches
from gpu_runner.harness.clock import BudgetClock
from gpu_runner.harness.dataset import open_dataset
from gpu_runner.harness.failures import BadOverride, NotFinite, RecipeError, Stopped
from gpu_runner.harness.losses import Losses, Reading, Step, Word
from gpu_runner.harness.machine import Machine, peak_memory_mib
from gpu_runner.harness.pipe import Pipe
from gpu_runner.harness.spec import HarnessSpec
from gpu_runner.harness.team import Team
from gpu_runner.harness.telemetry import Telemetry, UpdateRatios, percentiles_ms
from gpu_runner.harness.warm_up import Compiled, WarmUp
from gpu_runner.harness.watch import Watch

NUM_WATCHES = 10  # times that the watch curve is taken, the last time at the end

StepFunction = Callable[[torch.Tensor, torch.Tensor, float], Any]


class Run:
    """One training process, for its recipe. Names without underscore are the recipe's."""

    def __init__(
        self,
        spec: HarnessSpec,
        knobs: Knobs,
        machine: Machine,
        pipe: Pipe,
        out: Path,
        *,
        team: Team | None = None,
        of_run: str = "",
        text_fd: int | None = None,
    ) -> None:
        self.knobs = knobs
        self.seed = spec.seed
        self.device = machine.device
        self.dtype = machine.dtype  # compute dtype; keep weights in float32
        self.attention = machine.attention  # "math": write it out; "sdpa": torch's fused kernels
        self.has_fp8 = machine.has_fp8  # matrix products in 8 bits
        self.team = team or Team()
        self._spec, self._machine, self._pipe, self._out, self._of_run = spec, machine, pipe, out, of_run
        self._dataset = open_dataset(Path(spec.dataset_dir), spec.dataset_sha256, seed=spec.seed, text_fd=text_fd)
        self._supply = self._dataset.supply
        self.vocab_size = self._dataset.vocab
        self.separator = self._dataset.separator  # the token between documents; None where they are not marked
        self._clock = BudgetClock(spec.budget, spec.max_steps)
        self._clock.agreed_s = 0.0 if self.team.size > 1 else None
        self._losses = Losses(machine.device, self.team)
        self._compiled: list[Compiled] = []
        self._batches: Batches | None = None
        self._watch: Watch | None = None
        self._model: torch.nn.Module | None = None
        self._held: list[torch.Tensor] = []  # everything that a step changes
        self._telemetry = Telemetry(bytes_per_token=None, flops_per_token=math.nan, peak_flops=None)
        self._ratios = UpdateRatios({})
        self._warm_up: WarmUp | None = None
        self._reported = True
        self._next_watch = 1 / NUM_WATCHES
        self._watched: dict[str, float] = {}
        self._snapshot_at_s = spec.snapshot_every_s or math.inf
        self._snapshot_wanted = self._stop_wanted = False  # as the team agreed
        self._told_to_stop = False  # by a signal, to this process
        self._step_began = 0.0
        self._aside_s = {"watch_s": 0.0, "snapshot_s": 0.0, "save_s": 0.0}  # outside of the clock
        self._saved = False

    # --- before the clock --------------------------------------------------------------------

    def refuse(self, reason: str) -> NoReturn:
        """End the run because knobs do not fit each other; ``reason`` names the knob and the way out."""
        raise BadOverride(reason)

    def batches(self, batch_size: int, seq_len: int) -> Batches:
        """Training text in the seed's order: an endless iterator over (x, y), each [B, T] int64.

        ``batch_size`` is the whole team's; each process is given its share of the rows.
        """
        if self._batches is not None:
            raise RecipeError("run.batches: may be called once; the order of the text belongs to the seed")
        self._batches = Batches(
            self._dataset,
            batch_size=batch_size,
            seq_len=seq_len,
            device=self.device,
            drawn=self._drawn,
            rank=self.team.rank,
            world_size=self.team.size,
        )
        if self.team.leads:
            self._watch = Watch(self._dataset, seq_len=seq_len, device=self.device)
        return self._batches

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, compiled for fixed shapes where that is faster (warm_up.py), else unchanged."""
        self._compiled.append(Compiled(function))
        return self._compiled[-1]

    def begin(
        self,
        model: torch.nn.Module,
        config: dict[str, Any],
        *,
        step: StepFunction,
        state: Sequence[torch.Tensor],
        flops_per_token: float,
        groups: Mapping[str, Sequence[torch.Tensor]] | None = None,
    ) -> None:
        """Compile and warm up on dummy tokens, undo that, report ``started``, start the clock.

        ``step(x, y, lr_scale)`` is one whole step; ``state`` is every tensor it changes beside the
        model's own. All are put back in place, so that warming up leaves no trace in the weights.
        ``groups`` are the parameters whose update-to-weight ratio is measured, by a name.
        """
        batches = self._batches
        if batches is None:
            raise RecipeError("run.begin: call run.batches first")
        self._model = model
        self._held = [*model.parameters(), *model.buffers(), *state]
        self._telemetry = Telemetry(
            bytes_per_token=self._dataset.bytes_per_token,
            flops_per_token=flops_per_token,
            peak_flops=self._machine.peak_flops and self._machine.peak_flops * self.team.size,
        )
        self._ratios = UpdateRatios(groups or {})
        self._clock.plan(batches.batch_size * batches.seq_len, flops_per_token)
        self.team.same_for_all([*model.parameters(), *model.buffers()])
        self._warm_up = WarmUp(self._compiled, mode=self._spec.compile, device=self.device, pipe=self._pipe)
        self._warm_up.take(lambda: step(*batches.dummy(), 1.0), self._held, self._num_planned())
        resumed_at_step = self._go_on() if self._spec.resume else None
        facts = self._started(model, config, flops_per_token) | {"lookups_count_to": self._lookups_count_to(model)}
        self._pipe.send("started", **facts, resumed_at_step=resumed_at_step)
        gc.collect()
        gc.freeze()  # a collection in the middle of training stalls it for up to half a second
        batches.begin()
        self._clock.start()

    # --- inside the clock ----------------------------------------------------------------------

    def steps(self) -> Iterator[float]:
        """Iterate while the budget lasts, one step a turn; yields the spent fraction (0..1) of the budget."""
        if self._model is None or self._batches is None:
            raise RecipeError("run.steps: call run.begin first")
        tokens_in_step = self._batches.batch_size * self._batches.seq_len
        while self._clock.allows(tokens_in_step):
            before, self._reported = self._clock.num_tokens, False
            self._ratios.step_begins()
            self._step_began = time.monotonic()
            yield self._clock.fraction
            if not self._reported:
                raise RecipeError("run.report: must be called once in every step")
            tokens_in_step = self._clock.num_tokens - before
            if not tokens_in_step:
                raise RecipeError("run.batches: a step drew no batch, so the budget would never be spent")
            self._between_steps()
        self._finish()

    def report(self, loss: torch.Tensor, **extras: float | torch.Tensor) -> None:
        """The step's loss in nats per token, [] float; ``extras`` (lr_scale, grad_norm) join the points."""
        self._clock.num_steps += 1
        self._reported = True
        elapsed_s = self._clock.elapsed_s
        word = Word(spent_s=self._clock.own_spent_s, snapshot=elapsed_s >= self._snapshot_at_s, stop=self._told_to_stop)
        self._losses.push(
            Step(
                number=self._clock.num_steps,
                num_tokens=self._clock.num_tokens,
                loss=loss,
                word=word,
                extras={**extras, **self._ratios.step_ended()},
            )
        )
        self._take(self._losses.pop())
        self._telemetry.took(time.monotonic() - self._step_began)

    def save(self, model: torch.nn.Module, config: dict[str, Any]) -> None:
        """Take the last watch measurement of ``model``, and write it and ``config`` as the checkpoint."""
        if self._batches is None or self._model is None:
            raise RecipeError("run.save: call run.batches, run.begin and run.steps first")
        self._finish()
        if self.team.leads:
            self._look(model)
            with self._aside("save_s"):
                checkpoint.save(self._out, model, config)
                snapshot.drop(self._out)
        self.team.meet()
        self._saved = True

    # --- the harness's own: between steps ----------------------------------------------------------

    def _between_steps(self) -> None:
        """What is not training: the watch curve, snapshots, and stopping when told to."""
        if self._next_watch <= self._clock.fraction < 1 and self._spec.max_steps is None:
            self._next_watch = math.floor(self._clock.fraction * NUM_WATCHES + 1) / NUM_WATCHES
            self._settle()
            if self.team.leads and self._model is not None:
                with self._clock.looking():
                    self._look(self._model)
        if self._snapshot_wanted or self._stop_wanted:
            with self._clock.stopped():
                self._take_snapshot()
        if self._stop_wanted:
            raise Stopped(f"Told to stop after step {self._clock.num_steps:,}; a snapshot was written.")

    def _look(self, model: torch.nn.Module) -> None:
        """Measure ``model`` on the watch split and send the point."""
        assert self._watch is not None
        with self._aside("watch_s"):
            seen = self._watch.look(model)
        step = self._clock.num_steps
        if not math.isfinite(seen.nats_per_token):
            raise NotFinite(f"The held-out loss became {seen.nats_per_token} at step {step}.")
        self._watched = {"watch_loss": seen.nats_per_token, "logit_rms": seen.logit_rms}
        if seen.bits_per_byte is not None:
            self._watched["watch_bpb"] = seen.bits_per_byte
        in_words = ", ".join(f"{value:.4f} {WATCHED[name]}" for name, value in self._watched.items())
        self._pipe.log("eval", f"step {step}: {in_words}, on {self._watch.num_tokens:,} held-out tokens")
        self._send_point(step, self._watched)

    def _take_snapshot(self) -> None:
        assert self._batches is not None
        self._settle()
        numbers = {
            "of_run": self._of_run,
            "num_tokens": self._clock.num_tokens,
            "num_rows": self._batches.num_rows,
            "elapsed_s": self._clock.elapsed_s,
            "spent_s": self._clock.spent_s,
            "next_watch": self._next_watch,
        }
        with self._aside("snapshot_s"):
            snapshot.save(self._out, self.team, step=self._clock.num_steps, tensors=self._held, numbers=numbers)
        self._snapshot_wanted = False
        self._snapshot_at_s = self._clock.elapsed_s + (self._spec.snapshot_every_s or math.inf)

    def _go_on(self) -> int | None:
        """Load the newest snapshot, if there is one. Returns the step after which it was taken."""
        folder = snapshot.newest(self._out)
        if folder is None:
            return None
        assert self._batches is not None
        numbers = snapshot.load(folder, self.team, tensors=self._held, of_run=self._of_run)
        clock = self._clock
        clock.resume(
            num_steps=numbers["step"],
            num_tokens=numbers["num_tokens"],
            elapsed_s=numbers["elapsed_s"],
            spent_s=numbers["spent_s"],
        )
        self._batches.seek(numbers["num_rows"])
        self._telemetry.begin_at(clock.elapsed_s, clock.num_tokens)
        self._next_watch = numbers["next_watch"]
        self._snapshot_at_s = clock.elapsed_s + (self._spec.snapshot_every_s or math.inf)
        return clock.num_steps

    # --- the harness's own: what is said -----------------------------------------------------------

    def _drawn(self, num_tokens: int) -> None:
        self._clock.num_tokens += num_tokens

    def _num_planned(self) -> float:
        """Steps of the whole budget; where it is in seconds, minus its seconds."""
        steps = self._clock.planned_steps
        return -self._spec.budget.amount if steps is None else steps

    def _started(self, model: torch.nn.Module, config: dict[str, Any], flops_per_token: float) -> dict[str, Any]:
        assert self._warm_up is not None
        return {
            "device": self._machine.device,
            "device_name": self._machine.name,
            "world_size": self.team.size,
            "dtype": self._machine.dtype,
            "compile": self._warm_up.is_compiled,
            "attention": self._machine.attention,
            "attention_kernel": self._machine.attention_kernel,
            "num_params": sum(p.numel() for p in model.parameters()),
            "flops_per_token": flops_per_token,
            "knobs": self.knobs,
            "config": config,
            "torch": torch.__version__,
            "threads": self._machine.threads,
            "compile_s": self._warm_up.seconds,
        }

    def _lookups_count_to(self, model: torch.nn.Module) -> int | None:
        """How many uses of a table's row its gradient counts at most (lookups.py); logs a warning.

        None: all of them.
        """
        assert self._batches is not None
        most = lookups.count_to(model, self._batches.dummy()[0][:1]) if self.device == "cpu" else None
        if most is not None:
            self._pipe.log("warning", lookups.warning(most))
        return most

    def _take(self, known: list[Reading]) -> None:
        for reading in known:
            if not math.isfinite(reading.loss):
                raise NotFinite(f"The loss became {reading.loss} at step {reading.number}.")
            self._telemetry.heard(reading)
            self._snapshot_wanted |= reading.word.snapshot
            self._stop_wanted |= reading.word.stop
            if self.team.size > 1:
                self._clock.agreed_s = reading.word.spent_s
            if self._spec.max_steps is not None or self._telemetry.is_due(self._clock.elapsed_s):
                self._send_losses(reading)

    def _send_losses(self, reading: Reading) -> None:
        assert self._batches is not None
        metrics = self._telemetry.point(
            elapsed_s=self._clock.elapsed_s, num_tokens=reading.num_tokens, wait_s=self._batches.wait_s
        )
        metrics["peak_memory_mib"] = peak_memory_mib(self._machine.device)
        self._send_point(reading.number, metrics, num_tokens=reading.num_tokens)
        self._send_progress()

    def _send_point(self, step: int, metrics: dict[str, float], *, num_tokens: int | None = None) -> None:
        tokens = self._clock.num_tokens if num_tokens is None else num_tokens
        self._pipe.send("point", step=step, tokens=tokens, elapsed_s=self._clock.elapsed_s, metrics=metrics)

    def _send_progress(self) -> None:
        clock = self._clock
        self._pipe.send(
            "progress", fraction=clock.fraction, eta_s=clock.eta_s, step=clock.num_steps, num_steps=clock.expected_steps
        )

    def _settle(self) -> None:
        """Read the losses that are still under way, and send those that are in no point yet."""
        last = self._losses.pop(everything=True)
        self._take(last)
        if self._telemetry.losses and last:
            self._send_losses(last[-1])

    @contextmanager
    def _aside(self, name: str) -> Iterator[None]:
        """Count the time in this block, which is not training, under ``name``."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._aside_s[name] += time.monotonic() - began

    def _finish(self) -> None:
        """Stop the clock. Called when ``steps`` ends and by ``save``, as a recipe may leave the loop early."""
        if self._clock.is_running:
            self._settle()
            self._clock.stop()
            if self._batches is not None:
                self._batches.close()

    def _ended(self) -> dict[str, Any]:
        """Numbers of the "ended" line; null for what this run never reached."""
        step_s = self._telemetry.all_step_s + self._telemetry.step_s
        return {
            "num_steps": self._clock.num_steps,
            "num_tokens": self._clock.num_tokens,
            "train_s": self._clock.elapsed_s if self._model is not None else None,
            "compile_s": self._warm_up.seconds if self._warm_up else None,
            "peak_memory_mib": peak_memory_mib(self._machine.device),
            "self_reported_bpb": self._watched.get("watch_bpb") if self._saved else None,
            "self_reported_loss": self._watched.get("watch_loss") if self._saved else None,
            **self._aside_s,
            **(percentiles_ms(step_s) if step_s else {}),
        }


WATCHED = {"watch_bpb": "bits per byte", "watch_loss": "nats per token", "logit_rms": "logit RMS"}
