"""What kernels are held against, written out densely."""

from __future__ import annotations

import torch

from tests.gpu_runner import parity

# Relative to the largest number. float32: sums of up to 5,000 terms and exponents, 40 ulp. 16 bits: rounded to nearest,
# which is half an ulp, once where a result leaves the kernel, and in the MLP once before, in h.
ALLOWED = {"float32": 40 * 2**-23, "float16": 2**-10, "bfloat16": 2**-7}


def through_fp8(
    x: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor, name: str = "fp8_linear"
) -> dict[str, torch.Tensor]:
    """y and both gradients."""
    x, weight = parity.leaves(x, weight)
    y = getattr(parity.recipe_module("fp8"), name)(x, weight)
    y.backward(grad)
    return {"y": y.detach(), "x": x.grad, "weight": weight.grad}


def dense_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """With the mask that the recipe never makes, ``seen`` [[[num_rows]]]."""
    k, v = (t.repeat_interleave(q.size(1) // t.size(1), dim=1) for t in (k, v))
    scores = (q @ k.mT * q.size(-1) ** -0.5).masked_fill(~seen, float("-inf"))
    return scores.softmax(dim=-1) @ v


def who_sees_whom(seq_len: int, window: int, documents: torch.Tensor | None) -> torch.Tensor:
    at = torch.arange(seq_len)
    seen = ((at <= at[:, None]) & (at[:, None] - at < window))[None, None]
    return seen if documents is None else seen & (documents[:, None, :, None] == documents[:, None, None, :])


def some_documents(num_rows: int, seq_len: int) -> torch.Tensor:
    return (torch.rand(num_rows, seq_len) < 5 / seq_len).long().cumsum(1)
