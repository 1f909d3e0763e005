"""Writes and loads a run's checkpoint: out/checkpoint/{model.safetensors,config.json}. Never a pickle.

The folder appears whole or not at all, so it can be hashed and scored as soon as it is there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gpu_runner.harness.failures import RecipeError


def save(out: Path, model: torch.nn.Module, config: dict[str, Any]) -> Path:
    """Write weights and config and return their folder. OSError or SafetensorError when the disk is full."""
    return save_weights(out, model.state_dict(), config)


def save_weights(out: Path, state: Mapping[str, torch.Tensor], config: dict[str, Any]) -> Path:
    """As ``save``, of a state dict."""
    from safetensors.torch import save_file

    final, scratch = out / "checkpoint", out / "checkpoint.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    save_file(_each_for_itself(state), scratch / "model.safetensors")
    (scratch / "config.json").write_text(_as_json(config))
    shutil.rmtree(final, ignore_errors=True)
    os.rename(scratch, final)
    return final


def load(checkpoint: Path, model: torch.nn.Module) -> None:
    """Put saved weights into ``model``. RuntimeError when names or shapes do not fit."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(checkpoint / "model.safetensors"))


def load_config(checkpoint: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text())
    return config


def _each_for_itself(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors by name. Of two that share memory, as tied weights, one is copied: the format refuses it."""
    weights: dict[str, torch.Tensor] = {}
    written = set[int]()
    for name, tensor in state.items():
        held = tensor.detach().cpu().contiguous()
        weights[name] = held.clone() if (where := held.untyped_storage().data_ptr()) in written else held
        written.add(where)
    return weights


def _as_json(config: dict[str, Any]) -> str:
    try:
        return json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise RecipeError(f"run.save: config must be plain numbers, strings and booleans: {error}") from error
