"""A split that is shorter than a row: refused where it is made, and before the first step, with the one to blame."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from gpu_runner.data import splits
from gpu_runner.data.prepare import Origin, prepare
from tests.gpu_runner.texts import write_llmc
from tests.gpu_runner.training import RECIPE, TINY, listen, make_run_dir


def write_short(folder: Path, num_held: int) -> Path:
    """A dataset of which 2, 6 and 5 parts in 13 of so many tokens are watched, scored and sealed."""
    write_llmc(folder / "bin" / "train.bin", np.arange(9_000).astype(np.uint16))
    write_llmc(folder / "bin" / "val.bin", np.arange(num_held).astype(np.uint16))
    return prepare(folder, "short", Origin(path=folder / "bin"))


def test_rows_longer_than_what_is_held_out_are_the_overrides_fault(tmp_path: Path) -> None:
    """And they are found before the first step, not by the scorer at the end."""
    overrides = {
        "overrides": TINY | {"seq_len": 1_024}, "budget": {"kind": "tokens", "amount": 100_000}, "max_steps": 1
    }  # fmt: skip
    heard = listen(make_run_dir(tmp_path / "run", write_short(tmp_path, 13_000), **overrides))
    assert heard.code == 0, heard.stderr
    shutil.rmtree(tmp_path / "short")
    heard = listen(make_run_dir(tmp_path / "again", write_short(tmp_path, 6_500), **overrides))
    failure = heard.ended["failure"]
    assert failure["kind"] == "bad_override"
    assert failure["message"] == (
        "seq_len: rows of 1024 need 1,025 tokens, and watch of this dataset has 1,000; choose shorter rows, or a"
        " dataset with more text in watch"
    )
    assert not heard.of("point")


def test_a_dataset_too_small_for_any_row_is_not_the_proposals_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were made before `prepare` refused them."""
    with pytest.raises(
        ValueError, match="the split 'watch' would have 200 tokens, too few for rows of 256, which need"
    ):
        write_short(tmp_path, 1_300)
    monkeypatch.setattr(splits, "ROW_TOKENS", 16)
    dataset = write_short(tmp_path, 1_300)
    heard = listen(make_run_dir(tmp_path / "run", dataset, overrides=TINY | {"seq_len": 256}))
    failure = heard.ended["failure"]
    assert failure["kind"] == "dataset_missing"
    assert "watch of this dataset has 200: it is too small to be measured on; prepare it again" in failure["message"]
    assert not heard.of("point")


def test_the_row_that_every_split_has_is_the_recipes_own() -> None:
    assert tomllib.loads((RECIPE / "recipe.toml").read_text())["knobs"]["seq_len"]["default"] == splits.ROW_TOKENS
