"""``python -m gpu_runner.machine.probe``: what this machine can do, as one JSON object. `manage.py doctor` runs it.

A process of its own, so that the caller needs neither torch nor this package. It imports torch only where there
is a GPU to ask it about, since that import alone takes seconds.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpu_runner import sandbox
from gpu_runner.machine import hardware
from gpu_runner.sandbox import cgroups

ASK_TORCH = "import json, torch; print(json.dumps([torch.cuda.is_available(), torch.version.cuda]))"
TORCH_ANSWERS_WITHIN_S = 90.0
FAST_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 and ARM names of instructions that multiply bfloat16


def probe() -> dict[str, Any]:
    """Every key is always there; what could not be found out is None, with the sentence in ``*_problem``."""
    return {
        "facts": hardware.facts(),
        "hardware_class": hardware.hardware_class(),
        "gpu_problem": gpu_problem(),
        "has_bf16": has_bf16(),
        "compiler": next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None),
        **sandbox_found(),
    }


def sandbox_found() -> dict[str, str | None]:
    """The level that is in use, why the best one is not, and why the kernel does not hold memory and processes."""
    limits = cgroups.problem()
    try:
        problem = sandbox.problem_with(sandbox.LEVELS[0])
        return {"sandbox": sandbox.probe(), "sandbox_problem": problem, "limits_problem": limits}
    except ValueError as error:
        return {"sandbox": None, "sandbox_problem": str(error), "limits_problem": limits}


def gpu_problem() -> str | None:
    """Why the GPU that is plugged in cannot be used; None when it can, or when there is none."""
    if not hardware.gpus():
        return None
    try:
        asked = subprocess.run(
            [sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, timeout=TORCH_ANSWERS_WITHIN_S
        )
    except subprocess.TimeoutExpired:
        return f"torch does not answer within {TORCH_ANSWERS_WITHIN_S:.0f} s"
    if asked.returncode:
        return "torch does not start: " + (asked.stderr.strip().splitlines() or ["no words"])[-1]
    available, built_for = json.loads(asked.stdout)
    if available:
        return None
    return (
        f"torch is built for CUDA {built_for}, which this driver cannot serve" if built_for else "torch is a CPU build"
    )


def has_bf16() -> bool | None:
    """Does the CPU multiply bfloat16 itself? None where /proc/cpuinfo is not."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return None
    lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))]
    return bool(lines) and bool(FAST_BF16 & set(lines[0].split()))


def main() -> int:
    try:
        print(json.dumps(probe()))
    except ValueError as problem:  # a driver that hangs, a setting that names nothing
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
