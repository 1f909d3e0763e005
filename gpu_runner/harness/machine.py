"""What this machine is, and which of torch's ways is fast on it. Measured, not guessed: docs say where."""

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
from typing import Literal

import torch

Device = Literal["cpu", "cuda"]

# Dense bf16, without sparsity, as the vendors state them.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "B200": 2.25e15, "A100": 312e12}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The device of a run and the choices that follow from it; all of it goes into ``started``."""

    device: Device
    name: str
    dtype: Literal["float32", "bfloat16"]
    attention: Literal["math", "sdpa"]
    compiles: bool
    threads: int

    @property
    def peak_flops(self) -> float | None:
        """Dense bf16 peak, for MFU; None where it is unknown or means nothing."""
        if self.device == "cpu":
            return None
        return next((flops for part, flops in PEAK_FLOPS.items() if part in self.name), None)


def detect(wanted: str, threads: int | None) -> Machine:
    """Choose. Raises ValueError when CUDA was asked for and is not there."""
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise ValueError("device: cuda was asked for, but torch sees no GPU here; use cpu or auto")
    num_threads = threads or _num_cores()
    torch.set_num_threads(num_threads)
    if has_cuda and wanted != "cpu":
        return _cuda(num_threads)
    return _cpu(num_threads)


def _cuda(threads: int) -> Machine:
    torch.set_float32_matmul_precision("high")
    name = torch.cuda.get_device_name()
    return Machine(device="cuda", name=name, dtype="bfloat16", attention="sdpa", compiles=True, threads=threads)


def _cpu(threads: int) -> Machine:
    """bf16 matrix products are twice as fast where the CPU has them and slower where it has not.

    FOOT-GUN: torch's fused attention in bf16 on a CPU is 2.7 times slower than in float32; written
    out it is faster. Compiling takes 40 s cold, so short budgets train eager.
    """
    _keep_freed_memory()
    fast_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Machine(
        device="cpu",
        name=_cpu_name(),
        dtype="bfloat16" if fast_bf16 else "float32",
        attention="math" if fast_bf16 else "sdpa",
        compiles=False,
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
    """Those that this process may use; macOS cannot say and gives all."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_mib(device: Device) -> float:
    """The most that was in use since the process started (CPU) or since the clock did (GPU)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB


@contextlib.contextmanager
def attention_kernels(machine: Machine) -> Iterator[None]:
    """On a GPU: cuDNN's attention first, then flash. On a CPU there is nothing to choose."""
    if machine.device == "cpu":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        yield
