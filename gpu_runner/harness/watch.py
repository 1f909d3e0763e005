"""The watch curve: bits per byte on text that is held out from training, measured while a run trains.

Self-reported: the proposed code sits in the same process and could see this text. It shows people
how a run is going; verdicts use gpu_runner/scorer/score.py. The rows are evenly spaced over the watch split
and do not depend on the batch size, which a proposal may change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gpu_runner.data.tokens import Row
from gpu_runner.harness.dataset import Dataset

WATCH_TOKENS = {"cpu": 16_384, "cuda": 1_048_576}
ROWS_AT_ONCE = 16
LOGITS_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}  # of rows that are looked at together; one row at least


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One measurement of a model on the watch split."""

    nats_per_token: float  # NaN when the model's logits are
    bits_per_byte: float | None  # over tokens that stand for text; None where their bytes are not known
    logit_rms: float  # of all logits: grows when training is about to go wrong


class Watch:
    """Evenly spaced rows of the watch split: inputs ``x`` and targets ``y``, [N, T] int64, and which targets count.

    Raises BadOverride when a row of ``seq_len`` is longer than the text, DatasetMissing when any row would be.
    """

    def __init__(self, dataset: Dataset, *, seq_len: int, device: str) -> None:
        dataset.refuse_longer_rows(seq_len)
        self.num_rows = max(min(WATCH_TOKENS[device], dataset.num_tokens("watch") - 1) // seq_len, 1)
        self.dataset, self.seq_len, self.device = dataset, seq_len, device
        self.rows_at_once = max(1, min(ROWS_AT_ONCE, LOGITS_BYTES[device] // (4 * dataset.vocab * seq_len)))

    @cached_property
    def rows(self) -> Row:
        """[N, T + 1], asked for at the first measurement, since no text is handed out before the clock runs."""
        return self.dataset.supply.watch(self.num_rows, self.seq_len + 1).astype(np.int64)

    @cached_property
    def x(self) -> torch.Tensor:
        return torch.from_numpy(self.rows[:, :-1].copy()).to(self.device)

    @cached_property
    def y(self) -> torch.Tensor:
        return torch.from_numpy(self.rows[:, 1:].copy()).to(self.device)

    @cached_property
    def num_bytes(self) -> int | None:
        """Bytes of text that the targets stand for; None where they are not known."""
        table = self.dataset.token_bytes
        return None if table is None else int(table[self.rows[:, 1:]].sum(dtype=np.int64))

    @cached_property
    def counted(self) -> torch.Tensor | None:
        """[N, T] 1.0 where a target stands for text, 0.0 at the ends of documents."""
        table = self.dataset.token_bytes
        if table is None:
            return None
        return torch.from_numpy((table[self.rows[:, 1:]] > 0).astype(np.float32)).to(self.device)

    @property
    def num_tokens(self) -> int:
        return self.num_rows * self.seq_len

    @torch.no_grad()
    def look(self, model: torch.nn.Module) -> Watched:
        """Measure over all positions, in evaluation mode."""
        nats, of_text, squares = torch.zeros((3,), dtype=torch.float64, device=self.x.device).unbind()
        was_training = model.training
        model.eval()
        for first in range(0, len(self.x), self.rows_at_once):
            here = slice(first, first + self.rows_at_once)
            logits = model(self.x[here]).float().flatten(0, 1)
            losses = cross_entropy(logits, self.y[here].flatten(), reduction="none")
            nats += losses.sum(dtype=torch.float64)
            squares += logits.square().mean(dim=-1).sum(dtype=torch.float64)
            if self.counted is not None:
                of_text += (losses * self.counted[here].flatten()).sum(dtype=torch.float64)
        model.train(was_training)
        return Watched(
            nats_per_token=nats.item() / self.num_tokens,
            bits_per_byte=of_text.item() / math.log(2) / self.num_bytes if self.num_bytes else None,
            logit_rms=math.sqrt(squares.item() / self.num_tokens),
        )
