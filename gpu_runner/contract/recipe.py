"""The recipe: what a proposal may change, and how it trains. ``recipe_toml.py`` reads it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gpu_runner.contract.command import Command, Metrics, Model, Path
from gpu_runner.contract.knobs import Knob, Knobs, KnobValue
from gpu_runner.contract.wire import Wire


class Recipe(Wire):
    """A parsed ``recipe.toml``: name, what it is, which files may be edited, its knobs, and how it trains.

    ``kind`` "harness": ``train(run)`` of ``train.py`` beside our harness. "command": a foreign trainer, as ``command``
    starts it and ``metrics`` reads it; its number is self-reported unless ``model`` lets the trusted scorer measure it.
    """

    name: str = ""
    about: str = ""
    kind: Literal["harness", "command"] = "harness"
    editable: tuple[Path, ...] = ()
    shown: tuple[Path, ...] = ()  # to Claude, beside the editable ones
    budget_tokens: int | None = Field(default=None, ge=1)  # recommended for a newcomer's campaign
    budget_seconds: float | None = Field(default=None, gt=0)
    knobs: tuple[Knob, ...] = ()
    command: Command | None = None
    metrics: Metrics | None = None
    model: Model | None = None

    @property
    def is_self_reported(self) -> bool:
        """Whether its number is the trainer's own word."""
        return self.kind == "command" and self.model is None

    def shows(self, path: str) -> bool:
        """Whether Claude is shown this file: all of a recipe with the harness, of a foreign trainer what it names."""
        return self.kind == "harness" or path in ("recipe.toml", *self.editable, *self.shown)

    def knob(self, key: str) -> Knob | None:
        return next((k for k in self.knobs if k.key == key), None)

    def problems_with(self, overrides: Knobs) -> list[str]:
        """Every reason why ``overrides`` may not be used; empty when they may."""
        problems: list[str] = []
        for key, value in overrides.items():
            knob = self.knob(key)
            if knob is None:
                problems.append(
                    f"{key}: not declared in recipe.toml; declared are {', '.join(k.key for k in self.knobs)}"
                )
            elif (problem := knob.problem_with(value)) is not None:
                problems.append(problem)
        return problems

    def effective(self, overrides: Knobs) -> Knobs:
        """Defaults with ``overrides`` on top. Raises ValueError on the first bad one: never clamps."""
        if problems := self.problems_with(overrides):
            raise ValueError(problems[0])
        values: Knobs = {k.key: k.default for k in self.knobs} | overrides
        return {k.key: _as_type(k, values[k.key]) for k in self.knobs}


def _as_type(knob: Knob, value: KnobValue) -> KnobValue:
    if knob.type == "int":
        return int(value)
    return float(value) if knob.type == "float" else value
