"""What `make gpu` measures on: a GPU, or with DRY_RUN=1 toy shapes on the CPU, which only try the plumbing."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, replace

import torch

from gpu_runner.harness.machine import PEAK_FLOPS
from tests.benchmarks.order import Shape

BEGAN = time.monotonic()  # of the whole of `make gpu`
MINUTES = float(os.environ.get("GPU_MINUTES", "").strip() or 30)  # that it may take; the campaign takes what is left
IS_DRY_RUN = os.environ.get("DRY_RUN", "") not in ("", "0")
FILES = "gpu-dry-run" if IS_DRY_RUN else "gpu"  # under test-results/: a dry run never replaces a measurement
DEVICE = "cpu" if IS_DRY_RUN else "cuda"
TOY = {"depth": 2, "width": 64, "head_dim": 32, "vocab": 256, "seq_len": 64, "batch_rows": 4, "micro_rows": 2}


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long is measured."""

    num_turns: int
    round_s: float
    warm_up_s: float
    num_tokens: int  # of text made for it


DRY = " DRY RUN on a CPU in toy shapes: these numbers mean nothing." if IS_DRY_RUN else ""

LENGTH = (
    Length(num_turns=5, round_s=0.3, warm_up_s=0.2, num_tokens=4_000_000)
    if IS_DRY_RUN
    else Length(num_turns=6, round_s=6.0, warm_up_s=4.0, num_tokens=100_000_000)
)
ALONE = replace(LENGTH, num_turns=3)  # nobody to be interleaved with


def shape_here(shape: Shape) -> Shape:
    """``shape`` itself, or a toy of the same kind."""
    return replace(shape, **TOY) if IS_DRY_RUN else shape


def require_gpu() -> None:
    """Raises RuntimeError with the way out."""
    if not IS_DRY_RUN and not torch.cuda.is_available():
        raise RuntimeError("torch sees no GPU here; run this on a machine with one, or try the plumbing with DRY_RUN=1")


def left_s() -> float:
    """What is left of MINUTES."""
    return 60 * MINUTES - (time.monotonic() - BEGAN)


def gpu_memory_mib() -> float | None:
    """In use on the GPU by all processes, as its driver says; None in a dry run. Leaves no CUDA context behind."""
    if IS_DRY_RUN:
        return None
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    return float(said.stdout.splitlines()[0])


def mib(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f} MiB"


def peak_flops() -> float | None:
    """Dense bf16 of this GPU; None where it is not known, as in a dry run."""
    name = "" if IS_DRY_RUN else torch.cuda.get_device_name()
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def mfu_percent(tokens_per_s: float, flops_per_token: float) -> float | None:
    """Model FLOPs that were used of those there are; the same formula for us and for a peer."""
    peak = peak_flops()
    return 100 * tokens_per_s * flops_per_token / peak if peak else None


def percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} %"


def verdict(value: float | None, target: float) -> str:
    """Printed, never asserted."""
    if IS_DRY_RUN or value is None:
        return "not measured"
    return "pass" if value >= target else "miss"
