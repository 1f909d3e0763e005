"""Fused operations, each beside the eager reference that says what it computes. Proposals edit this file too.

Read downward: cross-entropy -> MLP -> symmetric products -> fp8 -> attention. Of every operation there is a
``reference_*`` in plain torch, which a CPU runs, and a public function, which takes the fused one on a GPU.

The fused ones are ``torch.library.custom_op``: opaque to the compiler, so that a compiled step calls them
without a graph break and the same kernel runs eager, compiled and, on CPU tensors, under Triton's
interpreter (TRITON_INTERPRET=1). The price is that nothing is fused across their border. Not ``triton_op``:
the compiler could look inside, but it takes no interpreted kernel, and a machine without a GPU could test none.

Letters as in train.py; N = B*T tokens, S matrices in a stack of [R, C].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

try:
    import triton
    import triton.language as tl
    from triton.language import constexpr
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:  # Triton comes with torch's CUDA builds; macOS has none
    triton = None

INTERPRETED = triton is not None and triton.knobs.runtime.interpret


def _jit(function: Any) -> Any:
    return function if triton is None else triton.jit(function)


def _fuses(x: Tensor) -> bool:
    return triton is not None and x.is_cuda


# --- cross-entropy under a soft cap ------------------------------------------------------------


def softcapped_cross_entropy(logits: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor]:
    """Cap logits [N, V] smoothly to ± ``softcap`` (0: as they are); targets [N] int64, each below V.

    Returns the cross-entropy in nats and the log of the softmax's denominator (for the z-loss), each
    [N] float32; both can be differentiated. Sums are float32; the gradient has the logits' dtype.
    Fused, it reads the logits once each way and keeps nothing of their size beside themselves and
    their gradient: no float32 copy, no probabilities. The method is that of Liger (Hsu et al. 2024)
    and modded-nanogpt, by Milakov and Gimelshein's online softmax (2018). Unlike Liger's, the gradient
    is not written over the logits: a compiler that saved them may read them again.
    """
    if _fuses(logits):
        return fused_cross_entropy(logits, targets, softcap)
    return reference_cross_entropy(logits, targets, softcap)


def reference_cross_entropy(logits: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor]:
    logits = logits.float()
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    log_z = logits.logsumexp(-1)
    return log_z - logits.gather(-1, targets[:, None])[:, 0], log_z


@_jit
def _cap(x, SOFTCAP: constexpr):
    """softcap * tanh(x / softcap). By exp, which neither overflows to NaN nor needs a device library."""
    if SOFTCAP == 0:
        return x
    else:  # noqa: RET505  # Triton takes a return only where the branch is decided at compile time
        return SOFTCAP * (1 - 2 / (1 + tl.exp(x * (2 / SOFTCAP))))


@_jit
def _cross_entropy_forward(logits, targets, nats, log_z, V, SOFTCAP: constexpr, BLOCK: constexpr):
    """One row a program: a running maximum, and the sum of exponents relative to it."""
    row = tl.program_id(0).to(tl.int64)  # N * V passes 2^31
    logits += row * V
    largest = tl.full((), -float("inf"), tl.float32)
    total = tl.full((), 0.0, tl.float32)
    for start in range(0, V, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        x = tl.load(logits + columns, mask=columns < V, other=0.0).to(tl.float32)
        x = tl.where(columns < V, _cap(x, SOFTCAP), -float("inf"))
        new_largest = tl.maximum(largest, tl.max(x, 0))
        total = total * tl.exp(largest - new_largest) + tl.sum(tl.exp(x - new_largest), 0)
        largest = new_largest
    z = largest + tl.log(total)
    hit = tl.load(logits + tl.load(targets + row)).to(tl.float32)
    tl.store(log_z + row, z)
    tl.store(nats + row, z - _cap(hit, SOFTCAP))


@_jit
def _cross_entropy_backward(
    logits, targets, log_z, grad_nats, grad_log_z, grad, V, SOFTCAP: constexpr, BLOCK: constexpr
):
    """One block of one row a program."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits + row * V + columns, mask=columns < V, other=0.0).to(tl.float32)
    x = _cap(x, SOFTCAP)
    of_nats = tl.load(grad_nats + row)
    share = tl.exp(x - tl.load(log_z + row))  # the softmax
    slope = share * (of_nats + tl.load(grad_log_z + row))
    slope -= tl.where(columns == tl.load(targets + row), of_nats, 0.0)
    if SOFTCAP != 0:
        slope *= 1 - (x / SOFTCAP) * (x / SOFTCAP)
    tl.store(grad + row * V + columns, slope.to(grad.dtype.element_ty), mask=columns < V)


