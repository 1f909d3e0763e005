"""A smoke run on this machine for ``manage.py gate --smoke``: a few seconds of training in the sandbox, no campaign.

In a campaign the smoke run is a Run on a worker (``smoke``); here the trainer's command is run as a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings

from research.gates.outcome import Context, GateResult

NAME = "smoke run"
SMOKE_S = 3  # of training
DEADLINE_S = 120  # of everything
DATASET = "stdlib"


def smoke(context: Context) -> GateResult:
    """Train the patched files for ``SMOKE_S``. Expects that the patch applies."""
    assert context.after is not None
    with tempfile.TemporaryDirectory(prefix="countersign-smoke-") as scratch:
        folder = Path(scratch)
        for path, text in context.after.items():
            (folder / "recipe" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "recipe" / path).write_bytes(text.encode())
        (folder / "smoke.toml").write_text(_spec(context), encoding="utf-8")
        return _run(folder)


def _spec(context: Context) -> str:
    """The trainer's SPEC.toml. JSON's strings and numbers are valid TOML."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in context.overrides.items()]
    machine = f'sandbox = "bubblewrap"\ncompile = "never"\ndeadline_s = {DEADLINE_S}'
    top = f'recipe = "recipe"\ndataset = "{DATASET}"'
    return "\n".join([top, "[budget]", f"seconds = {SMOKE_S}", "[machine]", machine, "[overrides]", *lines, ""])


def _run(folder: Path) -> GateResult:
    command = [sys.executable, "-m", "gpu_runner", "train", str(folder / "smoke.toml"), "--out", str(folder / "run")]
    command.append("--json")
    try:
        done = subprocess.run(
            command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return GateResult.bad(f"It did not end within {2 * DEADLINE_S} s.")
    try:
        ended = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return GateResult.bad(f"It could not be started: {last[:300]}")
    return _found(ended)


def _found(ended: dict[str, Any]) -> GateResult:
    if ended["outcome"] != "ok":
        failure = ended["failure"] or {}
        return GateResult.bad(f"It failed: {failure.get('message', '')} {failure.get('todo', '')}".strip(), **failure)
    numbers = ended["numbers"]
    rate = numbers["num_steps"] / numbers["train_s"] if numbers["num_steps"] and numbers["train_s"] else None
    words = f"{numbers['num_steps']} steps" + (f", {rate:.1f} steps/s" if rate else "")
    return GateResult.ok(
        words, steps_per_s=rate, peak_memory_mib=numbers["peak_memory_mib"], sandbox=ended["sandbox_level"]
    )
