"""Knobs: the declared overrides of a recipe, and the values that they take."""

from __future__ import annotations

import math
import sys
from typing import Literal

from pydantic import Field

from gpu_runner.contract.wire import Wire

KnobValue = int | float | bool | str
Knobs = dict[str, KnobValue]


class Knob(Wire):
    """One declared override: its type, bounds and default, as ``recipe.toml`` states them."""

    key: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    type: Literal["int", "float", "bool", "choice"]
    default: KnobValue
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    multiple_of: int | None = None
    name: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_.]{0,79})?$")  # what a foreign trainer calls it

    @property
    def called(self) -> str:
        """Its name in the trainer: ``name``, else its key."""
        return self.name or self.key

    def problem_with(self, value: object) -> str | None:
        """Why ``value`` may not be used, as a sentence naming the key and the way out; None if it may."""
        if self.type == "bool":
            return None if isinstance(value, bool) else f"{self.key}: must be true or false, not {value!r}"
        if self.type == "choice":
            if value in self.choices:
                return None
            return f"{self.key}: {value!r} is not one of {', '.join(self.choices)}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{self.key}: must be a number, not {value!r}"
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            return f"{self.key}: is larger than any number here"
        if not math.isfinite(value):
            return f"{self.key}: must be finite, not {value!r}"
        if self.type == "int" and value != int(value):
            return f"{self.key}: must be a whole number, not {value!r}"
        if self.low is not None and value < self.low:
            return f"{self.key}: {value:g} is below its lower bound {self.low:g}"
        if self.high is not None and value > self.high:
            return f"{self.key}: {value:g} is above its upper bound {self.high:g}"
        if self.multiple_of is not None and value % self.multiple_of:
            return f"{self.key}: {value:g} is not a multiple of {self.multiple_of}"
        return None
