"""The live validation curve: bits per byte on text that is held out from training.

Self-reported: the proposed code sits in the same process and could see this text. It shows people
how a run is going; verdicts use gpu_runner/score.py. The rows are evenly spaced over watch.bin and
do not depend on the batch size, which a proposal may change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gpu_runner.harness.batches import Dataset

WATCH_TOKENS = {"cpu": 16_384, "cuda": 1_048_576}
ROWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One look at a model."""

    nats_per_token: float  # NaN when the model's logits are
    bits_per_byte: float | None
    logit_rms: float  # of all logits: grows when training is about to go wrong


class Watch:
    """Rows of held-out text, evenly spaced: inputs and targets [N, T] int64."""

    def __init__(self, dataset: Dataset, *, seq_len: int, device: str) -> None:
        tokens, self.bytes_per_token = dataset.watch, dataset.bytes_per_token
        num_rows = min(WATCH_TOKENS[device] // seq_len, (len(tokens) - 1) // seq_len)
        starts = np.linspace(0, len(tokens) - seq_len - 1, max(num_rows, 1)).astype(np.int64)
        rows = torch.from_numpy(tokens[starts[:, None] + np.arange(seq_len + 1)]).long()
        self.x, self.y = rows[:, :-1].to(device), rows[:, 1:].to(device)

    @property
    def num_tokens(self) -> int:
        return self.y.numel()

    @torch.no_grad()
    def look(self, model: torch.nn.Module) -> Watched:
        """Measure over all positions, in evaluation mode."""
        nats, squares = torch.zeros((2,), dtype=torch.float32, device=self.x.device).unbind()
        was_training = model.training
        model.eval()
        for x, y in zip(torch.split(self.x, ROWS_AT_ONCE), torch.split(self.y, ROWS_AT_ONCE), strict=True):
            logits = model(x).float().flatten(0, 1)
            nats += cross_entropy(logits, y.flatten(), reduction="sum")
            squares += logits.square().mean(dim=-1).sum()
        model.train(was_training)
        per_token = nats.item() / self.num_tokens
        return Watched(
            nats_per_token=per_token,
            bits_per_byte=per_token / math.log(2) / self.bytes_per_token if self.bytes_per_token else None,
            logit_rms=math.sqrt(squares.item() / self.num_tokens),
        )
