"""Imports a recipe by its path."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from gpu_runner.contract import Recipe, parse_recipe
from gpu_runner.harness.failures import RecipeError


def load_recipe(source: Path) -> ModuleType:
    """source/train.py as a module, which may import the files beside it. What it raises comes through.

    RecipeError when it is missing, or has no function ``train`` or ``build_model``.
    """
    module = _loaded(source, "train.py")
    for name in ("train", "build_model"):
        if not callable(getattr(module, name, None)):
            raise RecipeError(f"train.py: has no function {name}")
    return module


def load_builder(source: Path) -> Callable[[dict[str, Any]], torch.nn.Module]:
    """The function that builds a model from its config: build_model, or what [model] of recipe.toml names.

    RecipeError when file or function is missing. What the file raises comes through.
    """
    about = _about(source)
    if about is None or about.model is None:
        built: Callable[[dict[str, Any]], torch.nn.Module] = load_recipe(source).build_model
        return built
    module = _loaded(source, about.model.file)
    found = getattr(module, about.model.function, None)
    if not callable(found):
        raise RecipeError(f"{about.model.file}: has no function {about.model.function}, which [model] names")
    return cast("Callable[[dict[str, Any]], torch.nn.Module]", found)


def _about(source: Path) -> Recipe | None:
    try:
        return parse_recipe((source / "recipe.toml").read_text())
    except (OSError, ValueError):  # a model that was built by hand has none
        return None


def _loaded(source: Path, file: str) -> ModuleType:
    sys.dont_write_bytecode = True  # the source is mounted read-only
    path = source / file
    spec = importlib.util.spec_from_file_location("recipe_train", path)
    if not path.exists() or spec is None or spec.loader is None:
        raise RecipeError(f"{file}: missing from the recipe")
    module = importlib.util.module_from_spec(spec)
    sys.modules["recipe_train"] = module
    sys.path[:0] = dict.fromkeys((str(path.parent), str(source)))
    spec.loader.exec_module(module)
    return module
