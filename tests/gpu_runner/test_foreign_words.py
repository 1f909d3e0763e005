"""What a foreign trainer is told and finds: words, variables, a config file, constants, its data in its own layout."""

from __future__ import annotations

import json
import pickle
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.command import overrides, words
from gpu_runner.command.layout import laid_out
from gpu_runner.contract import Command, Knob, Overrides
from gpu_runner.data.manifest import load_manifest
from gpu_runner.data.tokens import TokenArray
from tests.worker.world import make_dataset

KNOBS = (
    Knob(key="depth", type="int", default=6, help=""),
    Knob(key="lr", name="optim.lr", type="float", default=1e-05, help=""),
    Knob(key="bias", name="optim.bias", type="bool", default=True, help=""),
    Knob(key="act", name="ACT", type="choice", choices=("gelu", 'a"b'), default='a"b', help=""),
)
VALUES: dict[str, Any] = {knob.key: knob.default for knob in KNOBS}
TOLD = words.Told(python="/py", seed=7, seconds=300.0, tokens=None, steps=5, data="/data", out="/out")


def line(*run: str, **over: Any) -> list[str]:
    return words.command_line(Command(run=run, **over), KNOBS, VALUES, TOLD)


def test_words_are_filled_and_no_shell_reads_them() -> None:
    assert line("{python}", "a b.py", "--seed={seed}", "{{x}}", "{out}/{depth}", "{seconds}", "$HOME") == [
        "/py", "a b.py", "--seed=7", "{x}", "/out/6", "300", "$HOME",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"this run has no \{tokens\} to tell its trainer"):
        line("{tokens}")


def test_every_knob_travels_once_and_those_that_are_named_go_where_they_are_named() -> None:
    assert line("x", "{overrides}") == ["x", "--depth=6", "--optim.lr=1e-05", "--optim.bias=True", '--ACT=a"b']
    assert line("x{depth}", "{overrides}", env={"A": "{act}"}) == ["x6", "--optim.lr=1e-05", "--optim.bias=True"]
    flags = Overrides(pattern=("--{key}", "{value}"), booleans="flag")
    assert line("{overrides}", overrides=flags)[2:5] == ["--optim.lr", "1e-05", "--optim.bias"]
    off = words.command_line(Command(run=("{overrides}",), overrides=flags), KNOBS, VALUES | {"bias": False}, TOLD)
    assert "--optim.bias" not in off
    carried = Command(run=("x",), env={"SEED": "{seed}"}, overrides=Overrides(travel="environment", booleans="digits"))
    assert words.variables(carried, KNOBS, VALUES, TOLD) == {
        "depth": "6", "optim.lr": "1e-05", "optim.bias": "1", "ACT": 'a"b', "SEED": "7",
    }  # fmt: skip


@pytest.mark.parametrize("form", ["json", "toml", "yaml"])
def test_a_config_file_is_written_in_the_form_that_the_trainer_reads(tmp_path: Path, form: Any) -> None:
    how = Overrides(travel="file", path="config/ours.x", format=form)
    overrides.write(how, KNOBS, VALUES, tmp_path)
    text = (tmp_path / "config" / "ours.x").read_text()
    nested = {"depth": 6, "optim": {"lr": 1e-05, "bias": True}, "ACT": 'a"b'}
    if form != "yaml":
        assert (json.loads if form == "json" else tomllib.loads)(text) == nested
    else:
        assert text == 'depth: 6\noptim:\n  lr: 1.0e-05\n  bias: true\nACT: "a\\"b"\n'
    assert line("x", "{overrides}", overrides=how) == ["x", "config/ours.x"]


def test_a_config_file_in_python_has_names_only(tmp_path: Path) -> None:
    how = Overrides(travel="file", path="ours.py", format="python")
    overrides.write(how, (KNOBS[0], KNOBS[3]), VALUES, tmp_path)
    assert (tmp_path / "ours.py").read_text() == "depth = 6\nACT = 'a\"b'\n"
    with pytest.raises(ValueError, match=r"'optim\.lr' is no Python name"):
        overrides.write(how, KNOBS, VALUES, tmp_path)
    (tmp_path / "ours").mkdir()
    with pytest.raises(ValueError, match="ours is a folder of the source"):
        overrides.write(Overrides(travel="file", path="ours"), KNOBS, VALUES, tmp_path)


SOURCE = 'é = "ü"; DEPTH = 8  # layers\nRATE: float = (1 +\n   2)\nclass H:\n    lr = 0.1\n    def f(self): lr = 3\n'


def test_constants_are_replaced_where_they_stand_and_nothing_else_changes() -> None:
    changed = overrides.with_constants(SOURCE, {"DEPTH": 12, "RATE": 0.5, "H.lr": 3e-4}, "train.py")
    wanted = SOURCE.replace("DEPTH = 8", "DEPTH = 12").replace("(1 +\n   2)", "(0.5)").replace("= 0.1", "= 0.0003")
    assert changed == wanted


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.text(max_size=9))
def test_a_constant_reads_as_what_was_written(value: Any) -> None:
    scope: dict[str, Any] = {}
    exec(overrides.with_constants("A = [1,\n 2]\nB = A\n", {"A": value}, "x.py"), scope)
    assert scope["B"] == value


@pytest.mark.parametrize(
    ("text", "name", "sentence"),
    [
        ("A = 1\n", "B", "x.py: has no constant B, which recipe.toml declares"),
        ("A = 1\nA = 2\n", "A", "x.py: assigns 2 times to A"),
        ("def f():\n    A = 1\n", "A", "x.py: has no constant A"),
        ("A = (\n", "A", "x.py: is no Python"),
    ],
)
def test_a_constant_that_is_not_there_once_is_named(text: str, name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^x\.py: ") as refused:
        overrides.with_constants(text, {name: 1}, "x.py")
    assert sentence in str(refused.value)


# --- data -------------------------------------------------------------------------------------


def test_nanogpt_finds_train_and_watched_text_and_nothing_that_is_held_out(tmp_path: Path) -> None:
    make_dataset(tmp_path, held_out="secret")
    home = tmp_path / "tiny"
    folder = laid_out(home, "nanogpt", "", tmp_path / "kept")
    assert sorted(path.name for path in folder.iterdir()) == ["meta.pkl", "train.bin", "val.bin"]
    manifest = load_manifest(home)
    for name, split in (("train", "train"), ("val", "watch")):
        tokens = TokenArray(home / "train", manifest, split)
        assert np.array_equal(np.fromfile(folder / f"{name}.bin", "<u2"), tokens.span(0, len(tokens)))
    meta = pickle.loads((folder / "meta.pkl").read_bytes())
    assert meta["vocab_size"] == 256 and meta["itos"][meta["stoi"]["a"]] == "a"
    assert laid_out(home, "nanogpt", "", tmp_path / "kept") == folder, "made once"
    assert laid_out(home, "ours", "", tmp_path / "kept") == home / "train"
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_llmc_finds_shards_with_their_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_runner.command.layout.SHARD", 400)
    make_dataset(tmp_path)
    folder = laid_out(tmp_path / "tiny", "llmc", "fineweb_", tmp_path / "kept")
    assert sorted(path.name for path in folder.iterdir()) == [
        "fineweb_train_000001.bin", "fineweb_train_000002.bin", "fineweb_val_000000.bin",
    ]  # fmt: skip
    body = (folder / "fineweb_train_000002.bin").read_bytes()
    header = np.frombuffer(body[:1024], "<i4")
    assert header[:3].tolist() == [20240520, 1, 201] and len(body) == 1024 + 2 * 201
