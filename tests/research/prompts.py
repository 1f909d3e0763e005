"""What stands in a prompt, and what of it outside of the fences."""

from __future__ import annotations

import re
from typing import Any

from research.arms.claude.prompt import Prompt
from research.change.drafts import Draft, Prediction

FENCED = re.compile(r"<data id=([0-9a-f]{16}) label=(\"[^\n]*\")>\n(.*?)\n</data id=\1>", re.S)


def earlier() -> Draft:
    said = Prediction(effect_bpb=-0.01, low_bpb=-0.02, high_bpb=0.0, chance_to_win=0.4)
    return Draft(title="Old", hypothesis="h", mechanism="m", refuted_if="r", prediction=said)


def written_out(asked: Prompt) -> str:
    """Every block in order, with a line that says where the cache may end."""
    blocks: list[Any] = [*asked.system, *asked.messages[0]["content"]]
    return "".join(
        b["text"] + ("\n\n=== cached up to here ===\n\n" if "cache_control" in b else "\n\n---\n\n") for b in blocks
    )


def outside(asked: Prompt) -> str:
    """What stands outside of all marks: our own words."""
    return FENCED.sub("", written_out(asked))
