"""A foreign trainer's checkpoint becomes one that the trusted scorer takes, and its model is scored like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_runner.harness import checkpoint, foreign_weights
from gpu_runner.harness.foreign_weights import NoWeights, weights_in
from gpu_runner.harness.loading import load_builder
from gpu_runner.scorer import identity

WEIGHTS = {"wte.weight": torch.zeros(4, 2), "head.weight": torch.ones(4, 2)}
WRAPPED = {f"_orig_mod.module.{name}": tensor for name, tensor in WEIGHTS.items()}


@pytest.mark.parametrize(
    ("loaded", "where"),
    [
        (WEIGHTS, ""),
        ({"model": WRAPPED, "optimizer": {"state": {}}, "iter_num": 3, "config": {"n_layer": 2}}, ""),
        ({"state_dict": WEIGHTS, "epoch": 1}, ""),
        ({"state": {"net": WRAPPED}}, "state.net"),
    ],
)
def test_weights_are_found_where_trainers_keep_them(loaded: dict[str, Any], where: str) -> None:
    assert weights_in(loaded, where).keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    ("loaded", "where", "sentence"),
    [
        ({"model": WEIGHTS}, "ema", "the checkpoint has no ema; there are model"),
        ({"step": 3, "loss": 1.0}, "", "holds no weights there; there are loss, step"),
        ([1, 2], "", "holds no weights there; there are list"),
    ],
)
def test_what_holds_no_weights_is_named(loaded: Any, where: str, sentence: str) -> None:
    with pytest.raises(NoWeights, match="checkpoint") as refused:
        weights_in(loaded, where)
    assert sentence in str(refused.value)


def test_a_pickle_that_runs_code_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": WEIGHTS, "hook": subprocess.Popen}, tmp_path / "ckpt.pt")
    assert foreign_weights.main([str(tmp_path / "ckpt.pt"), str(tmp_path), "{}"]) == 1
    assert "ckpt.pt: cannot be read without running code that is in it" in capsys.readouterr().err
    assert foreign_weights.main([str(tmp_path / "other.pt"), str(tmp_path), "{}"]) == 1
    assert "left no file other.pt" in capsys.readouterr().err


def test_a_foreign_model_is_built_by_the_function_that_the_recipe_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = tmp_path / "source"
    (source / "nets").mkdir(parents=True)
    (source / "nets" / "beside.py").write_text("import torch\nNet = torch.nn.Embedding\n")
    (source / "nets" / "opened.py").write_text(
        "from beside import Net\n\ndef opened(config):\n    return Net(config['vocab_size'], config['width'])\n"
    )
    (source / "recipe.toml").write_text(
        '[recipe]\nkind = "command"\n[command]\nrun = ["{python}", "go.py", "{steps}"]\nsteps = 9\n'
        '[model]\nfile = "nets/opened.py"\nfunction = "opened"\ncheckpoint = "ckpt.pt"\nseq_len = 32\n'
    )
    torch.save({"model": {"_orig_mod.weight": torch.ones(4, 2)}, "iter_num": torch.tensor(3)}, tmp_path / "ckpt.pt")
    config = '{"vocab_size": 4, "width": 2, "seq_len": 32}'
    assert foreign_weights.main([str(tmp_path / "ckpt.pt"), str(tmp_path), config]) == 0
    saved = tmp_path / "checkpoint"
    model = load_builder(source)(checkpoint.load_config(saved))
    checkpoint.load(saved, model)
    assert float(model.weight.detach().sum()) == 8.0
    assert identity.of_model(source, saved).keys() == {"checkpoint_sha256", "recipe_sha256"}
    assert identity.weights_of(saved).num_numbers == 8
