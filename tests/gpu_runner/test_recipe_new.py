"""alice points at somebody else's training repository and gets a first recipe.toml that says what it is not sure of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpu_runner.__main__ import main
from gpu_runner.adopt.draft import Draft, draft
from gpu_runner.adopt.tree import Tree
from gpu_runner.command.readers import Expressions
from gpu_runner.contract import Recipe, parse_recipe
from tests.worker.trainers import NANO

from .repositories import BLOCK, DASHES, OMEGA, SPEEDRUN, TRAINER, brought


def drafted(folder: Path, files: dict[str, str], entry: str | None = None) -> Draft:
    return draft(Tree.read(brought(folder, files)), entry)


def knobs(recipe: Recipe) -> dict[str, object]:
    return {knob.called: knob.default for knob in recipe.knobs}


def words(recipe: Recipe) -> tuple[str, ...]:
    assert recipe.command is not None
    return recipe.command.run


def doubts(made: Draft) -> str:
    return "\n".join(f"{about}: {sentence}" for about, sentence in made.doubts)


def test_nanogpt_is_read_through_its_configurator(tmp_path: Path) -> None:
    made = drafted(tmp_path / "nano", {name: text for name, text in NANO.items() if name != "recipe.toml"})
    recipe = made.recipe
    assert made.entries[0].path == "train.py"
    assert words(recipe) == (
        "{python}", "train.py", "--max_iters={steps}", "--seed={seed}", "--out_dir={out}", "--dataset=ours",
        "{overrides}",
    )  # fmt: skip
    assert knobs(recipe) == {"n_layer": 12, "learning_rate": 6e-4, "bias": False}, "no intervals, no folders"
    command, metrics = recipe.command, recipe.metrics
    assert command is not None and metrics is not None
    assert (command.layout, command.steps, command.overrides.travel) == ("nanogpt", 5000, "arguments")
    assert (metrics.metric, metrics.loss, metrics.unit) == ("val_loss", "loss", "nats per token")
    reader = Expressions(metrics.pattern)
    assert list(reader.take("step 250: train loss 3.1000, val loss 3.2500")) == [{"step": 250.0, "val_loss": 3.25}]
    assert list(reader.take("iter 7: loss nan, time 1.00ms")) == [
        {"step": 7.0, "loss": pytest.approx(float("nan"), nan_ok=True)}
    ]
    assert [s.line for s in made.sources if s.what == "knob learning_rate"] == [10]
    assert "steps in [command]: how long a whole run is" in doubts(made)
    assert recipe.editable == ("train.py",) and "helper.py" in recipe.shown
    assert recipe.knobs[1].low is not None and recipe.knobs[1].low < 6e-4 < (recipe.knobs[1].high or 0)


def test_options_with_dashes_become_words_of_their_own(tmp_path: Path) -> None:
    made = drafted(tmp_path, DASHES)
    recipe = made.recipe
    assert words(recipe) == (
        "{python}", "-m", "scripts.base_train", "--num-iterations={steps}", "--seed={seed}", "--out-dir={out}",
        "--embedding-lr={embedding_lr}", "{overrides}",
    )  # fmt: skip
    assert knobs(recipe) == {"depth": 20, "embedding_lr": 3.0, "schedule": "cosine", "swiglu": False}
    assert recipe.knob("depth") is not None and recipe.knob("depth").help == "layers of the model"  # type: ignore[union-attr]
    assert any("tie-embeddings" in said for said in made.left_out), "a flag with a dash has no way in"
    assert recipe.metrics is not None and (recipe.metrics.metric, recipe.metrics.key) == ("reported_val_bpb", "val_bpb")
    line = "step 00004/00010 (40.00%) | loss: 2.500000 | dt: 3.00ms"
    assert list(Expressions(recipe.metrics.pattern).take(line)) == [{"step": 4.0, "loss": 2.5}]
    assert recipe.editable == ("scripts/base_train.py", "chat/gpt.py") and recipe.shown == ("chat/dataloader.py",)
    assert "num-iterations says none" in doubts(made)


def test_a_hugging_face_script_has_its_own_fields_and_transformers(tmp_path: Path) -> None:
    made = drafted(tmp_path, TRAINER)
    assert words(made.recipe)[2:] == (
        "--max_steps",
        "{steps}",
        "--seed",
        "{seed}",
        "--output_dir",
        "{out}",
        "{overrides}",
    )
    found = knobs(made.recipe)
    assert {"hidden_size": 512, "dropout": 0.1, "rope_theta": 10000.0, "learning_rate": 5e-5}.items() <= found.items()
    assert made.recipe.metrics is not None
    said = "{'eval_loss': 3.25, 'eval_runtime': 1.2, 'epoch': 0.01}"
    assert list(Expressions(made.recipe.metrics.pattern).take(said)) == [{"eval_loss": 3.25}]
    assert "default in [knobs.learning_rate]: a field of transformers' own" in doubts(made)


def test_a_class_of_numbers_is_replaced_where_it_stands_and_torchrun_is_not_needed(tmp_path: Path) -> None:
    made = drafted(tmp_path, SPEEDRUN)
    command = made.recipe.command
    assert command is not None and command.overrides.travel == "constants" and command.overrides.path == "train_gpt.py"
    assert knobs(made.recipe) == {"Hyperparameters.cooldown_frac": 0.4}, "no stage, whose numbers are given; no budget"
    assert command.env["RANK"] == "0" and command.env["MASTER_ADDR"] == "127.0.0.1"
    assert (command.layout, command.data_at, command.data_prefix) == ("llmc", "data/fineweb10B", "fineweb_")
    assert "line 14, as Hyperparameters.num_iterations" in doubts(made)
    assert made.recipe.editable == ("train_gpt.py", "muon.py")
    assert made.recipe.metrics is not None
    line = "step:125/1770 val_loss:4.2500 train_time:3ms"
    assert list(Expressions(made.recipe.metrics.pattern).take(line)) == [{"step": 125.0, "val_loss": 4.25}]


def test_a_block_at_the_end_is_read_as_one(tmp_path: Path) -> None:
    made = drafted(tmp_path, BLOCK)
    metrics = made.recipe.metrics
    assert metrics is not None and (metrics.reader, metrics.key, metrics.step) == ("block", "val_bpb", "num_steps")
    assert knobs(made.recipe) == {"DEPTH": 8, "TOTAL_BATCH_SIZE": 2**19, "MATRIX_LR": 0.04}, (
        "GPTConfig is given its own"
    )
    assert "prepare.py, line 1 sets TIME_BUDGET = 300" in doubts(made)
    assert "train.py, line 13 sets one of its own" in doubts(made)
    assert made.recipe.shown == ("prepare.py",)


def test_files_of_uint16_are_guessed_to_be_nanogpts(tmp_path: Path) -> None:
    script = """