def _block_of(V: int) -> int:
    """Powers of two only. 4096 x 8 warps: 16 logits a thread, two 16-byte loads of bf16."""
    return min(4096, 1 << (V - 1).bit_length())


@torch.library.custom_op("countersign::cross_entropy", mutates_args=())
def fused_cross_entropy(logits: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor]:
    (N, V), logits = logits.shape, logits.contiguous()
    nats = logits.new_empty(N, dtype=torch.float32)
    log_z = torch.empty_like(nats)
    _cross_entropy_forward[(N,)](
        logits, targets.contiguous(), nats, log_z, V, SOFTCAP=softcap, BLOCK=_block_of(V), num_warps=8
    )
    return nats, log_z


@torch.library.custom_op("countersign::cross_entropy_backward", mutates_args=())
def fused_cross_entropy_backward(
    logits: Tensor, targets: Tensor, log_z: Tensor, grad_nats: Tensor, grad_log_z: Tensor, softcap: float
) -> Tensor:
    (N, V), logits = logits.shape, logits.contiguous()
    grad, block = torch.empty_like(logits), _block_of(V)
    _cross_entropy_backward[(N, triton.cdiv(V, block))](
        logits,
        targets.contiguous(),
        log_z,
        grad_nats.contiguous(),  # of a mean, it is one number expanded
        grad_log_z.contiguous(),
        grad,
        V,
        SOFTCAP=softcap,
        BLOCK=block,
        num_warps=8,
    )
    return grad


@fused_cross_entropy.register_fake
def _(logits: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor]:
    nats = logits.new_empty(logits.size(0), dtype=torch.float32)
    return nats, torch.empty_like(nats)


