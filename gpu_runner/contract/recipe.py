"""The recipe: what a proposal may change, as ``recipe.toml`` declares it."""

from __future__ import annotations

import json
import math
import re
import sys
import tomllib
from pathlib import PurePosixPath
from typing import Any, Literal

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


class Recipe(Wire):
    """A parsed ``recipe.toml``: name, what it is, which files may be edited, its knobs."""

    name: str
    about: str
    editable: tuple[str, ...]
    knobs: tuple[Knob, ...]

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


def parse_recipe(text: str) -> Recipe:
    """Parse ``recipe.toml``. Raises ValueError that names the table and the field."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"recipe.toml: {error}") from error
    head, bodies = (_table(table, name) for name in ("recipe", "knobs"))
    knobs = []
    for key, body in bodies.items():
        if not isinstance(body, dict):
            raise ValueError(f"recipe.toml: [knobs.{key}] must be a table")
        fields = body | {"key": key}
        if isinstance(fields.get("choices"), list):
            fields["choices"] = tuple(fields["choices"])
        knob = Knob(**fields)
        if (problem := knob.problem_with(knob.default)) is not None:
            raise ValueError(f"recipe.toml: the default of {problem}")
        knobs.append(knob)
    editable = head.get("editable", [])
    if not isinstance(editable, list):
        raise ValueError("recipe.toml: editable in [recipe] must be a list of files")
    return Recipe(
        name=head.get("name", ""),
        about=head.get("about", ""),
        editable=tuple(editable),
        knobs=tuple(knobs),
    )


def _table(of: dict[str, Any], name: str) -> dict[str, Any]:
    found = of.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"recipe.toml: [{name}] must be a table")
    return found


_DEFAULT_LINE = re.compile(r"^default\s*=.*$", re.M)


def with_defaults(text: str, overrides: Knobs) -> str:
    """``recipe.toml`` with the defaults of ``overrides`` replaced in place: comments and order stay."""
    for key, value in overrides.items():
        start = text.index(f"[knobs.{key}]")
        end = text.find("\n[", start)
        end = len(text) if end == -1 else end
        body, count = _DEFAULT_LINE.subn(f"default = {json.dumps(value)}", text[start:end], count=1)
        if count != 1:
            raise ValueError(f"recipe.toml: [knobs.{key}] has no line that starts with 'default ='")
        text = text[:start] + body + text[end:]
    return text


def is_safe_path(path: str) -> bool:
    """True for a relative POSIX path that stays inside its folder."""
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and "\0" not in path
