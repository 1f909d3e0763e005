"""Matrix products in 8 bits, forward and backward, beside the arithmetic that they stand for."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def fp8_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T with all three products, its own and the two of its gradient, in 8 bits.

    x [..., D], weight [F, D] -> [..., F] in x's dtype; all of N, D and F multiples of 16. One scale a
    tensor; e4m3 for x and weight, e5m2, which reaches further, for the gradient (Micikevicius et al. 2022;
    so in nanochat and torchao). Give it the float32 weight: it is rounded once, and so is its gradient.
    In plain torch, which has these products on CPUs too, if slow: the compiler fuses the casts into what
    stands before them.
    """
    return _Fp8Linear.apply(x.flatten(0, -2), weight).unflatten(0, x.shape[:-1])


def reference_fp8_linear(x: Tensor, weight: Tensor) -> Tensor:
    """The same numbers rounded to 8 bits and back, and the products in float32."""
    rounded_x = _Rounded.apply(x.float(), torch.float8_e4m3fn, None)
    rounded_weight = _Rounded.apply(weight.float(), torch.float8_e4m3fn, None)
    y = F.linear(rounded_x, rounded_weight)
    return _Rounded.apply(y, None, torch.float8_e5m2).to(x.dtype)


def _to_fp8(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x as ``dtype``, scaled so that its largest number is the dtype's; and what to multiply by to undo that.

    Nothing is clamped: rounding the scale moves the largest number by far less than half a step of the
    dtype. An infinite or missing number makes all of the product NaN, which ends the run with the cause.
    """
    # The floor serves a projection that starts at zero, and lies far below any gradient: 1e-12 would not.
    scale = torch.finfo(dtype).max / x.abs().amax().float().clamp(min=1e-30)
    return (x.float() * scale).to(dtype), scale.reciprocal()


class _Rounded(torch.autograd.Function):
    """To 8 bits and back: the number on its way forward, its gradient on its way back, or neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward_dtype: torch.dtype | None, backward_dtype: torch.dtype | None) -> Tensor:
        ctx.dtype = backward_dtype
        return _rounded(x, forward_dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _rounded(grad, ctx.dtype), None, None


def _rounded(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None:
        return x.clone()
    x8, undo = _to_fp8(x, dtype)
    return x8.float() * undo


class _Fp8Linear(torch.autograd.Function):
    """torch._scaled_mm wants its first matrix by rows and its second by columns: hence the transposed copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """x [N, D], weight [F, D] -> [N, F]. Keeps both in 8 bits."""
        x8, undo_x = _to_fp8(x, torch.float8_e4m3fn)
        weight8, undo_weight = _to_fp8(weight, torch.float8_e4m3fn)
        ctx.save_for_backward(x8, undo_x, weight8, undo_weight)
        ctx.dtypes = x.dtype, weight.dtype
        # Fast accumulation, in fewer than 32 bits, is precise enough for the forward pass alone (nanochat).
        return torch._scaled_mm(
            x8, weight8.mT, scale_a=undo_x, scale_b=undo_weight, out_dtype=x.dtype, use_fast_accum=True
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x8, undo_x, weight8, undo_weight = ctx.saved_tensors
        x_dtype, weight_dtype = ctx.dtypes
        grad8, undo_grad = _to_fp8(grad.contiguous(), torch.float8_e5m2)
        of_x = torch._scaled_mm(
            grad8, weight8.mT.contiguous().mT, scale_a=undo_grad, scale_b=undo_weight, out_dtype=x_dtype
        )
        of_weight = torch._scaled_mm(
            grad8.mT.contiguous(), x8.mT.contiguous().mT, scale_a=undo_grad, scale_b=undo_x, out_dtype=weight_dtype
        )
        return of_x, of_weight
