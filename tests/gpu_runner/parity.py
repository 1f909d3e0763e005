"""How far the fused kernels are from the same sums in float64.

Run as a module it prints that for CPU tensors as JSON: TRITON_INTERPRET=1 counts only where Triton has
not been imported yet, hence a process of its own.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.gpu_runner.training import RECIPE

Parity = dict[str, float]


def recipe_module(name: str) -> Any:
    """kernels, fp8 or attention, as train.py imports them."""
    if str(RECIPE) not in sys.path:
        sys.path.insert(0, str(RECIPE))
    return importlib.import_module(name)


def far(got: Tensor, exact: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    difference = (got.double() - exact.double()).detach().abs().max()
    return float(difference / exact.detach().abs().max())


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def exact_cross_entropy(logits: Tensor, targets: Tensor, softcap: float) -> tuple[Tensor, Tensor]:
    capped = softcap * torch.tanh(logits.double() / softcap) if softcap else logits.double()
    return torch.nn.functional.cross_entropy(capped, targets, reduction="none"), capped.logsumexp(-1)


def cross_entropy(device: str, dtype: torch.dtype, softcap: float, num_tokens: int = 5, vocab: int = 5000) -> Parity:
    """With logits far beyond the cap, a weight of its own for every token, and a z-loss."""
    logits = (8 * torch.randn(num_tokens, vocab, device=device)).to(dtype)
    logits[0, :3] = torch.tensor([1e4, -1e4, 60.0])
    targets = torch.randint(vocab, (num_tokens,), device=device)
    targets[:2] = torch.tensor([1, vocab - 1])
    mine, exact = leaves(logits, logits.double())
    nats, log_z = recipe_module("kernels").fused_cross_entropy(mine, targets, softcap)
    exact_nats, exact_log_z = exact_cross_entropy(exact, targets, softcap)
    weights = torch.rand(num_tokens, device=device)
    ((nats * weights).mean() + 0.1 * log_z.square().mean()).backward()
    ((exact_nats * weights).mean() + 0.1 * exact_log_z.square().mean()).backward()
    assert nats.dtype == log_z.dtype == torch.float32 and mine.grad.dtype == dtype
    return {"nats": far(nats, exact_nats), "log_z": far(log_z, exact_log_z), "grad": far(mine.grad, exact.grad)}


def relu2_mlp(device: str, dtype: torch.dtype, num_tokens: int = 100, width: int = 72, hidden: int = 136) -> Parity:
    """By default no size is a multiple of a tile."""
    shapes = {"x": (num_tokens, width), "up": (hidden, width), "proj": (width, hidden)}
    given = [(torch.randn(shape, device=device) * shape[1] ** -0.5).to(dtype) for shape in shapes.values()]
    mine, exact = leaves(*given), leaves(*(tensor.double() for tensor in given))
    y, _ = recipe_module("kernels").fused_relu2_mlp(*mine)
    exact_y = recipe_module("kernels").reference_relu2_mlp(*exact)
    grad = torch.randn(num_tokens, width, device=device).to(dtype)
    y.backward(grad)
    exact_y.backward(grad.double())
    grads = {f"grad_{name}": far(a.grad, b.grad) for name, a, b in zip(shapes, mine, exact, strict=True)}
    return {"y": far(y, exact_y)} | grads


def symmetric(
    device: str, dtype: torch.dtype, num_matrices: int = 3, num_rows: int = 100, num_columns: int = 200
) -> Parity:
    """Muon's: a wide stack, a transposed view of a tall one, and a polynomial of the square."""
    kernels = recipe_module("kernels")
    wide = (torch.randn(num_matrices, num_rows, num_columns, device=device) * num_columns**-0.5).to(dtype)
    turned = wide.mT.contiguous().mT
    s = kernels.fused_symmetric_product(wide)
    polynomial = kernels.fused_symmetric_polynomial(s, -2.75, 0.5)
    return {
        "product": far(s, wide.double() @ wide.double().mT),
        "turned": far(kernels.fused_symmetric_product(turned), wide.double() @ wide.double().mT),
        "polynomial": far(polynomial, -2.75 * s.double() + 0.5 * s.double() @ s.double()),
        "asymmetry": far(polynomial, polynomial.mT),
    }


