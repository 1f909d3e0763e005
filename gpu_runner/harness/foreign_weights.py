"""Takes the weights of a foreign checkpoint into the form that the trusted scorer reads. Runs in a sandbox.

    python -m gpu_runner.harness.foreign_weights CHECKPOINT OUT CONFIG [WEIGHTS]

CHECKPOINT is safetensors, or what torch.load reads with ``weights_only``: tensors, numbers and texts, no code. CONFIG
is JSON for build_model; WEIGHTS says where in the checkpoint they are, as ``model`` or ``state.model``. Exit code 1 and
a sentence on stderr where they cannot be had.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from gpu_runner.harness import checkpoint

USUAL = ("model", "state_dict", "model_state_dict", "module")  # where trainers keep them
PREFIXES = ("_orig_mod.", "module.", "_forward_module.")  # of torch.compile, of several processes, of Fabric
MIN_SHARE = 0.5  # of what stands there must be tensors, or it is something else


class NoWeights(Exception):
    """``str()`` is a sentence."""


def main(arguments: list[str]) -> int:
    saved, out, config, *where = arguments
    try:
        weights = weights_in(_loaded(Path(saved)), where[0] if where else "")
        checkpoint.save_weights(Path(out), weights, json.loads(config))
    except NoWeights as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _loaded(path: Path) -> Any:
    if not path.is_file():
        raise NoWeights(f"checkpoint in [model]: the trainer left no file {path.name} there.")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, each about what the trainer wrote
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NoWeights(f"{path.name}: cannot be read without running code that is in it: {said}") from error


def weights_in(loaded: Any, where: str) -> dict[str, torch.Tensor]:
    """The state dict at ``where``, or where it usually is, with the names that the model itself has."""
    here = loaded
    for name in filter(None, where.split(".")):
        if not isinstance(here, dict) or name not in here:
            raise NoWeights(f"weights in [model]: the checkpoint has no {where}; there are {_names(here)}.")
        here = here[name]
    if not where and isinstance(here, dict):
        here = next((here[name] for name in USUAL if isinstance(here.get(name), dict) and _is_state(here[name])), here)
    if not isinstance(here, dict) or not _is_state(here):
        raise NoWeights(
            f"The checkpoint holds no weights there; there are {_names(here)}. Name them: weights = in [model]"
        )
    return {_bare(name): tensor for name, tensor in here.items() if isinstance(tensor, torch.Tensor)}


def _is_state(found: dict[Any, Any]) -> bool:
    num_tensors = sum(isinstance(value, torch.Tensor) for value in found.values())
    return num_tensors > 0 and num_tensors >= MIN_SHARE * len(found) and all(isinstance(name, str) for name in found)


def _bare(name: str) -> str:
    for _ in PREFIXES:
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
    return name


def _names(found: Any) -> str:
    return ", ".join(sorted(map(str, found))[:20])[:300] if isinstance(found, dict) else type(found).__name__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
