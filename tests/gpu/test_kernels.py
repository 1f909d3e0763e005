"""On a real GPU, at the sizes of real models, each fused operation is still the sum that it stands for.

Run by `make gpu`, before anything is timed. Inputs are new in every run; the references are float64
on the same bf16 inputs, so that what is measured is the kernel's own rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.gpu_runner import parity
from tests.gpu_runner.references import ALLOWED, dense_attention, some_documents, through_fp8, who_sees_whom

pytestmark = pytest.mark.gpu

BF16 = torch.bfloat16


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    yield
    torch.cuda.empty_cache()


def within(found: parity.Parity, allowed: float, **other: float) -> None:
    for name, distance in found.items():
        assert distance <= other.get(name, allowed), f"{name}: {distance:.2e}"


# One block, many with a rest of one and of some, and the largest that is promised.
@pytest.mark.parametrize("vocab", [256, 50257, 50304, 2**17])
@pytest.mark.parametrize("softcap", [15.0, 0.0])
@pytest.mark.parametrize("dtype", [BF16, torch.float32])
def test_cross_entropy(dtype: torch.dtype, softcap: float, vocab: int) -> None:
    # Exponents and quotients are the GPU's approximate ones, of 2 ulp: the gradient in float32 as well.
    exact = 2 * ALLOWED["float32"]
    allowed = ALLOWED["bfloat16"] if dtype == BF16 else exact
    within(parity.cross_entropy("cuda", dtype, softcap, num_tokens=300, vocab=vocab), allowed, nats=exact, log_z=exact)


def test_cross_entropy_reaches_rows_behind_the_2_to_the_31st_logit() -> None:
    num_tokens, vocab = 2**16 // 2 + 8, 2**16  # 4 GiB of logits
    logits = torch.zeros(num_tokens, vocab, device="cuda", dtype=BF16)
    logits[-1, 7] = 10.0
    targets = torch.full((num_tokens,), 7, device="cuda")
    nats, _ = parity.recipe_module("kernels").softcapped_cross_entropy(logits, targets, 0.0)
    exact = torch.nn.functional.cross_entropy(logits[-1:].double(), targets[-1:])
    assert nats[-1].item() == pytest.approx(exact.item(), rel=1e-5)
    assert nats[0].item() == pytest.approx(torch.tensor(float(vocab)).log().item(), rel=1e-5)


def test_cross_entropy_keeps_no_float32_copy_of_the_logits() -> None:
    logits = torch.randn(4096, 50304, device="cuda", dtype=BF16, requires_grad=True)
    targets = torch.randint(50304, (4096,), device="cuda")
    size = logits.numel() * logits.element_size()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    nats, log_z = parity.recipe_module("kernels").softcapped_cross_entropy(logits, targets, 15.0)
    (nats.mean() + 1e-4 * log_z.square().mean()).backward()
    # The gradient, and what has one number a token; float32 logits alone would be twice as much.
    assert torch.cuda.max_memory_allocated() - before < 1.05 * size


@pytest.mark.parametrize(("num_tokens", "width", "hidden"), [(8192, 768, 3072), (1000, 528, 2112), (32, 128, 512)])
def test_relu2_mlp(num_tokens: int, width: int, hidden: int) -> None:
    within(parity.relu2_mlp("cuda", BF16, num_tokens, width, hidden), ALLOWED["bfloat16"])


def test_relu2_mlp_keeps_one_tensor_of_the_hidden_size() -> None:
    x, up, proj = (torch.randn(s, device="cuda", dtype=BF16) for s in ((8192, 768), (3072, 768), (768, 3072)))
    leaves = parity.leaves(x, up, proj)
    parity.recipe_module("kernels").relu2_mlp(*leaves).sum().backward()  # has tuned now, which takes memory
    before = torch.cuda.memory_allocated()
    y = parity.recipe_module("kernels").relu2_mlp(*leaves)
    assert torch.cuda.memory_allocated() - before <= 1.05 * (8192 * 3072 + y.numel()) * 2


@pytest.mark.parametrize(("num_matrices", "num_rows", "num_columns"), [(12, 768, 3072), (24, 768, 768), (3, 200, 328)])
def test_symmetric_products(num_matrices: int, num_rows: int, num_columns: int) -> None:
    within(parity.symmetric("cuda", BF16, num_matrices, num_rows, num_columns), ALLOWED["bfloat16"], asymmetry=0.0)


def test_a_compiled_step_holds_the_kernels_without_a_graph_break() -> None:
    # The same kernels; what the compiler makes of the rest may round otherwise.
    within(parity.compiled("cuda", BF16, "inductor"), 2 * ALLOWED["bfloat16"])


def test_what_was_declared_of_the_operations_is_so() -> None:
    parity.check_registration("cuda", BF16)


@pytest.mark.parametrize(("num_tokens", "width", "hidden"), [(4096, 1664, 6656), (2048, 768, 768), (32, 64, 48)])
def test_fp8_linear(num_tokens: int, width: int, hidden: int) -> None:
    x, weight = torch.randn(2, num_tokens, width, device="cuda").to(BF16), torch.randn(hidden, width, device="cuda")
    grad = 1e-6 * torch.randn(2, num_tokens, hidden, device="cuda").to(BF16)
    got, exact = through_fp8(x, weight, grad), through_fp8(x, weight, grad, name="reference_fp8_linear")
    # Hopper adds up 8-bit products in about 14 bits between promotions to 32, and the forward pass never promotes.
    for name, by in got.items():
        assert parity.far(by, exact[name]) <= 2 * ALLOWED["bfloat16"], name


def test_a_compiled_fp8_layer_rounds_as_the_plain_one() -> None:
    x, weight = torch.randn(512, 768, device="cuda", dtype=BF16), torch.randn(256, 768, device="cuda")
    fp8 = parity.recipe_module("fp8")
    compiled = torch.compile(fp8.fp8_linear, fullgraph=True, dynamic=False)
    mine, plain = parity.leaves(x, weight), parity.leaves(x, weight)
    grad = torch.randn(512, 256, device="cuda", dtype=BF16)
    y, plain_y = compiled(*mine), fp8.fp8_linear(*plain)
    y.backward(grad)
    plain_y.backward(grad)
    # Its scale may differ by an ulp of float32, which takes a number in 2^18 to the other side of a rounding.
    for got, exact in zip((y, *(t.grad for t in mine)), (plain_y, *(t.grad for t in plain)), strict=True):
        assert parity.far(got, exact) <= 2 * ALLOWED["bfloat16"]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("with_documents", [False, True])
@pytest.mark.parametrize(("seq_len", "window"), [(1024, 256), (1024, 1024), (2048, 320), (608, 96), (96, 32)])
def test_windowed_attention(seq_len: int, window: int, with_documents: bool, compiled: bool) -> None:
    """Compiled by itself, as an eager run has it, and inside of a compiled step."""
    documents = some_documents(2, seq_len) if with_documents else None
    seen = who_sees_whom(seq_len, window, documents).cuda()
    documents = None if documents is None else documents.cuda()
    given = [torch.randn(2, heads, seq_len, 64, device="cuda").to(BF16) for heads in (6, 3, 3)]
    mine, exact = parity.leaves(*given), parity.leaves(*(t.double() for t in given))
    attention = parity.recipe_module("attention").windowed_attention
    call = torch.compile(attention, fullgraph=True, dynamic=False) if compiled else attention
    y, exact_y = call(*mine, window, documents), dense_attention(*exact, seen)
    grad = torch.randn(2, 6, seq_len, 64, device="cuda").to(BF16)
    y.backward(grad)
    exact_y.backward(grad.double())
    # The weights are rounded to bf16 before they meet the values, and the gradients of two heads are added in bf16.
    found = {"y": parity.far(y, exact_y)}
    found |= {name: parity.far(a.grad, b.grad) for name, a, b in zip("qkv", mine, exact, strict=True)}
    within(found, 2 * ALLOWED["bfloat16"])
