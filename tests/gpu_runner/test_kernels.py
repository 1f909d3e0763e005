"""What a proposal may fuse is still the sum that it stands for, and a machine without a GPU can tell.

The kernels run here under Triton's interpreter, and are compiled for a GPU that is not there.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tests.gpu_runner import parity
from tests.gpu_runner.references import ALLOWED, dense_attention, some_documents, through_fp8, who_sees_whom
from tests.gpu_runner.training import PATIENCE_S, RECIPE

needs_triton = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="pyproject.toml asks for Triton on Linux alone"
)


def in_another_process(*arguments: str, **environment: str) -> str:
    """Triton and its mode are chosen when they are imported. What it printed."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=RECIPE.parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def interpreted() -> dict[str, parity.Parity]:
    found: dict[str, parity.Parity] = json.loads(
        in_another_process("-m", "tests.gpu_runner.parity", TRITON_INTERPRET="1")
    )
    return found


@needs_triton
@pytest.mark.parametrize("case", parity.INTERPRETED)
def test_a_fused_kernel_is_its_sum_in_float64_forward_and_backward(
    interpreted: dict[str, parity.Parity], case: str
) -> None:
    dtype = case.split()[1]
    for name, distance in interpreted[case].items():
        # Nats and their like are float32, whatever the logits are.
        assert distance <= ALLOWED["float32" if name in {"nats", "log_z"} else dtype], name


@needs_triton
def test_a_mirrored_product_is_symmetric_to_the_last_bit(interpreted: dict[str, parity.Parity]) -> None:
    assert interpreted["symmetric float16"]["asymmetry"] == 0


@needs_triton
def test_a_compiled_step_holds_the_kernels_without_a_graph_break(interpreted: dict[str, parity.Parity]) -> None:
    assert set(interpreted["compiled"].values()) == {0.0}


def types_of_tiles(tiles: dict[str, int], *, forward: bool) -> dict[str, str]:
    """The types of _relu2_product's arguments: bf16 in the tiles that it copies."""
    rows, columns, inner = tiles["ROWS"], tiles["COLUMNS"], tiles["INNER"]
    shapes = {"a": [rows, inner], "b": [columns, inner] if forward else [inner, columns]}
    shapes |= {name: [rows, columns] for name in ("h", "out")}
    described = {name: f"tensordesc<bf16[{shape[0]},{shape[1]}]>" for name, shape in shapes.items()}
    return described | dict.fromkeys(("N", "F", "D"), "i32")


def compile_for_hopper(kernel: Any, types: dict[str, str], constants: dict[str, Any], **options: int) -> Any:
    from triton import compile as triton_compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    places = {name: i for i, name in enumerate(kernel.arg_names)}
    source = ASTSource(
        fn=kernel,
        signature=types | dict.fromkeys(constants, "constexpr"),
        constexprs={(places[name],): value for name, value in constants.items()},
        # As at run time for sizes that are multiples of 16.
        attrs={(places[name],): [["tt.divisibility", 16]] for name, kind in types.items() if kind[0] in "*i"},
    )
    return triton_compile(source, target=GPUTarget("cuda", 90, 32), options=options)


HOPPER_SHARED_BYTES = 227 * 1024  # that one program may have


