"""``Run``: all that a recipe sees of the world. A recipe's ``train(run)`` goes

    config = ...                                    # run.knobs, run.vocab_size, run.dtype, run.attention
    model = build_model(config).to(run.device)
    batches = run.batches(batch_size, seq_len)      # (x, y), each [B, T] int64, in the seed's order
    run.begin(model, config, step=step, state=tensors, flops_per_token=...)
    for fraction in run.steps():                    # 0..1 of the budget; the clock runs inside
        x, y = next(batches)
        loss, _ = step(x, y, scale)
        run.report(loss, lr_scale=scale)            # nats per token, not .item(): that would stall a GPU
    run.save(model, config)

and must call ``begin``, ``report`` once a step, and ``save``. Between steps, the clock stopped, the
harness takes the watch curve; it sends points, and ends the run when a loss is not finite.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from gpu_runner.contract import Knobs
from gpu_runner.harness import checkpoint
from gpu_runner.harness.batches import Batches, load_pinned_manifest, open_shard
from gpu_runner.harness.clock import BudgetClock
from gpu_runner.harness.failures import BadOverride, NotFinite, RecipeError, is_out_of_memory
from gpu_runner.harness.losses import Losses, Step
from gpu_runner.harness.machine import Machine, peak_memory_mib
from gpu_runner.harness.pipe import Pipe
from gpu_runner.harness.spec import HarnessSpec
from gpu_runner.harness.watch import Watch

POINT_EVERY_S = 0.25
NUM_WATCHES = 10  # times that the watch curve is taken, the last time at the end
NUM_WARM_UP_STEPS = 2

StepFunction = Callable[[torch.Tensor, torch.Tensor, float], Any]


class Run:
    """One training process, as its recipe may see it. Names without underscore are the recipe's."""

    def __init__(self, spec: HarnessSpec, knobs: Knobs, machine: Machine, pipe: Pipe, out: Path) -> None:
        self.knobs = knobs
        self.seed = spec.seed
        self.device = machine.device
        self.dtype = machine.dtype  # compute dtype; keep weights in float32
        self.attention = machine.attention  # "math": write it out with a mask; "sdpa": torch's fused kernel
        self._spec, self._machine, self._pipe, self._out = spec, machine, pipe, out
        self._folder = Path(spec.dataset_dir)
        self._manifest = load_pinned_manifest(self._folder, spec.dataset_sha256)
        self.vocab_size = self._manifest.vocab
        self._clock = BudgetClock(spec.budget, spec.max_steps)
        self._losses = Losses(machine.device)
        self._compiled: list[_Compiled] = []
        self._batches: Batches | None = None
        self._watch: Watch | None = None
        self._model: torch.nn.Module | None = None
        self._flops_per_token = math.nan
        self._compile_s: float | None = None  # with the warm-up
        self._reported = True
        self._recent: list[float] = []  # losses since the last point
        self._last_point = (0.0, 0)  # elapsed_s, num_tokens
        self._watch_bpb: float | None = None
        self._saved = False

    # --- before the clock --------------------------------------------------------------------

    def refuse(self, reason: str) -> NoReturn:
        """End the run because knobs do not fit each other; ``reason`` names the knob and the way out."""
        raise BadOverride(reason)

    def batches(self, batch_size: int, seq_len: int) -> Batches:
        """Training text in the seed's order: an endless iterator over (x, y), each [B, T] int64."""
        if self._batches is not None:
            raise RecipeError("run.batches: may be called once; the order of the text belongs to the seed")
        tokens = open_shard(self._folder, "train", self._manifest)
        self._batches = Batches(
            tokens, batch_size=batch_size, seq_len=seq_len, seed=self.seed, device=self.device, drawn=self._drawn
        )
        held_out = open_shard(self._folder, "watch", self._manifest)
        self._watch = Watch(held_out, seq_len=seq_len, device=self.device)
        return self._batches

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` compiled for fixed shapes where that pays (GPU), else as it is."""
        if not self._machine.compiles:
            return function
        self._compiled.append(_Compiled(function))
        return self._compiled[-1]

    def begin(
        self,
        model: torch.nn.Module,
        config: dict[str, Any],
        *,
        step: StepFunction,
        state: Sequence[torch.Tensor],
        flops_per_token: float,
    ) -> None:
        """Compile and warm up on dummy tokens, take it all back, say ``started``, start the clock.

        ``step(x, y, lr_scale)`` is one whole step; ``state`` is every tensor it changes beside the
        model's own. All are put back in place, so that warming up cannot be told from the weights.
        """
        if self._batches is None:
            raise RecipeError("run.begin: call run.batches first")
        self._model, self._flops_per_token = model, flops_per_token
        self._clock.plan(self._batches.batch_size * self._batches.seq_len, flops_per_token)
        self._warm_up(step, [*model.parameters(), *model.buffers(), *state])
        self._pipe.send("started", **self._started(model, config))
        gc.collect()
        gc.freeze()  # a collection in the middle of training stalls it for up to half a second
        self._clock.start()

    # --- inside the clock ----------------------------------------------------------------------

    def steps(self) -> Iterator[float]:
        """One turn a step while the budget lasts: the fraction (0..1) of it that is spent."""
        if self._model is None or self._batches is None:
            raise RecipeError("run.steps: call run.begin first")
        next_watch = 1 / NUM_WATCHES
        tokens_in_step = self._batches.batch_size * self._batches.seq_len
        while self._clock.allows(tokens_in_step):
            before, self._reported = self._clock.num_tokens, False
            yield self._clock.fraction
            if not self._reported:
                raise RecipeError("run.report: must be called once in every step")
            tokens_in_step = self._clock.num_tokens - before
            if not tokens_in_step:
                raise RecipeError("run.batches: a step drew no batch, so the budget would never be spent")
            if next_watch <= self._clock.fraction < 1 and self._spec.max_steps is None:
                next_watch = math.floor(self._clock.fraction * NUM_WATCHES + 1) / NUM_WATCHES
                self._take_watch()
        self._finish()

    def report(self, loss: torch.Tensor, **extras: float | torch.Tensor) -> None:
        """The step's loss in nats per token, [] float; ``extras`` (lr_scale, grad_norm) join the points."""
        self._clock.num_steps += 1
        self._reported = True
        self._losses.push(
            Step(number=self._clock.num_steps, num_tokens=self._clock.num_tokens, loss=loss, extras=extras)
        )
        self._take(self._losses.pop())

    def save(self, model: torch.nn.Module, config: dict[str, Any]) -> None:
        """Take the last watch measurement of ``model`` and write it and ``config`` for the scorer."""
        if self._watch is None or self._model is None:
            raise RecipeError("run.save: call run.batches, run.begin and run.steps first")
        self._finish()
        self._watch_bpb = self._bits_per_byte(model)
        self._send_point(self._clock.num_steps, {"watch_bpb": self._watch_bpb})
        checkpoint.save(self._out, model, config)
        self._saved = True

    # --- the harness's own -----------------------------------------------------------------------

    def _drawn(self, num_tokens: int) -> None:
        self._clock.num_tokens += num_tokens

    def _warm_up(self, step: StepFunction, tensors: Sequence[torch.Tensor]) -> None:
        began = time.monotonic()
        kept = [tensor.detach().clone() for tensor in tensors]
        try:
            self._dummy_steps(step)
        except Exception as error:
            if not self._compiled or is_out_of_memory(error):
                raise
            self._pipe.log("warning", f"torch.compile failed, training eager: {type(error).__name__}: {error}"[:1_500])
            for compiled in self._compiled:
                compiled.fall_back()
            self._put_back(tensors, kept)
            self._dummy_steps(step)
        self._put_back(tensors, kept)
        self._compile_s = time.monotonic() - began

    def _dummy_steps(self, step: StepFunction) -> None:
        assert self._batches is not None
        for _ in range(NUM_WARM_UP_STEPS):
            step(*self._batches.dummy(), 1.0)
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()

    @torch.no_grad()
    def _put_back(self, tensors: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]) -> None:
        for tensor, old in zip(tensors, kept, strict=True):
            tensor.copy_(old)  # in place: a compiled graph holds on to the tensor itself
            tensor.grad = None

    def _started(self, model: torch.nn.Module, config: dict[str, Any]) -> dict[str, Any]:
        return {
            "device": self._machine.device,
            "device_name": self._machine.name,
            "dtype": self._machine.dtype,
            "compile": any(c.works for c in self._compiled),
            "attention": self._machine.attention,
            "num_params": sum(p.numel() for p in model.parameters()),
            "flops_per_token": self._flops_per_token,
            "knobs": self.knobs,
            "config": config,
            "torch": torch.__version__,
            "threads": self._machine.threads,
            "compile_s": self._compile_s,
        }

    def _take(self, known: list[tuple[Step, float]]) -> None:
        for step, loss in known:
            if not math.isfinite(loss):
                raise NotFinite(f"The loss became {loss} at step {step.number}.")
            self._recent.append(loss)
            elapsed_s = self._clock.elapsed_s
            if self._spec.max_steps is not None or elapsed_s - self._last_point[0] >= POINT_EVERY_S:
                self._send_losses(step, elapsed_s)

    def _send_losses(self, step: Step, elapsed_s: float) -> None:
        """A point: the mean loss since the last one, the rate since the last one, the step's extras."""
        since_s, since_tokens = self._last_point
        rate = (step.num_tokens - since_tokens) / max(elapsed_s - since_s, 1e-9)
        nats = math.fsum(self._recent) / len(self._recent)
        metrics = {
            "train_loss": nats,
            "train_bpb": nats / math.log(2),
            "tokens_per_s": rate,
            "peak_memory_mib": peak_memory_mib(self._machine.device),
            **{name: float(value) for name, value in step.extras.items()},
        }
        if self._machine.peak_flops is not None:
            metrics["mfu_percent"] = 100 * rate * self._flops_per_token / self._machine.peak_flops
        self._recent.clear()
        self._last_point = (elapsed_s, step.num_tokens)
        self._send_point(step.number, metrics, num_tokens=step.num_tokens)
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
        """Read the losses that are still on their way, and send what no point has carried yet."""
        last = self._losses.pop(everything=True)
        self._take(last)
        if self._recent and last:
            self._send_losses(last[-1][0], self._clock.elapsed_s)

    def _finish(self) -> None:
        """End training time; again when ``steps`` ran out and ``save`` follows, once when the recipe left its loop."""
        if self._clock.is_running:
            self._settle()
            self._clock.stop()

    def _take_watch(self) -> None:
        assert self._model is not None
        self._settle()
        with self._clock.stopped():
            self._watch_bpb = self._bits_per_byte(self._model)
            self._send_point(self._clock.num_steps, {"watch_bpb": self._watch_bpb})

    def _bits_per_byte(self, model: torch.nn.Module) -> float:
        assert self._watch is not None
        bpb = self._watch.bits_per_byte(model)
        step = self._clock.num_steps
        if not math.isfinite(bpb):
            raise NotFinite(f"The held-out loss became {bpb} at step {step}.")
        self._pipe.log("eval", f"step {step}: {bpb:.4f} bits per byte on {self._watch.num_tokens:,} held-out bytes")
        return bpb

    def _ended(self) -> dict[str, Any]:
        """Numbers for the last line; null for those that this run never got to."""
        return {
            "num_steps": self._clock.num_steps,
            "num_tokens": self._clock.num_tokens,
            "train_s": self._clock.elapsed_s if self._model is not None else None,
            "compile_s": self._compile_s,
            "peak_memory_mib": peak_memory_mib(self._machine.device),
            "self_reported_bpb": self._watch_bpb if self._saved else None,
        }


class _Compiled:
    """A function that is compiled when it is first called, and can go back to being the plain one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.plain = function
        self.function: Callable[..., Any] | None = None
        self.works = True

    def fall_back(self) -> None:
        self.function, self.works = self.plain, False

    def __call__(self, *args: Any) -> Any:
        if self.function is None:
            self.function = torch.compile(self.plain, dynamic=False)
        return self.function(*args)
