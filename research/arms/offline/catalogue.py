"""``catalogue.toml`` as frozen entries, and the overrides that an entry gives on an incumbent. Pure.

Values may be relative to the incumbent (``{ times = 1.4 }``, ``{ plus = 2 }``), so that an entry stays useful after
others were kept. A value that would leave its bounds makes the entry inapplicable: nothing is clamped.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gpu_runner.contract import Knob, Knobs, KnobValue, Recipe

PATH = Path(__file__).with_name("catalogue.toml")


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Times(_Row):
    times: float = Field(gt=0)


class Plus(_Row):
    plus: float


class Prior(_Row):
    """What literature and judgement expect at small scale; bpb, negative is better, an interval of ``STATED``."""

    effect_bpb: float
    low: float
    high: float
    chance: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> Prior:
        if not self.low <= self.effect_bpb <= self.high:
            raise ValueError(f"prior: {self.effect_bpb} is outside {self.low}..{self.high}")
        return self


class SearchReplace(_Row):
    path: str = "train.py"
    search: str = Field(min_length=1)
    replace: str


class Entry(_Row):
    """One known ablation. ``{old}`` and ``{new}`` in its texts are the values of the first knob it sets."""

    slug: str = Field(pattern=r"^[a-z0-9-]{3,40}$")
    title: str = Field(max_length=100)
    area: Literal["optimizer", "schedule", "shape", "attention", "mlp", "embedding", "batch", "loss", "initialisation"]
    hypothesis: str
    mechanism: str
    refuted_if: str
    evidence: str
    prior: Prior
    risk: Literal["contained", "may_diverge", "heavier", "numerics"] = "contained"
    why_together: str = ""  # why more than one thing changes at once
    when: Knobs = {}  # the incumbent's knobs without which it makes no sense
    set: dict[str, KnobValue | Times | Plus] = {}
    edits: list[SearchReplace] = []


@cache
def catalogue() -> tuple[Entry, ...]:
    """Every entry, in the file's order. Raises ValueError for a catalogue that is not in order."""
    table = tomllib.loads(PATH.read_text(encoding="utf-8"))
    entries = tuple(Entry.model_validate(row) for row in table["entry"])
    slugs = [e.slug for e in entries]
    if twice := {s for s in slugs if slugs.count(s) > 1}:
        raise ValueError(f"catalogue.toml: {', '.join(sorted(twice))} stands more than once")
    return entries


def values_of(entry: Entry, recipe: Recipe) -> Knobs | None:
    """The overrides of ``entry`` on this incumbent, or None when it does not apply."""
    now = {k.key: k.default for k in recipe.knobs}
    if any(now.get(key) != value for key, value in entry.when.items()):
        return None
    wanted = {key: _value(change, recipe.knob(key), now) for key, change in entry.set.items()}
    values: Knobs = {key: value for key, value in wanted.items() if value is not None and value != now[key]}
    if len(values) < len(wanted) or recipe.problems_with(values):
        return None
    return values


def _value(change: KnobValue | Times | Plus, knob: Knob | None, now: Mapping[str, KnobValue]) -> KnobValue | None:
    if knob is None:
        return None
    if not isinstance(change, Times | Plus):
        return change
    start = now[knob.key]
    if isinstance(start, bool | str):
        return None
    return rounded(start * change.times if isinstance(change, Times) else start + change.plus, knob)


def rounded(value: float, knob: Knob) -> KnobValue:
    """``value`` to three significant digits, or the nearest whole number that the knob allows."""
    if knob.type == "int":
        unit = knob.multiple_of or 1
        return round(value / unit) * unit
    return float(f"{value:.3g}")
