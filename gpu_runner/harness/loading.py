"""Imports a recipe by its path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from gpu_runner.harness.failures import RecipeError


def load_recipe(source: Path) -> ModuleType:
    """source/train.py as a module, which may import the files beside it. What it raises comes through.

    RecipeError when it is missing, or has no function ``train`` or ``build_model``.
    """
    sys.dont_write_bytecode = True  # the source is mounted read-only
    path = source / "train.py"
    spec = importlib.util.spec_from_file_location("recipe_train", path)
    if not path.exists() or spec is None or spec.loader is None:
        raise RecipeError("train.py: missing from the recipe")
    module = importlib.util.module_from_spec(spec)
    sys.modules["recipe_train"] = module
    sys.path.insert(0, str(source))
    spec.loader.exec_module(module)
    for name in ("train", "build_model"):
        if not callable(getattr(module, name, None)):
            raise RecipeError(f"train.py: has no function {name}")
    return module
