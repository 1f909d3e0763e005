"""The live validation curve: bits per byte on text that is held out from training.

Self-reported: the proposed code sits in the same process and could see this text. It shows people
how a run is going; verdicts use gpu_runner/score.py. The rows are evenly spaced over watch.bin and
do not depend on the batch size, which a proposal may change.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gpu_runner.harness.batches import Tokens

WATCH_TOKENS = {"cpu": 16_384, "cuda": 1_048_576}
ROWS_AT_ONCE = 16


class Watch:
    """Rows of held-out text, evenly spaced: inputs and targets [N, T] int64."""

    def __init__(self, tokens: Tokens, *, seq_len: int, device: str) -> None:
        num_rows = min(WATCH_TOKENS[device] // seq_len, (len(tokens) - 1) // seq_len)
        starts = np.linspace(0, len(tokens) - seq_len - 1, max(num_rows, 1)).astype(np.int64)
        rows = torch.from_numpy(tokens[starts[:, None] + np.arange(seq_len + 1)]).long()
        self.x, self.y = rows[:, :-1].to(device), rows[:, 1:].to(device)

    @property
    def num_tokens(self) -> int:
        return self.y.numel()

    @torch.no_grad()
    def bits_per_byte(self, model: torch.nn.Module) -> float:
        """Mean over all positions; one token is one byte. NaN when the model's logits are."""
        nats = torch.zeros((), dtype=torch.float32, device=self.x.device)
        was_training = model.training
        model.eval()
        for x, y in zip(torch.split(self.x, ROWS_AT_ONCE), torch.split(self.y, ROWS_AT_ONCE), strict=True):
            nats += cross_entropy(model(x).float().flatten(0, 1), y.flatten(), reduction="sum")
        model.train(was_training)
        return nats.item() / self.num_tokens / math.log(2)
