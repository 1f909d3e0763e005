"""The catalogue's code edits on the recipe as shipped: they build, learn, and never look ahead."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from gpu_runner.contract import parse_recipe
from research.arms.offline.catalogue import Entry, catalogue, values_of
from research.change.drafts import Edit
from research.change.patches import apply_edits

SHIPPED = Path(__file__).parents[2] / "gpu_runner" / "recipes" / "gpt"
MODULES = ("kernels", "fp8", "attention")  # which train.py imports
NAMES = ("recipe.toml", "train.py", *(f"{module}.py" for module in MODULES))
FILES = {name: (SHIPPED / name).read_text(encoding="utf-8") for name in NAMES}
RECIPE = parse_recipe(FILES["recipe.toml"])
EDITED = {e.slug: e for e in catalogue() if e.edits}


def load(files: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    path = folder / "train.py"
    monkeypatch.syspath_prepend(folder)
    for module in MODULES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    spec = importlib.util.spec_from_file_location(f"recipe_{folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(entry: Entry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """The edited model with every weight random: zero projections would hide what attention does."""
    edits = [Edit(path=e.path, search=e.search, replace=e.replace) for e in entry.edits]
    module = load(apply_edits(FILES, edits), folder, monkeypatch)
    knobs = RECIPE.effective(values_of(entry, RECIPE) or {})
    width = knobs["depth"] * knobs["aspect"]
    about = {"width": width, "vocab_size": 256, "separator": 0, "dtype": "float32", "attention": "math", "fp8": False}
    model = module.build_model({key: knobs[key] for key in module.MODEL_KNOBS} | about)
    assert isinstance(model, torch.nn.Module)
    torch.manual_seed(1)
    module.init_weights(model, knobs, width)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@pytest.mark.parametrize("name", EDITED)
def test_an_edited_model_is_causal_rows_are_independent_and_every_weight_learns(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(EDITED[name], tmp_path, monkeypatch)
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
