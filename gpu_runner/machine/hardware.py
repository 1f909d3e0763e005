"""The hardware class, within which runs are compared, and the facts of the machine that stand on every run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
NVIDIA_SMI_S = 20.0  # a cold driver takes seconds to answer

Facts = dict[str, str | int | float | None]


class Gpu(NamedTuple):
    name: str
    memory_mib: int | None  # unified-memory GPUs do not say
    driver: str


def hardware_class() -> str:
    """``nvidia-h200``, ``cpu-x86_64``, ...: runs are compared only within one class."""
    gpu = usable_gpu()
    if gpu is None:
        return "cpu-" + {"amd64": "x86_64", "arm64": "aarch64"}.get(
            platform.machine().lower(), platform.machine().lower()
        )
    return re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")[:60] or "gpu"


def facts() -> Facts:
    """The machine's facts for people; None for what cannot be read. Does not import torch."""
    gpu = gpus()[0] if gpus() else None
    return {
        "cpu": _cpu_model(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "gpu": gpu.name if gpu else None,
        "num_gpus": len(gpus()),
        "gpu_memory_mib": gpu.memory_mib if gpu else None,
        "gpu_driver": gpu.driver if gpu else None,
        "torch": torch_version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def usable_gpu() -> Gpu | None:
    """The first GPU, if this torch can use it: a CPU build trains on the CPU whatever is plugged in."""
    return gpus()[0] if gpus() and not (torch_version() or "").endswith("+cpu") else None


@cache
def gpus() -> tuple[Gpu, ...]:
    """What ``nvidia-smi`` lists. Empty when there is none; raises ValueError when it is there but does not answer."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_S)
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"nvidia-smi does not answer within {NVIDIA_SMI_S:g} s; reset the driver or the GPU"
        ) from error
    if said.returncode != 0:
        raise ValueError(
            f"nvidia-smi fails ({said.stdout.strip() or said.stderr.strip()}); reset the driver or remove it"
        )
    return tuple(parse_gpu(line) for line in said.stdout.splitlines() if line.strip())


def parse_gpu(line: str) -> Gpu:
    """One line of nvidia-smi's CSV: ``NVIDIA H200, 143771, 570.124.06``."""
    name, memory, driver = (field.strip() for field in line.rsplit(",", 2))
    return Gpu(name, int(memory) if memory.isdigit() else None, driver)


def torch_version() -> str | None:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def lock_sha256(path: Path = CONSTRAINTS) -> str:
    """sha256 (hex) of the constraints file that this machine was installed from; "" when it has none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def _cpu_model() -> str | None:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return found.group(1) if found else platform.processor() or None
