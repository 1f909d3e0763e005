"""spec.json: what the worker asks of one training process. Parsed strictly, like all that crosses a border."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from gpu_runner.contract import Budget, Knobs, Purpose, Recipe, Wire, parse_recipe
from gpu_runner.harness.failures import BadOverride, RecipeError, SpecError


class HarnessSpec(Wire):
    """One training process. Written by the worker, read once."""

    run_id: int
    purpose: Purpose
    seed: int = Field(ge=0)
    budget: Budget
    overrides: Knobs
    dataset_dir: str  # the folder with train.bin, watch.bin and a copy of the manifest
    dataset_sha256: str
    max_steps: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"


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
