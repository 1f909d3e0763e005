"""Our side of a comparison: the shipped recipe under the real harness, held between the rounds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gpu_runner.harness.loading import load_recipe
from gpu_runner.harness.machine import attention_kernels, detect
from gpu_runner.harness.pipe import Pipe
from gpu_runner.harness.run import Run
from gpu_runner.harness.spec import HarnessSpec, effective_knobs
from tests.benchmarks.order import Order, Shape
from tests.benchmarks.pace import Built, Pace
from tests.gpu_runner.training import RECIPE, make_spec

FOR_EVER = 1e15  # tokens: the schedule stays at its beginning


class PacedRun(Run):
    """A run that trains when it is asked to. Batches, losses, telemetry and reports are the harness's own."""

    pace: Pace
    is_paced = True

    def begin(self, model: torch.nn.Module, config: dict[str, Any], **rest: Any) -> None:
        super().begin(model, config, **rest)
        assert self._batches is not None and self._warm_up is not None
        how = "compiled" if self._warm_up.is_compiled else "eager"
        self.pace.built(
            Built(
                num_params=sum(p.numel() for p in model.parameters()),
                flops_per_token=rest["flops_per_token"],
                tokens_per_step=self._batches.batch_size * self._batches.seq_len,
                about=f"{self.dtype}, {self._machine.attention_kernel} attention, {how}",
            )
        )

    def steps(self) -> Iterator[float]:
        for fraction in super().steps():
            if self.is_paced:
                self.pace.step()
            yield fraction

    def report(self, loss: torch.Tensor, **extras: float | torch.Tensor) -> None:
        super().report(self.pace.note(loss), **extras)


def knobs_of(shape: Shape) -> dict[str, Any]:
    """The overrides that give the recipe this shape. Raises ValueError where depth x aspect cannot."""
    aspect, rest = divmod(shape.width, shape.depth)
    if rest:
        raise ValueError(f"width: {shape.width} is no multiple of {shape.depth} layers, which our recipe's is")
    parts = {} if shape.micro_rows == shape.batch_rows else {"micro_batch": shape.micro_rows}
    same = {"depth": shape.depth, "head_dim": shape.head_dim, "seq_len": shape.seq_len, "batch_size": shape.batch_rows}
    return same | {"aspect": aspect} | parts


def train(order: Order, pace: Pace) -> None:
    """Train as ``order`` says, round by round; with ``budget_s`` at one go, and answer with the held-out loss."""
    run, source = _make_run(order, pace), RECIPE
    recipe = load_recipe(source)
    with attention_kernels(run._machine):
        recipe.train(run)
    pace.answer({"val_loss": run._watched["watch_loss"], "num_tokens": run._clock.num_tokens})


def _make_run(order: Order, pace: Pace) -> PacedRun:
    paced = order.budget_s is None
    wanted = make_spec(
        Path(order.dataset),
        budget={"kind": "tokens", "amount": FOR_EVER} if paced else {"kind": "seconds", "amount": order.budget_s},
        max_steps=None,
        threads=order.threads,
        device=order.device,
        overrides=knobs_of(order.shape) | order.knobs,
        compile="always" if order.compile else "never",
    )
    spec = HarnessSpec.model_validate(wanted)
    machine = detect(spec.device, spec.threads, spec.dtype)
    torch.manual_seed(spec.seed)
    out = Path(order.folder) / "out"
    out.mkdir()
    pipe = Pipe(os.open(out / "reports.jsonl", os.O_WRONLY | os.O_CREAT))
    run = PacedRun(spec, effective_knobs(RECIPE, spec.overrides), machine, pipe, out)
    run.pace, run.is_paced = pace, paced
    if order.token_file is not None:
        _read_instead(run, order)
    return run


def _read_instead(run: PacedRun, order: Order) -> None:
    """Other tokens than the dataset's, without a word on how many bytes they stand for."""
    train, watch = order.texts()
    run._dataset = SimpleNamespace(  # type: ignore[assignment]
        vocab=order.shape.vocab,
        separator=None,
        bytes_per_token=None,
        token_bytes=None,
        train=InOneFile(train),
        watch=InOneFile(watch),
    )
    run.vocab_size, run.separator = order.shape.vocab, None


class InOneFile:
    """Tokens of a file [N] as the harness reads a dataset's."""

    def __init__(self, tokens: npt.NDArray[Any]) -> None:
        self.tokens, self.dtype = tokens, tokens.dtype

    def __len__(self) -> int:
        return len(self.tokens)

    def rows(self, starts: Any, length: int, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """The tokens [start, start + length) for each start, [B, length]; written to ``out`` where it is given."""
        rows = self.tokens[np.asarray(starts)[:, None] + np.arange(length)]
        if out is None:
            return rows
        out[:] = rows
        return out