@needs_triton
@pytest.mark.parametrize("forward", [True, False])
def test_the_mlp_compiles_for_hopper_onto_its_tensor_cores_and_bulk_copies(
    forward: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tuned = parity.recipe_module("kernels")._relu2_product
    assert len(tuned.configs) >= 3
    for config in tuned.configs:
        types = types_of_tiles(config.kwargs, forward=forward)
        constants = {"FORWARD": forward, **config.kwargs}
        compiled = compile_for_hopper(
            tuned.fn, types, constants, num_warps=config.num_warps, num_stages=config.num_stages
        )
        assert "wgmma.mma_async" in compiled.asm["ptx"] and "cp.async.bulk.tensor" in compiled.asm["ptx"]
        assert compiled.metadata.shared <= HOPPER_SHARED_BYTES


@needs_triton
@pytest.mark.parametrize("add", [True, False])
def test_the_symmetric_product_compiles_for_hopper_onto_its_tensor_cores(
    add: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    tuned = parity.recipe_module("kernels")._symmetric_tiles
    sizes = dict.fromkeys(("R", "C", "stride_s", "stride_r"), "i32")
    types = {"x": "*bf16", "out": "*bf16", "b": "fp32", "c": "fp32"} | sizes
    for config in tuned.configs:
        constants = {"stride_c": 1, "ADD": add, **config.kwargs}
        compiled = compile_for_hopper(
            tuned.fn, types, constants, num_warps=config.num_warps, num_stages=config.num_stages
        )
        assert "wgmma.mma_async" in compiled.asm["ptx"]
        assert compiled.metadata.shared <= HOPPER_SHARED_BYTES


@needs_triton
@pytest.mark.parametrize("softcap", [15.0, 0.0])
@pytest.mark.parametrize("backward", [True, False])
def test_the_cross_entropy_compiles_for_hopper_with_wide_loads(
    softcap: float, backward: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = parity.recipe_module("kernels")
    kernel = kernels._cross_entropy_backward if backward else kernels._cross_entropy_forward
    types = {"logits": "*bf16", "targets": "*i64", "grad": "*bf16", "V": "i32"}
    types |= dict.fromkeys(("nats", "log_z", "grad_nats", "grad_log_z"), "*fp32")
    types = {name: types[name] for name in kernel.arg_names if name in types}
    constants = {"SOFTCAP": softcap, "BLOCK": kernels._block_of(50304)}
    compiled = compile_for_hopper(kernel, types, constants, num_warps=8, num_stages=3)
    assert "ld.global.v4" in compiled.asm["ptx"]  # 16 bytes a thread


def test_without_triton_the_references_train(tmp_path: Path) -> None:
    """As on alice's Mac."""
    program = (
        "import sys; sys.modules['triton'] = None\n"
        f"sys.path.insert(0, {str(RECIPE)!r})\n"
        "import torch, kernels\n"
        "x, up, proj = (torch.randn(s, requires_grad=True) for s in ((2, 8, 16), (32, 16), (16, 32)))\n"
        "nats, log_z = kernels.softcapped_cross_entropy(kernels.relu2_mlp(x, up, proj)[0], torch.arange(8), 15.0)\n"
        "(nats.mean() + log_z.mean()).backward()\n"
        "s = kernels.symmetric_polynomial(kernels.symmetric_product(x.detach()), 2.0, 0.5)\n"
        "print(x.grad.abs().sum().item() > 0, s.shape == (2, 8, 8))"
    )
    assert in_another_process("-c", program).split() == ["True", "True"]


@pytest.mark.parametrize("softcap", [15.0, 0.0])
def test_the_reference_cross_entropy_is_torchs(softcap: float) -> None:
    logits, targets = 8 * torch.randn(7, 300), torch.randint(300, (7,))
    nats, log_z = parity.recipe_module("kernels").softcapped_cross_entropy(logits, targets, softcap)
    exact_nats, exact_log_z = parity.exact_cross_entropy(logits, targets, softcap)
    assert parity.far(nats, exact_nats) <= ALLOWED["float32"] and parity.far(log_z, exact_log_z) <= ALLOWED["float32"]


# --- fp8 ---------------------------------------------------------------------------------------


@pytest.fixture
def layer() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x [B, T, D], weight [F, D] in another dtype, as in training, and a small gradient [B, T, F]."""
    x, grad = torch.randn(4, 32, 96).bfloat16(), 1e-5 * torch.randn(4, 32, 48).bfloat16()
    return x, 0.1 * torch.randn(48, 96), grad


Layer = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def test_fp8_rounds_once_to_8_bits_and_sums_in_32(layer: Layer) -> None:
    got, exact = through_fp8(*layer), through_fp8(*layer, name="reference_fp8_linear")
    for name, dtype in (("y", "bfloat16"), ("x", "bfloat16"), ("weight", "float32")):
        assert got[name].dtype == exact[name].dtype == getattr(torch, dtype)
        assert parity.far(got[name], exact[name]) <= ALLOWED[dtype], name


def test_fp8_loses_no_more_than_its_bits(layer: Layer) -> None:
    x, weight, grad = layer
    got = through_fp8(*layer)
    mine, its = parity.leaves(x.double(), weight.double())
    y = torch.nn.functional.linear(mine, its)
    y.backward(grad.double())
    # Relative rounding is evenly spread below 2^-4 for e4m3 and 2^-3 for e5m2: its root mean square is at most that
    # over sqrt(3). Two independent roundings add in squares, and so does their sum over many terms.
    e4m3, e5m2 = 2**-4 / 3**0.5, 2**-3 / 3**0.5
    allowed = {"y": 2**0.5 * e4m3, "x": (e4m3**2 + e5m2**2) ** 0.5, "weight": (e4m3**2 + e5m2**2) ** 0.5}
    for name, exact in {"y": y.detach(), "x": mine.grad, "weight": its.grad}.items():
        lost = float((got[name].double() - exact).norm() / exact.norm())
        assert 0.2 * allowed[name] < lost < allowed[name], name


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**30])
def test_fp8_serves_large_and_small_numbers_alike(layer: Layer, scale: float) -> None:
    x, weight, grad = layer
    plain, scaled = through_fp8(x, weight, grad), through_fp8(x * scale, weight, grad / scale)
    assert torch.equal(scaled["y"], plain["y"] * scale)
    assert torch.equal(scaled["weight"], plain["weight"])


def test_a_projection_that_starts_at_zero_trains_in_fp8(layer: Layer) -> None:
    x, weight, grad = layer
    got = through_fp8(x, torch.zeros_like(weight), grad)
    assert not got["y"].any() and not got["x"].any()
    assert got["weight"].isfinite().all() and got["weight"].any()


@pytest.mark.parametrize("broken", [float("inf"), float("nan")])
def test_fp8_hides_no_broken_number(layer: Layer, broken: float) -> None:
    x, weight, grad = layer
    x[0, 0, 0] = broken
    assert not through_fp8(x, weight, grad)["y"].isfinite().any()


# --- attention ---------------------------------------------------------------------------------


# Shorter than a chunk, a whole number of chunks, and neither; windows inside a chunk, across several, and none.
SHAPES = [(96, 32), (256, 256), (512, 300), (600, 100), (600, 600), (1000, 257)]


@pytest.mark.parametrize("with_documents", [False, True])
@pytest.mark.parametrize(("seq_len", "window"), SHAPES)
def test_chunks_see_what_a_dense_mask_lets_see(seq_len: int, window: int, with_documents: bool) -> None:
    documents = some_documents(2, seq_len) if with_documents else None
    q, k, v = torch.randn(2, 4, seq_len, 16), torch.randn(2, 2, seq_len, 16), torch.randn(2, 2, seq_len, 16)
    mine, exact = parity.leaves(q, k, v), parity.leaves(q.double(), k.double(), v.double())
    y = parity.recipe_module("attention").windowed_attention(*mine, window, documents)
    exact_y = dense_attention(*exact, who_sees_whom(seq_len, window, documents))
    grad = torch.randn(2, 4, seq_len, 16)
    y.backward(grad)
    exact_y.backward(grad.double())
    assert parity.far(y, exact_y) <= ALLOWED["float32"]
    for a, b in zip(mine, exact, strict=True):
        assert parity.far(a.grad, b.grad) <= ALLOWED["float32"]


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor held that anything made."""

    num_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            self.num_elements = max(self.num_elements, tensor.numel() if isinstance(tensor, torch.Tensor) else 0)
        return made


def test_a_window_saves_the_work_and_the_memory_that_it_promises() -> None:
    seq_len, flops = 2048, {}
    attention = parity.recipe_module("attention")
    for window in (256, seq_len):
        q = torch.randn(1, 1, seq_len, 16)
        with FlopCounterMode(display=False) as counter, Largest() as largest:
            attention.windowed_attention(q, q, q, window, None)
        flops[window] = counter.get_total_flops()
        # A chunk of queries against the keys that it may see, and never all against all.
        assert largest.num_elements <= attention.CHUNK * min(window + attention.CHUNK, seq_len) < seq_len * seq_len
    dense = 2 * (2 * seq_len * seq_len * 16)
    assert flops[seq_len] < 0.6 * dense and flops[256] < 0.25 * dense


@pytest.mark.parametrize("with_documents", [False, True])
@pytest.mark.parametrize(("seq_len", "window"), SHAPES)
def test_blocks_leave_out_nothing_that_is_seen_and_take_whole_only_what_is_all_seen(
    seq_len: int, window: int, with_documents: bool
) -> None:
    documents = some_documents(3, seq_len) if with_documents else None
    attention = parity.recipe_module("attention")
    mask = attention.block_mask(seq_len, window, documents, torch.device("cpu"))
    seen = who_sees_whom(seq_len, window, documents)
    size, num = attention.BLOCK, -(-seq_len // attention.BLOCK)
    padding = (0, num * size - seq_len) * 2
    blocks = torch.nn.functional.pad(seen, padding).unflatten(3, (num, size)).unflatten(2, (num, size))
    assert torch.equal(mask.to_dense().bool(), blocks.any(dim=5).any(dim=3))
    hidden = torch.nn.functional.pad(~seen, padding).unflatten(3, (num, size)).unflatten(2, (num, size))
    whole = ~hidden.any(dim=5).any(dim=3)
    for at in zip(*torch.where(mask.full_kv_num_blocks > 0), strict=True):
        assert whole[at][mask.full_kv_indices[at][: mask.full_kv_num_blocks[at]]].all()
    if window == seq_len:
        assert mask.full_kv_num_blocks.any() == (size < seq_len and (documents is None or bool(whole.tril(-1).any())))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("with_documents", [False, True])
def test_on_a_gpu_the_same_is_seen(with_documents: bool) -> None:
    """Its forward pass runs on a CPU too, its gradient does not."""
    seq_len, window = 600, 200
    documents = some_documents(2, seq_len) if with_documents else None
    q, k, v = torch.randn(2, 4, seq_len, 16), torch.randn(2, 2, seq_len, 16), torch.randn(2, 2, seq_len, 16)
    attention = parity.recipe_module("attention")
    flex = attention.flex_windowed_attention(q, k, v, window, documents)
    assert parity.far(flex, attention.windowed_attention(q, k, v, window, documents)) <= ALLOWED["float32"]
