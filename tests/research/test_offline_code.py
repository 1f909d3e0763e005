"""The catalogue's code edits on the recipe as shipped: they build, learn, and never look ahead."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from gpu_runner.contract import parse_recipe
from research.drafts import Edit
from research.offline.catalogue import Entry, catalogue, values_of
from research.patches import apply_edits

SHIPPED = Path(__file__).parents[2] / "gpu_runner" / "recipes" / "gpt"
FILES = {name: (SHIPPED / name).read_text(encoding="utf-8") for name in ("recipe.toml", "train.py")}
RECIPE = parse_recipe(FILES["recipe.toml"])
EDITED = {e.slug: e for e in catalogue() if e.edits}


def load(source: str, folder: Path) -> ModuleType:
    path = folder / "train.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"recipe_{folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(entry: Entry, folder: Path) -> torch.nn.Module:
    """The edited model with every weight random: zero projections would hide what attention does."""
    edits = [Edit(path=e.path, search=e.search, replace=e.replace) for e in entry.edits]
    module = load(apply_edits(FILES, edits)["train.py"], folder)
    knobs = RECIPE.effective(values_of(entry, RECIPE) or {})
    about_machine = {"vocab_size": 256, "dtype": "float32", "attention": "math"}
    model = module.build_model({key: knobs[key] for key in module.MODEL_KNOBS} | about_machine)
    assert isinstance(model, torch.nn.Module)
    torch.manual_seed(1)
    module.init_weights(model, knobs)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.mark.parametrize("name", EDITED)
def test_an_edited_model_is_causal_rows_are_independent_and_every_weight_learns(name: str, tmp_path: Path) -> None:
    model = build(EDITED[name], tmp_path)
    tokens = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(2))
    other = tokens.clone()
    other[0, 16:] = (other[0, 16:] + 1) % 256
    logits, changed = model(tokens), model(other)
    assert logits.shape == (2, 24, 256)
    torch.testing.assert_close(changed[0, :16], logits[0, :16])
    torch.testing.assert_close(changed[1], logits[1])
    assert not torch.allclose(changed[0, 16:], logits[0, 16:])
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
