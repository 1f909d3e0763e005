"""The hashes that every score carries (scorer, checkpoint, recipe), and the header of the checkpoint's weights.

Proposed code made the checkpoint: links are not followed, and sizes are checked before anything is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from gpu_runner.contract import canonical_json, parse_recipe
from gpu_runner.data.manifest import file_sha256
from gpu_runner.scorer.effort import Weights
from gpu_runner.scorer.model_process import ModelFailed

HERE = Path(__file__).resolve().parent
MAX_CONFIG_BYTES = 65_536
MAX_WEIGHTS_BYTES = 32 << 30  # as large as a file of a sandboxed run can be
MAX_RECIPE_BYTES = 1 << 30
MAX_HEADER_BYTES = 16 << 20
# Bytes of one number. Smaller ones count among "other": text looks like them.
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "C64": 4}


def scorer_sha256(folder: Path = HERE) -> str:
    """One hash of all the scorer's code: the .py files of its folder."""
    return _tree_sha256(folder, list(folder.rglob("*.py")))


def of_model(recipe_dir: Path, checkpoint_dir: Path) -> dict[str, str]:
    """The sha256 of checkpoint and recipe. OSError; ModelFailed for a missing, linked or oversized file.

    Proposed code made the checkpoint: a link in it could lead anywhere on this machine.
    """
    weights, config = checkpoint_dir / "model.safetensors", checkpoint_dir / "config.json"
    if any(path.is_symlink() for path in (checkpoint_dir, weights, config)):
        raise ModelFailed("The checkpoint is, or holds, a symbolic link: not followed.")
    for path in (weights, config, _entry(recipe_dir)):
        if not path.is_file():
            said = "is no file" if path.exists() else "missing"
            raise ModelFailed(f"{path.name}: {said}, there is nothing to score.")
    recipe = [path for path in recipe_dir.rglob("*") if path.is_symlink() or path.is_file()]
    _refuse_more(MAX_WEIGHTS_BYTES, "model.safetensors", [weights])
    _refuse_more(MAX_CONFIG_BYTES, "config.json", [config])
    _refuse_more(MAX_RECIPE_BYTES, "The recipe's folder", recipe)
    return {
        "checkpoint_sha256": _tree_sha256(checkpoint_dir, [weights, config]),
        "recipe_sha256": _tree_sha256(recipe_dir, recipe),
    }


def _entry(recipe_dir: Path) -> Path:
    """The file that builds the model: train.py, or what recipe.toml names of a foreign trainer."""
    try:
        about = parse_recipe((recipe_dir / "recipe.toml").read_text())
    except (OSError, ValueError):
        return recipe_dir / "train.py"
    return recipe_dir / (about.model.file if about.model else "train.py")


def weights_of(checkpoint_dir: Path) -> Weights:
    """How many bytes of the weights are floating point, by the file's header (safetensors' format). ModelFailed."""
    path = checkpoint_dir / "model.safetensors"
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER_BYTES, size):
            raise ModelFailed("model.safetensors: its header is longer than the file, or than any model's.")
        header = file.read(length)
    try:
        tensors = [about for name, about in json.loads(header).items() if name != "__metadata__"]
        held = [(about["dtype"], int(about["data_offsets"][1]) - int(about["data_offsets"][0])) for about in tensors]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelFailed(f"model.safetensors: its header makes no sense: {type(error).__name__}.") from error
    floats = [(num_bytes, FLOATS[kind]) for kind, num_bytes in held if isinstance(kind, str) and kind in FLOATS]
    in_floats = sum(num_bytes for num_bytes, _ in floats)
    if any(num_bytes < 0 for _, num_bytes in held) or in_floats > size:
        raise ModelFailed("model.safetensors: its header speaks of more than the file holds.")
    num_numbers = sum(num_bytes // width for num_bytes, width in floats)
    return Weights(num_bytes=size, num_numbers=num_numbers, other_bytes=size - in_floats)


def _refuse_more(limit: int, what: str, paths: Sequence[Path]) -> None:
    """ModelFailed for more than ``limit`` bytes: all are hashed, and a sparse file may have any size."""
    if sum(path.lstat().st_size for path in paths) > limit:
        raise ModelFailed(f"{what}: larger than {limit:,} bytes.")


def _tree_sha256(base: Path, paths: Sequence[Path]) -> str:
    """sha256 over {relative path: sha256 of the bytes}; of a link, sha256 of its target's path."""
    hashes = {str(path.relative_to(base)): _own_sha256(path) for path in paths}
    return sha256(canonical_json({os.fsencode(name).hex(): digest for name, digest in hashes.items()})).hexdigest()


def _own_sha256(path: Path) -> str:
    return sha256(os.readlink(os.fsencode(path))).hexdigest() if path.is_symlink() else file_sha256(path)