import argparse, numpy as np
parser = argparse.ArgumentParser()
parser.add_argument("--data_dir", default="data")
args = parser.parse_args()
rows = [np.memmap(f"{args.data_dir}/{name}.bin", dtype=np.uint16) for name in ("train", "val")]
loss.backward()
"""
    made = drafted(tmp_path, {"train.py": script})
    assert made.recipe.command is not None and made.recipe.command.layout == "nanogpt"
    assert "--data_dir={data}" in words(made.recipe) and "layout in [command]: a guess" in doubts(made)
    assert "[knobs]: nothing that sets its numbers" in doubts(made)
    assert "reader in [metrics]: nothing that prints such a number was found" in doubts(made)


def test_nested_dataclasses_over_a_file_take_the_files_defaults(tmp_path: Path) -> None:
    made = drafted(tmp_path, OMEGA)
    assert words(made.recipe)[1:] == (
        "apps/main/train.py", "config=apps/main/configs/debug.yaml", "steps={steps}", "seed={seed}", "dump_dir={out}",
        "{overrides}",
    )  # fmt: skip
    assert knobs(made.recipe) == {"optim.lr": 1e-3, "optim.warmup": 5, "model.dim": 1024, "model.n_layers": 8}
    assert made.recipe.command is not None and made.recipe.command.env["PYTHONPATH"] == "."
    assert "only a training loss was found" in doubts(made)
    assert "debug.yaml is one of several" in doubts(made)


@pytest.mark.parametrize(
    ("source", "line", "record"),
    [
        (
            'print("eval", step, "val loss:", val_loss)',
            "eval 3 val loss: 2.5",
            {"step": 3.0, "val_loss": 2.5},
        ),
        (
            'print("step {} valid_loss {:.3f}".format(step, loss))',
            "step 3 valid_loss 2.500",
            {"step": 3.0, "val_loss": 2.5},
        ),
        (
            'log.info(f"[{step}] ppl={ppl} val/loss={vl:.2e}")',
            "[3] ppl=9 val/loss=2.50e+00",
            {"step": 3.0, "val_loss": 2.5},
        ),
        (
            """msg = f"it {it} "\nmsg += f"(val) loss {losses['val']:.3f}"\nprint(msg)""",
            "it 3 (val) loss 2.5",
            {"val_loss": 2.5},
        ),
        (
            'print(f"loss {loss:.3f} best val loss {best:.3f} val acc {a:.1f}")',
            "loss 1.0 best val loss 2.0 val acc 88.0",
            {"val_acc": 88.0},
        ),
        (
            'print(f"{color.red}step: {step}  \\x1b[32mloss: {loss:8.5f}")',
            "\x1b[31mstep: 3  \x1b[32mloss:  2.50000",
            {"step": 3.0, "loss": 2.5},
        ),
    ],
)
def test_a_number_is_found_however_it_is_printed(
    tmp_path: Path, source: str, line: str, record: dict[str, float]
) -> None:
    made = drafted(tmp_path, {"train.py": f"loss.backward()\n{source}\n"})
    assert made.recipe.metrics is not None
    (found,) = Expressions(made.recipe.metrics.pattern).take(line)
    assert found == record, made.recipe.metrics.pattern


# --- the command ----------------------------------------------------------------------------


def test_new_writes_one_file_says_where_each_came_from_and_replaces_nothing_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = brought(tmp_path / "block", BLOCK)
    assert main(["recipe", "new", str(folder), "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert parse_recipe(printed.out).name == "block" and "Not sure of:" in printed.err
    assert sorted(path.name for path in folder.iterdir()) == ["prepare.py", "train.py"]
    assert main(["recipe", "new", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "knob depth" in said and "train.py:8  DEPTH = 8               # number of transformer layers" in said
    assert "# unsure: " in (folder / "recipe.toml").read_text()
    parse_recipe((folder / "recipe.toml").read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["prepare.py", "recipe.toml", "train.py"]
    (folder / "recipe.toml").write_text("mine")
    assert main(["recipe", "new", str(folder)]) == 1
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert (folder / "recipe.toml").read_text() == "mine"
    assert main(["recipe", "new", str(folder), "--force"]) == 0


@pytest.mark.parametrize(
    ("files", "words", "sentence"),
    [
        ({"notes.py": "x = 1\n"}, [], "looks as if it trains"),
        (BLOCK, ["--entry", "trian.py"], "is no Python file of this repository; did you mean train.py?"),
    ],
)
def test_what_cannot_be_read_is_said_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], words: list[str], sentence: str
) -> None:
    folder = brought(tmp_path / "it", files)
    assert main(["recipe", "new", str(folder), *words]) == 1
    assert sentence in capsys.readouterr().err
    assert main(["recipe", "new", str(tmp_path / "nowhere")]) == 1
    assert "is no folder" in capsys.readouterr().err
    assert not (folder / "recipe.toml").exists()


HOSTILE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--learning-rate", type=float, default=1e400, help="inf")
parser.add_argument("--lr", type=float, default=0.1, help="a\\x1b[31mred\\n[knobs.lr]\\ndefault = 9 \\u202e\\"\\'")
parser.add_argument("--n\\n_layer", type=int, default=2)
parser.add_argument("--depth", type=int, default=9**9**9)
parser.add_argument("--width{seed}", type=int, default=2)
parser.add_argument("--out{dir", default="x")
parser.add_argument("--seed", default="{data}")
parser.add_argument("--batch_size", choices=["a\\nb", "c"], default="c")
open("/tmp/was-run", "w")
loss.backward()
print(f"val \\x1b[0m loss ({{x}})* {loss:.2f}")
"""