def compiled(device: str, dtype: torch.dtype, backend: str) -> Parity:
    """All of them in one compiled graph without a break, against the same without a compiler."""
    kernels = recipe_module("kernels")

    def step(x: Tensor, up: Tensor, proj: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = kernels.fused_relu2_mlp(x, up, proj)
        nats, log_z = kernels.fused_cross_entropy(y @ head.mT, targets, 15.0)
        s = kernels.fused_symmetric_product(up.detach()[None])
        return nats.mean() + 1e-3 * log_z.square().mean(), kernels.fused_symmetric_polynomial(s, 1.5, -0.5)

    shapes = {"x": (64, 64), "up": (128, 64), "proj": (64, 128), "head": (300, 64)}
    given = [(torch.randn(shape, device=device) * 64**-0.5).to(dtype) for shape in shapes.values()]
    targets = torch.randint(300, (64,), device=device)
    mine, plain = leaves(*given), leaves(*given)
    loss, polynomial = torch.compile(step, fullgraph=True, dynamic=False, backend=backend)(*mine, targets)
    plain_loss, plain_polynomial = step(*plain, targets)
    loss.backward()
    plain_loss.backward()
    grads = {f"grad_{name}": far(a.grad, b.grad) for name, a, b in zip(shapes, mine, plain, strict=True)}
    return {"loss": far(loss, plain_loss), "polynomial": far(polynomial, plain_polynomial)} | grads


def check_registration(device: str, dtype: torch.dtype) -> None:
    """torch's own check of what each operation declared: shapes, mutation, gradient, tracing. Raises."""
    kernels = recipe_module("kernels")
    x, up, proj = (torch.randn(shape, device=device).to(dtype) for shape in ((32, 32), (64, 32), (32, 64)))
    targets = torch.randint(64, (32,), device=device)
    torch.library.opcheck(kernels.fused_cross_entropy, (*leaves(up.mT.contiguous()), targets, 15.0))
    torch.library.opcheck(kernels.fused_relu2_mlp, tuple(leaves(x, up, proj)))
    torch.library.opcheck(kernels.fused_symmetric_product, (x[None],))
    torch.library.opcheck(kernels.fused_symmetric_polynomial, (x[None], 1.5, -0.5))


# float16 stands in for bfloat16 in the matrix kernels: the interpreter multiplies bfloat16's bits as integers.
INTERPRETED: dict[str, Callable[[], Parity]] = {
    "cross_entropy float32": lambda: cross_entropy("cpu", torch.float32, 15.0),
    "cross_entropy float32 uncapped": lambda: cross_entropy("cpu", torch.float32, 0.0),
    "cross_entropy bfloat16": lambda: cross_entropy("cpu", torch.bfloat16, 15.0),
    "cross_entropy bfloat16 bytes": lambda: cross_entropy("cpu", torch.bfloat16, 15.0, num_tokens=40, vocab=256),
    "relu2_mlp float32": lambda: relu2_mlp("cpu", torch.float32),
    "relu2_mlp float16": lambda: relu2_mlp("cpu", torch.float16),
    "symmetric float32": lambda: symmetric("cpu", torch.float32),
    "symmetric float16": lambda: symmetric("cpu", torch.float16),
}


def main() -> None:
    torch.manual_seed(0)
    found = {name: case() for name, case in INTERPRETED.items()}
    check_registration("cpu", torch.float32)
    print(json.dumps(found | {"compiled": compiled("cpu", torch.float32, "aot_eager")}))


if __name__ == "__main__":
    main()