@fused_cross_entropy_backward.register_fake
def _(logits: Tensor, targets: Tensor, log_z: Tensor, grad_nats: Tensor, grad_log_z: Tensor, softcap: float) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def _keep_for_cross_entropy(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, targets, ctx.softcap = inputs
    ctx.save_for_backward(logits, targets, output[1])


def _cross_entropy_gradient(ctx: Any, grad_nats: Tensor, grad_log_z: Tensor) -> tuple[Tensor, None, None]:
    return fused_cross_entropy_backward(*ctx.saved_tensors, grad_nats, grad_log_z, ctx.softcap), None, None


fused_cross_entropy.register_autograd(_cross_entropy_gradient, setup_context=_keep_for_cross_entropy)


# --- MLP with ReLU² ----------------------------------------------------------------------------


def relu2_mlp(x: Tensor, up: Tensor, proj: Tensor) -> Tensor:
    """relu(x @ up.T)² @ proj.T. x [..., D], up [F, D], proj [D, F] -> [..., D].

    Fused, the activation is applied to the first product before it leaves the chip, and its slope to
    the gradient likewise. Only h = relu(.)² is kept, one [N, F]: the second product's gradient needs it,
    and the activation's slope is 2 sqrt(h) (as in modded-nanogpt). D and F: multiples of 8 in bf16.
    """
    if _fuses(x):
        return fused_relu2_mlp(x.flatten(0, -2), up, proj)[0].view_as(x)
    return reference_relu2_mlp(x, up, proj)


def reference_relu2_mlp(x: Tensor, up: Tensor, proj: Tensor) -> Tensor:
    return F.linear(F.relu(F.linear(x, up)).square(), proj)


def _set_tiles(arguments: dict[str, Any]) -> None:
    """Tell the descriptors the shape of the tiles that are about to be tried or used."""
    rows, columns, inner = (arguments[name] for name in ("ROWS", "COLUMNS", "INNER"))
    arguments["a"].block_shape = [rows, inner]
    arguments["b"].block_shape = [columns, inner] if arguments["FORWARD"] else [inner, columns]
    arguments["h"].block_shape = arguments["out"].block_shape = [rows, columns]


def _tuned(key: list[str], sizes: list[tuple[dict[str, int], int, int]], hook: Any = None) -> Any:
    """Of (tile sizes, warps, stages) the fastest for each ``key``; the first where an interpreter has no clock."""
    if triton is None:
        return lambda function: function
    configs = [
        triton.Config(tiles, num_warps=warps, num_stages=stages, pre_hook=hook) for tiles, warps, stages in sizes
    ]
    return triton.autotune(configs[:1] if INTERPRETED else configs, key=key)


# For Hopper's 227 KiB of shared memory; the first is small for the interpreter, and for smaller GPUs.
RELU2_TILES = [
    ({"ROWS": 64, "COLUMNS": 64, "INNER": 32}, 4, 3),
    ({"ROWS": 128, "COLUMNS": 128, "INNER": 64}, 4, 4),
    ({"ROWS": 128, "COLUMNS": 128, "INNER": 64}, 8, 3),
    ({"ROWS": 128, "COLUMNS": 256, "INNER": 64}, 8, 4),
    ({"ROWS": 256, "COLUMNS": 128, "INNER": 64}, 8, 3),
]


@_tuned(["F", "D", "FORWARD"], RELU2_TILES, _set_tiles)  # not by N: the scorer's rows get what training got
@_jit
def _relu2_product(a, b, h, out, N, F, D, FORWARD: constexpr, ROWS: constexpr, COLUMNS: constexpr, INNER: constexpr):
    """One tile of out [N, F] a program. Forward: relu(a @ b.T)²; backward: (a @ b) * 2 sqrt(h)."""
    # Eight rows of tiles go through the columns together, so that what they share stays in the L2 cache.
    num_rows, num_columns = tl.cdiv(N, ROWS), tl.cdiv(F, COLUMNS)
    at = tl.program_id(0)
    row, column = tl.swizzle2d(at // num_columns, at % num_columns, num_rows, num_columns, 8)
    row, column = row * ROWS, column * COLUMNS
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for inner in range(0, D, INNER):
        if FORWARD:
            total = tl.dot(a.load([row, inner]), b.load([column, inner]).T, total)
        else:
            total = tl.dot(a.load([row, inner]), b.load([inner, column]), total)
    if FORWARD:
        total = tl.maximum(total, 0.0)
        total = total * total
    else:
        total = 2 * total * tl.sqrt(h.load([row, column]).to(tl.float32))
    out.store([row, column], total.to(out.dtype))


def _tiles(x: Tensor) -> Any:
    """For the bulk copy engine, which fills with zeros outside of the matrix. _set_tiles says how large."""
    return TensorDescriptor.from_tensor(x, [16, 16])


def _relu2_tiled(a: Tensor, b: Tensor, h: Tensor | None) -> Tensor:
    """relu(a @ b.T)² for a [N, D], b [F, D]; with h [N, F], (a @ b) * 2 sqrt(h) for a [N, D], b [D, F]."""
    (N, D), num_out = a.shape, b.size(0 if h is None else 1)
    out = a.new_empty(N, num_out)
    a_tiles, b_tiles, out_tiles = _tiles(a.contiguous()), _tiles(b.contiguous()), _tiles(out)
    h_tiles = out_tiles if h is None else _tiles(h)

    def num_tiles(sizes: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(N, sizes["ROWS"]) * triton.cdiv(num_out, sizes["COLUMNS"]),)

    _relu2_product[num_tiles](a_tiles, b_tiles, h_tiles, out_tiles, N, num_out, D, FORWARD=h is None)
    return out


@torch.library.custom_op("countersign::relu2_mlp", mutates_args=())
def fused_relu2_mlp(x: Tensor, up: Tensor, proj: Tensor) -> tuple[Tensor, Tensor]:
    h = _relu2_tiled(x, up, None)
    return h @ proj.mT, h


@torch.library.custom_op("countersign::relu2_mlp_backward", mutates_args=())
def fused_relu2_mlp_backward(
    grad: Tensor, x: Tensor, up: Tensor, proj: Tensor, h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    before = _relu2_tiled(grad, proj, h)  # [N, F], the gradient before the activation
    return before @ up, before.mT @ x, grad.mT @ h


@fused_relu2_mlp.register_fake
def _(x: Tensor, up: Tensor, proj: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.size(0), up.size(0))


@fused_relu2_mlp_backward.register_fake
def _(grad: Tensor, x: Tensor, up: Tensor, proj: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), up.new_empty(up.shape), proj.new_empty(proj.shape)


def _keep_for_relu2(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _relu2_gradient(ctx: Any, grad: Tensor, _grad_h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return fused_relu2_mlp_backward(grad, *ctx.saved_tensors)


fused_relu2_mlp.register_autograd(_relu2_gradient, setup_context=_keep_for_relu2)


# --- symmetric products, for Muon --------------------------------------------------------------


def symmetric_product(x: Tensor) -> Tensor:
    """x @ x.mT for x [S, R, C] -> [S, R, R]. Not differentiable.

    Fused, only tiles on and above the diagonal are computed, the rest is their mirror image: half of
    the work (Byron Xu's kernel in modded-nanogpt).
    """
    return fused_symmetric_product(x) if _fuses(x) else reference_symmetric_product(x)


def symmetric_polynomial(s: Tensor, b: float, c: float) -> Tensor:
    """b s + c s² for symmetric s [S, R, R], by the same means: one iteration of Polar Express or Newton-Schulz."""
    return fused_symmetric_polynomial(s, b, c) if _fuses(s) else reference_symmetric_polynomial(s, b, c)


def reference_symmetric_product(x: Tensor) -> Tensor:
    return x @ x.mT


def reference_symmetric_polynomial(s: Tensor, b: float, c: float) -> Tensor:
    return torch.baddbmm(s, s, s, beta=b, alpha=c)


SYMMETRIC_TILES = [
    ({"BLOCK": 64, "INNER": 32}, 4, 3),
    ({"BLOCK": 128, "INNER": 64}, 4, 4),
    ({"BLOCK": 128, "INNER": 64}, 8, 3),
]


@_tuned(["R", "C", "ADD"], SYMMETRIC_TILES)
@_jit
def _symmetric_tiles(
    x, out, R, C, stride_s, stride_r, stride_c, b, c, ADD: constexpr, BLOCK: constexpr, INNER: constexpr
):
    """One tile of x @ x.mT a program, and its mirror image; with ADD, c times it and b times x's own tile."""
    row, column = tl.program_id(0), tl.program_id(1)
    if column < row:
        return
    x += tl.program_id(2).to(tl.int64) * stride_s
    out += tl.program_id(2).to(tl.int64) * R * R
    rows, columns = row * BLOCK + tl.arange(0, BLOCK), column * BLOCK + tl.arange(0, BLOCK)
    inside = (rows[:, None] < R) & (columns[None, :] < R)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, C, INNER):
        inner = start + tl.arange(0, INNER)
        of_rows = (rows[:, None] < R) & (inner[None, :] < C)
        of_columns = (inner[:, None] < C) & (columns[None, :] < R)
        left = tl.load(x + rows[:, None] * stride_r + inner[None, :] * stride_c, mask=of_rows, other=0.0)
        right = tl.load(x + inner[:, None] * stride_c + columns[None, :] * stride_r, mask=of_columns, other=0.0)
        total = tl.dot(left, right, total)
    if ADD:
        own = tl.load(x + rows[:, None] * stride_r + columns[None, :] * stride_c, mask=inside, other=0.0)
        total = c * total + b * own.to(tl.float32)
    total = total.to(out.dtype.element_ty)
    tl.store(out + rows[:, None] * R + columns[None, :], total, mask=inside)
    if row != column:
        tl.store(out + columns[:, None] * R + rows[None, :], tl.trans(total), mask=tl.trans(inside))


def _symmetric(x: Tensor, b: float, c: float, *, add: bool) -> Tensor:
    S, R, C = x.shape
    out = x.new_empty(S, R, R)

    def num_tiles(sizes: dict[str, int]) -> tuple[int, int, int]:
        return triton.cdiv(R, sizes["BLOCK"]), triton.cdiv(R, sizes["BLOCK"]), S

    _symmetric_tiles[num_tiles](x, out, R, C, *x.stride(), b, c, ADD=add)
    return out


@torch.library.custom_op("countersign::symmetric_product", mutates_args=())
def fused_symmetric_product(x: Tensor) -> Tensor:
    return _symmetric(x, 0.0, 1.0, add=False)


@torch.library.custom_op("countersign::symmetric_polynomial", mutates_args=())
def fused_symmetric_polynomial(s: Tensor, b: float, c: float) -> Tensor:
    return _symmetric(s, b, c, add=True)


@fused_symmetric_product.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty(x.size(0), x.size(1), x.size(1))


@fused_symmetric_polynomial.register_fake
def _(s: Tensor, b: float, c: float) -> Tensor:
    return s.new_empty(s.shape)
