"""spec.json: what the worker, or ``train`` by hand, asks of one training process. Parsed strictly, like any message."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from gpu_runner.contract import Budget, Knobs, Recipe, Seed, Wire, canonical_json, parse_recipe, sha256
from gpu_runner.harness.failures import BadOverride, RecipeError, SpecError


class HarnessSpec(Wire):
    """The spec of one training process, written by the worker or by ``python -m gpu_runner train``."""

    run_id: int
    seed: Seed
    budget: Budget
    overrides: Knobs
    dataset_dir: str  # the folder with the shards of train and watch and a copy of the manifest
    dataset_sha256: str
    max_steps: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of the computation; weights are kept in float32
    compile: Literal["auto", "always", "never"] = "auto"
    resume: bool = False  # go on from out/snapshot when there is one
    snapshot_every_s: float | None = Field(default=None, gt=0)  # None: a killed run starts again


def load_spec(run_dir: Path) -> HarnessSpec:
    """RUN_DIR/spec.json. Raises SpecError naming the wrong field."""
    try:
        return HarnessSpec.model_validate_json((run_dir / "spec.json").read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(f"spec.json: {error}") from error


def effective_knobs(source: Path, overrides: Knobs) -> Knobs:
    """recipe.toml's defaults with ``overrides`` on top. Raises BadOverride or RecipeError."""
    try:
        recipe: Recipe = parse_recipe((source / "recipe.toml").read_text())
    except (OSError, ValueError) as error:
        raise RecipeError(str(error)) from error
    try:
        return recipe.effective(overrides)
    except ValueError as error:
        raise BadOverride(str(error)) from error


def identity(spec: HarnessSpec, knobs: Knobs, source: Path, world_size: int) -> str:
    """sha256 (hex) of all that a snapshot depends on; it may be resumed only under the same."""
    files = {
        path.relative_to(source).as_posix(): sha256(path.read_bytes())
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    settled = {"seed": spec.seed, "budget": spec.budget.model_dump(mode="json"), "max_steps": spec.max_steps}
    settled |= {"knobs": knobs, "dataset": spec.dataset_sha256, "source": files, "world_size": world_size}
    return sha256(canonical_json(settled))
