"""The device of a run, and what is fast on it: dtype, attention kernel, threads. Measured; docs say where."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

Device = Literal["cpu", "cuda"]

# Dense bf16, without sparsity, as the vendors state them.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "B200": 2.25e15, "A100": 312e12}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A run's device and the choices that follow from it; all of it goes into ``started``."""

    device: Device
    name: str
    dtype: Literal["float32", "bfloat16"]
    attention: Literal["math", "sdpa"]  # written out, or torch's fused kernels
    attention_kernel: str  # which of them full causal attention gets
    threads: int
    has_fp8: bool = False

    @property
    def peak_flops(self) -> float | None:
        """Dense bf16 peak, for MFU; None where it is unknown or means nothing."""
        if self.device == "cpu":
            return None
        return next((flops for part, flops in PEAK_FLOPS.items() if part in self.name), None)


def detect(wanted: str, threads: int | None, dtype: str = "auto") -> Machine:
    """Choose device, dtype (as asked, unless "auto") and attention. ValueError when CUDA is asked for and missing."""
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ValueError("device: cuda was asked for, but torch sees no GPU here; use cpu or auto")
    num_threads = threads or _num_cores()
    torch.set_num_threads(num_threads)
    if has_cuda and wanted != "cpu":
        return _cuda(num_threads, dtype)
    return _cpu(num_threads, dtype)


def _cuda(threads: int, dtype: str) -> Machine:
    torch.set_float32_matmul_precision("high")
    return Machine(
        device="cuda",
        name=torch.cuda.get_device_name(),
        dtype="float32" if dtype == "float32" else "bfloat16",
        attention="sdpa",
        attention_kernel=_first_that_works(),
        threads=threads,
        has_fp8=torch.cuda.get_device_capability() >= (8, 9),  # Ada, Hopper and newer
    )


def _cpu(threads: int, dtype: str) -> Machine:
    """By itself bfloat16 only where the CPU has its matrix products: there they are twice as fast, elsewhere slower.

    FOOT-GUN: torch's fused attention in bf16 on a CPU is 2.7 times slower than in float32; written
    out it is faster.
    """
    _keep_freed_memory()
    fast_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    bf16 = dtype == "bfloat16" or (dtype == "auto" and fast_bf16)
    return Machine(
        device="cpu",
        name=_cpu_name(),
        dtype="bfloat16" if bf16 else "float32",
        attention="math" if bf16 else "sdpa",
        attention_kernel="math" if bf16 else "cpu flash",
        threads=threads,
    )


def _keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of giving every freed tensor back to the kernel.

    An eager step frees hundreds of MB; faulting them in again costs a third of the step.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library: only slower
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its maximum
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def _num_cores() -> int:
    """Cores that this process may use; all of them on macOS, which cannot say."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_mib(device: Device) -> float:
    """The most memory in use since the process started (CPU) or since warm-up ended (GPU)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB


def _kernels() -> dict[str, Any]:
    """torch's fused attention kernels on a GPU, the fastest first. Imported here, since that is slow."""
    from torch.nn.attention import SDPBackend

    order = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH")
    return {name.removesuffix("_ATTENTION").lower(): getattr(SDPBackend, name) for name in order}


def _first_that_works() -> str:
    """The first kernel that works, by a small bf16 problem with its gradient: torch, driver and GPU decide which do."""
    from torch.nn.attention import sdpa_kernel

    q = torch.zeros(1, 1, 128, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    for name, backend in _kernels().items():
        with contextlib.suppress(RuntimeError), sdpa_kernel(backend):  # RuntimeError: no such kernel here
            y = torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
            torch.autograd.grad(y.sum(), q)
            return name
    return "none"


@contextlib.contextmanager
def attention_kernels(machine: Machine) -> Iterator[None]:
    """On a GPU: allow cuDNN's attention first, then flash. On a CPU there is no choice."""
    if machine.device == "cpu":
        yield
        return
    from torch.nn.attention import sdpa_kernel

    with sdpa_kernel(list(_kernels().values()), set_priority=True):
        yield
