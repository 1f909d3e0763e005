"""Claude is told what a foreign trainer is, that its number is its own word, and only of the files that it names."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_runner import contract
from research.arms.claude import prompt
from research.change.drafts import Word
from tests.research.briefs import make_brief, make_precedent

FOREIGN = """
[recipe]
kind = "command"
editable = ["train.py"]
shown = ["prepare.py"]
[command]
run = ["{python}", "train.py", "{steps}"]
steps = 9
[metrics]
reader = "block"
metric = "accuracy"
direction = "higher"
"""
MODEL = '[model]\nfile = "model.py"\ncheckpoint = "ckpt.pt"\nseq_len = 64\n'
WORD = Word(metric="accuracy", unit="percent", direction="higher", is_judged=True, incumbent=71.25, noise_sd=0.5)


def asked(**over: Any) -> str:
    return "\n".join(str(block["text"]) for block in prompt.propose(make_brief(**over)).messages[0]["content"])  # type: ignore[index]


def test_claude_is_told_that_a_number_is_the_trainers_own_word() -> None:
    told = asked(recipe_toml=FOREIGN, word=WORD, precedents=(make_precedent(self_reported="+0.5 percent of accuracy"),))
    assert "- Incumbent: 71.25000 percent (accuracy, self-reported)" in told
    assert "standard deviation 0.50000 percent (accuracy, self-reported) of a paired difference" in told
    assert "Its number is self-reported: accuracy in percent, higher is better." in told
    assert "state them in its unit, candidate minus incumbent (positive is better)" in told
    assert '"+0.5 percent of accuracy"' in told
    assert "judges no such numbers" in asked(recipe_toml=FOREIGN, word=Word(**(vars(WORD) | {"is_judged": False})))


def test_a_trainer_whose_model_is_opened_is_measured_in_bits_per_byte() -> None:
    told = asked(recipe_toml=FOREIGN + MODEL, incumbent_bpb=1.5)
    assert "# The trainer is not ours" in told and "measured by the trusted scorer, in bits per byte" in told
    assert "- Incumbent: 1.50000 bpb" in told and "self-reported" not in told
    assert "trainer is not ours" not in asked()


@pytest.mark.parametrize(("path", "is_shown"), [("train.py", True), ("prepare.py", True), ("data/x.py", False)])
def test_of_a_foreign_repository_only_what_the_recipe_names_is_shown(path: str, is_shown: bool) -> None:
    recipe = contract.parse_recipe(FOREIGN)
    assert recipe.shows(path) is is_shown and recipe.shows("recipe.toml")
    assert contract.parse_recipe("").shows(path)