def test_hostile_text_stays_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "secret.py"
    outside.write_text("SECRET_LR = 0.5\nloss.backward()\nprint(f'val loss {x}')\n")
    files = {
        "train.py": HOSTILE,
        "deep.py": f"x = {'-' * 900}1\n",
        "chain.py": f"x = 1{'+1' * 3000}\n",
        "broken.py": "def (:\n",
        "long.yaml": "a" * 200_000,
        "tra{seed}in.py": "",
    }
    folder = brought(tmp_path / "evil", files)
    (folder / "huge.py").write_bytes(b"#" * (2 << 20))
    (folder / "binary.py").write_bytes(bytes(range(256)))
    (folder / "linked.py").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pretrain.py")
    (folder / "a\x1b[31m.py").write_text("")
    assert main(["recipe", "new", str(folder)]) == 0
    said = capsys.readouterr().out + (folder / "recipe.toml").read_text()
    assert not [character for character in said if ord(character) < 32 and character != "\n"]
    assert "\u202e" not in said and "SECRET" not in said
    recipe = parse_recipe((folder / "recipe.toml").read_text())
    assert recipe.knob("lr") is not None and recipe.knob("lr").default == 0.1  # type: ignore[union-attr]
    assert {"learning_rate", "depth"}.isdisjoint(knob.key for knob in recipe.knobs)
    for name in ("deep.py", "chain.py", "linked.py", "loop/train.py", "tra{seed}in.py", "pretrain.py"):
        if name in Tree.read(folder).known:
            parse_recipe(draft(Tree.read(folder), name).text)
        else:
            with pytest.raises(ValueError, match="is no Python file"):
                draft(Tree.read(folder), name)
