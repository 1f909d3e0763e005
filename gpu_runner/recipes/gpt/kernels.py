"""Placeholder until K's file: the eager references."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def softcapped_cross_entropy(logits: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor]:
    logits = logits.float()
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    log_z = logits.logsumexp(-1)
    return log_z - logits.gather(-1, targets[:, None])[:, 0], log_z


def relu2_mlp(x: Tensor, up: Tensor, proj: Tensor) -> Tensor:
    return F.linear(F.relu(F.linear(x, up)).square(), proj)


def fp8_linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight)


CHUNK = 128


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int, documents: Tensor | None) -> Tensor:
    T, share = q.size(2), q.size(1) // k.size(1)
    if share > 1:
        k, v = (t.repeat_interleave(share, dim=1) for t in (k, v))
    parts = []
    for start in range(0, T, CHUNK):
        end, first = min(start + CHUNK, T), max(0, start - window + 1)
        rows = torch.arange(start, end, device=q.device)[:, None]
        cols = torch.arange(first, end, device=q.device)
        seen = (cols <= rows) & (cols > rows - window)
        if documents is not None:
            seen = seen & (documents[:, None, start:end, None] == documents[:, None, None, first:end])
        scores = q[:, :, start:end] @ k[:, :, first:end].mT * q.size(-1) ** -0.5
        parts.append(scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v[:, :, first:end])
    return torch.cat(parts, dim=2)
