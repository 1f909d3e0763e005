"""alice brings a trainer of her own: recipe.toml says how it is started and read; every mistake in it has a line."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gpu_runner import contract

FOREIGN = """\
[recipe]
name = "nano"
about = "nanoGPT as it is."
kind = "command"
editable = ["model.py"]
shown = ["config/small.py"]

[command]
run = ["{python}", "train.py", "config/small.py", "--seed={seed}", "--max_iters={steps}", "{overrides}"]
steps = 5000
env = {WANDB_MODE = "disabled", LAYERS = "{n_layer}"}
layout = "nanogpt"

[command.overrides]
pattern = ["--{key}={value}"]

[metrics]
reader = "regex"
metric = "val_loss"
unit = "nats per token"
pattern = ['step (?P<step>[0-9]+): train loss (?P<loss>[0-9.]+), val loss (?P<val_loss>[0-9.]+)']

[model]
file = "countersign_model.py"
checkpoint = "ckpt.pt"
seq_len = 256

[knobs.n_layer]
type = "int"
default = 6
low = 1
help = "Blocks."

[knobs.lr]
name = "optim.learning_rate"
type = "float"
default = 0.001
help = "Peak."
"""


def without(table: str) -> str:
    """FOREIGN without one of its tables."""
    begins = FOREIGN.index(f"[{table}]")
    return FOREIGN[:begins] + FOREIGN[FOREIGN.index("\n[", begins) + 1 :]


def test_a_foreign_trainer_is_read_whole() -> None:
    recipe = contract.parse_recipe(FOREIGN)
    assert recipe.kind == "command" and recipe.shown == ("config/small.py",) and not recipe.is_self_reported
    assert recipe.command is not None and recipe.metrics is not None and recipe.model is not None
    assert recipe.command.named == {"python", "seed", "steps", "overrides", "n_layer"}
    assert recipe.command.overrides.pattern == ("--{key}={value}",)
    assert (recipe.metrics.reads, recipe.metrics.direction) == ("val_loss", "lower")
    assert [knob.called for knob in recipe.knobs] == ["n_layer", "optim.learning_rate"]
    assert contract.parse_recipe(without("model")).is_self_reported
    assert contract.parse_recipe("").kind == "harness"
    kept = contract.parse_recipe(contract.with_defaults(FOREIGN, {"n_layer": 8}))
    assert kept.knobs[0].default == 8 and kept.command == recipe.command


def test_a_budget_that_the_trainer_cannot_be_told_is_refused() -> None:
    command = contract.Command(run=("{python}", "train.py", "--tokens={tokens}"))
    assert command.problem_with_budget("tokens") is None
    assert "it must be in tokens, not in seconds" in (command.problem_with_budget("seconds") or "")
    ended = contract.Command(run=("{python}", "train.py"), ends="told")
    assert "ended by its seconds" in (ended.problem_with_budget("tokens") or "")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('kind = "command"', 'kind = "comand"', "recipe.toml, line 4: kind in [recipe]: Input should be 'harness' or"),
        ('kind = "command"\n', "", 'recipe.toml, line 7: [command] is for kind = "command"; set it in [recipe]'),
        ("shown =", "show =", "recipe.toml, line 6: show in [recipe] is not known; did you mean shown?"),
        ('["model.py"]', '["../model.py"]', "line 5: editable in [recipe]: '../model.py' must be a path inside"),
        ("[metrics]", "[metric]", "recipe.toml, line 17: [metric] is no table of a recipe; did you mean metrics?"),
        ("{seed}", "{sed}", "line 9: [command] run: {sed} is neither a placeholder nor a knob; did you mean seed?"),
        ('"{overrides}"]', '"a{overrides}"]', "line 9: [command] run: {overrides} must be a word of its own"),
        (', "{overrides}"', "", "line 9: [command] run: has no word {overrides}, so knob lr reaches the trainer"),
        ("steps = 5000\n", "", "line 8: [command] steps: is missing; {steps} is the smoke run's"),
        ("env = {", "envs = {", "recipe.toml, line 11: envs in [command] is not known; did you mean env?"),
        ("WANDB_MODE", "WANDB-MODE", "recipe.toml, line 11: WANDB-MODE in [command.env]: is spelled as no"),
        ('"nanogpt"', '"nano"', "line 12: layout in [command]: Input should be 'ours', 'nanogpt' or 'llmc'"),
        ("[command.overrides]\n", '[command.overrides]\ntravel = "file"\n', "path in [command.overrides]: is missing"),
        ("pattern = [\"-", "patern = [\"-", "line 15: patern in [command.overrides] is not known; did you mean"),
        ("{key}={value}", "knob", "line 15: pattern in [command.overrides]: has neither {key} nor {value}"),
        ('metric = "val_loss"', 'metric = "loss on val"', "recipe.toml, line 19: metric in [metrics]: "),
        ("(?P<val_loss>[0-9.]+)", "(?P<val>[0-9.]+)", "line 21: pattern in [metrics]: no group is called val_loss;"),
        ("(?P<val_loss>[0-9.]+)", "(?P<val_loss>[0-9.+)", "line 21: pattern in [metrics]: is no regular expression: "),
        ("(?P<val_loss>[0-9.]+)", "(?P<val_loss>(a|a)*)", "line 21: pattern in [metrics]: repeats a group"),
        ('reader = "regex"', 'reader = "block"', 'line 21: pattern in [metrics]: is for reader = "regex", not'),
        ('checkpoint = "ckpt.pt"', "", "recipe.toml, line 23: checkpoint in [model]: is missing; add it"),
        ('"ckpt.pt"', '"/tmp/ckpt.pt"', "line 25: checkpoint in [model]: '/tmp/ckpt.pt' must be a path inside"),
        ("seq_len = 256", 'seq_len = "n_layers"', "line 26: seq_len in [model]: 'n_layers' is no knob of type int;"),
        ('metric = "val_loss"', 'metric = "val_bpb"', "line 19: metric in [metrics]: val_bpb is what the trusted"),
        ("default = 6", "default = 0", "recipe.toml, line 30: the default of n_layer: 0 is below its lower bound 1"),
        ("low = 1", "lowest = 1", "recipe.toml, line 31: lowest in [knobs.n_layer] is not known; "),
        ("about = ", "about ", "recipe.toml: Expected '=' after a key in a key/value pair (at line 3, column 7)"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_the_way_out(old: str, new: str, sentence: str) -> None:
    assert FOREIGN.count(old) == 1
    with pytest.raises(ValueError, match="recipe") as refused:
        contract.parse_recipe(FOREIGN.replace(old, new))
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(("table", "sentence"), [("metrics", None), ("command", "[command] is missing; with kind = ")])
def test_a_trainer_without_entry_is_refused(table: str, sentence: str | None) -> None:
    text = without("command.overrides" if table == "command" else table)
    text = text.replace(text[text.index("[command]") : text.index("[metrics]")], "") if table == "command" else text
    if sentence is None:  # its model says enough
        assert contract.parse_recipe(text).metrics is None
        text, sentence = text.replace(text[text.index("[model]") : text.index("[knobs.n_")], ""), "[metrics] is missing"
    with pytest.raises(ValueError, match="recipe") as refused:
        contract.parse_recipe(text)
    assert sentence in str(refused.value)


def test_the_recipe_that_the_page_shows_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    shown = page[page.index("    [recipe]") : page.index("nanoGPT sets its own seed")]
    recipe = contract.parse_recipe(textwrap.dedent(shown))
    assert recipe.kind == "command" and recipe.is_self_reported and recipe.knobs[0].called == "learning_rate"
    kinds = (contract.Knob, contract.Command, contract.Overrides, contract.Metrics, contract.Model)
    assert [name for kind in kinds for name in kind.model_fields if f"`{name}`" not in page and name != "key"] == []
