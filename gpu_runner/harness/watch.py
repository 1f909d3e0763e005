"""The live validation curve: bits per byte on text that is held out from training.

Self-reported: the proposed code sits in the same process and could see this text. It shows people
how a run is going; verdicts use gpu_runner/score.py. The rows are evenly spaced over the watch split
and do not depend on the batch size, which a proposal may change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gpu_runner.harness.dataset import Dataset
from gpu_runner.harness.failures import RecipeError

WATCH_TOKENS = {"cpu": 16_384, "cuda": 1_048_576}
ROWS_AT_ONCE = 16
LOGITS_BYTES = {"cpu": 64 << 20, "cuda": 1 << 30}  # of rows that are looked at together; one row at least


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One look at a model."""

    nats_per_token: float  # NaN when the model's logits are
    bits_per_byte: float | None  # over tokens that stand for text; None where their bytes are not known
    logit_rms: float  # of all logits: grows when training is about to go wrong


class Watch:
    """Rows of held-out text, evenly spaced: inputs and targets [N, T] int64, and which targets count.

    Raises RecipeError when ``seq_len`` is longer than the watch text.
    """

    def __init__(self, dataset: Dataset, *, seq_len: int, device: str) -> None:
        tokens = dataset.watch
        num_rows = min(WATCH_TOKENS[device] // seq_len, (len(tokens) - 1) // seq_len)
        if len(tokens) < seq_len + 1:
            raise RecipeError(f"seq_len: {seq_len} is too long for {len(tokens):,} tokens of watch text")
        starts = np.linspace(0, len(tokens) - seq_len - 1, max(num_rows, 1)).astype(np.int64)
        rows = tokens.rows(starts, seq_len + 1).astype(np.int64)
        self.x, self.y = (torch.from_numpy(part.copy()).to(device) for part in (rows[:, :-1], rows[:, 1:]))
        table = dataset.token_bytes
        num_bytes = None if table is None else table[rows[:, 1:]].astype(np.int64)
        self.num_bytes = None if num_bytes is None else int(num_bytes.sum())
        # [N, T] 1.0 where a target stands for text, 0.0 at the ends of documents
        self.counted = None if num_bytes is None else torch.from_numpy((num_bytes > 0).astype(np.float32)).to(device)
        self.rows_at_once = max(1, min(ROWS_AT_ONCE, LOGITS_BYTES[device] // (4 * dataset.vocab * self.x.shape[1])))

    @property
    def num_tokens(self) -> int:
        return self.y.numel()

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
