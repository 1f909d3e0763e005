"""What Claude is asked, made up."""

from __future__ import annotations

from typing import Any

from research.change.drafts import (
    Brief,
    Imported,
    Override,
    Precedent,
)

TRAIN = "def act(x):\n    return x.relu()\n"


RECIPE = """\
[recipe]
name = "gpt"
about = ""
editable = ["train.py"]

[knobs.depth]
type = "int"
default = 4
low = 1
high = 8
help = ""

[knobs.matrix_lr]
type = "float"
default = 0.02
low = 0.001
high = 0.2
help = ""
"""


def make_precedent(**over: Any) -> Precedent:
    base: dict[str, Any] = {
        "number": 7,
        "title": "Deeper",
        "state": "judged",
        "outcome": "discard",
        "reason": "Worse.",
        "effect_bpb": 0.02,
        "low_bpb": 0.01,
        "high_bpb": 0.03,
        "overrides": (Override(key="depth", value=6, reason=""),),
        "patch": "",
        "source": "SECRET-ARM",
        "on_incumbent": True,
    }
    return Precedent(**(base | over))


def make_imported(**over: Any) -> Imported:
    base: dict[str, Any] = {
        "number": 1,
        "source": "autoresearch",
        "title": "Half the batch",
        "outcome": "kept",
        "said": "keep",
        "metric": "val_bpb",
        "direction": "lower",
        "value": 1.5,
    }
    return Imported(**(base | over))


def make_brief(**over: Any) -> Brief:
    base: dict[str, Any] = {
        "campaign": "first",
        "goal": "lower val_bpb",
        "program": "try optimizers",
        "recipe_toml": RECIPE,
        "files": {"train.py": TRAIN, "recipe.toml": RECIPE},
        "incumbent_bpb": 1.5,
        "noise_sd_bpb": 0.01,
        "min_effect_bpb": 0.005,
        "run_budget": "750,000 tokens",
        "hardware": "cpu",
        "budget_left": "2 hours",
        "precedents": (),
        "num_wanted": 2,
        "seed": 1,
    }
    return Brief(**(base | over))
