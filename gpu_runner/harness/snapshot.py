"""Snapshots to resume a run from: weights, optimizer state, random states, clock and place in the text. No pickle.

    out/snapshot-<step>/rank-0.safetensors    every tensor that a step changes, of one process
                        rank-0.json           numbers, and the identity of the run

The folder appears whole or not at all; then older ones are removed. A process that
resumes from it computes the same losses, bit for bit on a CPU, as one that was never stopped.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_runner.harness.failures import SnapshotUnfit
from gpu_runner.harness.team import Team

PREFIX = "snapshot-"


def save(out: Path, team: Team, *, step: int, tensors: Sequence[torch.Tensor], numbers: dict[str, Any]) -> None:
    """Write a snapshot of ``step`` and drop older ones. OSError or SafetensorError when the disk is full."""
    from safetensors.torch import save_file

    scratch, final = out / f".{PREFIX}partial", out / f"{PREFIX}{step}"
    if team.leads:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    team.meet()
    held = {f"{i}": tensor.detach().cpu().contiguous() for i, tensor in enumerate(tensors)}
    save_file(held | _random_states(), scratch / f"rank-{team.rank}.safetensors")
    body = numbers | {"step": step, "python_random": random.getstate(), "numpy_random": _of_numpy()}
    (scratch / f"rank-{team.rank}.json").write_text(json.dumps(body, allow_nan=False))
    team.meet()
    if team.leads:
        old = list(out.glob(f"{PREFIX}*"))
        os.rename(scratch, final)
        for folder in old:
            shutil.rmtree(folder)


def newest(out: Path) -> Path | None:
    """The newest snapshot, or None."""
    steps = [int(name) for path in out.glob(f"{PREFIX}*") if (name := path.name.removeprefix(PREFIX)).isdigit()]
    return out / f"{PREFIX}{max(steps)}" if steps else None


@torch.no_grad()
def load(folder: Path, team: Team, *, tensors: Sequence[torch.Tensor], of_run: str) -> dict[str, Any]:
    """Load a snapshot into ``tensors`` and the random generators; returns its numbers.

    Raises SnapshotUnfit when it cannot be read, or is another run's (recipe, knobs, seed, budget, dataset or team).
    """
    from safetensors.torch import load_file

    try:
        numbers: dict[str, Any] = json.loads((folder / f"rank-{team.rank}.json").read_text())
        held = load_file(folder / f"rank-{team.rank}.safetensors")
    except (OSError, ValueError) as error:
        raise SnapshotUnfit(f"{folder.name}: cannot be read: {error}") from error
    if numbers["of_run"] != of_run:
        raise SnapshotUnfit(f"{folder.name}: was taken of another recipe, knobs, seed, budget, dataset or team")
    for i, tensor in enumerate(tensors):
        tensor.copy_(held[f"{i}"])
    torch.set_rng_state(held["torch_random"])
    if "cuda_random" in held:
        torch.cuda.set_rng_state(held["cuda_random"])
    version, state, gauss = numbers["python_random"]
    random.setstate((version, tuple(state), gauss))
    np.random.set_state(numbers["numpy_random"])
    return numbers


def drop(out: Path) -> None:
    """Remove every snapshot, once the checkpoint is written."""
    for folder in out.glob(f"{PREFIX}*"):
        shutil.rmtree(folder)


def _of_numpy() -> list[Any]:
    return [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state(legacy=True)]


def _random_states() -> dict[str, torch.Tensor]:
    states = {"torch_random": torch.get_rng_state()}
    return states | {"cuda_random": torch.cuda.get_rng_state()} if torch.cuda.is_available() else states
