"""Reads and rewrites ``recipe.toml``. Every error names file, table, key and, where that is known, the line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from gpu_runner.contract.closest import closest
from gpu_runner.contract.command import Command, Metrics, Model, Overrides
from gpu_runner.contract.knobs import Knob, Knobs
from gpu_runner.contract.recipe import Recipe
from gpu_runner.contract.wire import Wire

W = TypeVar("W", bound=Wire)
TABLES = ("recipe", "knobs", "command", "metrics", "model")
OF_A_COMMAND: Mapping[str, type[Wire]] = {"command": Command, "metrics": Metrics, "model": Model}
_NOT_IN_THE_TABLE = ("knobs", *OF_A_COMMAND)  # fields of Recipe that are tables of their own


def parse_recipe(text: str) -> Recipe:
    """Parse ``recipe.toml``. Raises ValueError in one sentence: file, line, table, key, and the way out."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"recipe.toml: {error}") from error
    for name in tables:
        if name not in TABLES:
            raise ValueError(f"recipe.toml{_at(text, name)}: [{name}] is no table of a recipe; {closest(name, TABLES)}")
    head = _table(text, tables, "recipe")
    _refuse_unknown(text, "recipe", head, [name for name in Recipe.model_fields if name not in _NOT_IN_THE_TABLE])
    if not isinstance(head.get("editable", []), list):
        raise ValueError(f"recipe.toml{_at(text, 'recipe', 'editable')}: editable in [recipe] must be a list of files")
    _nest(text, tables)
    parts = {name: _part(text, name, kind, tables[name]) for name, kind in OF_A_COMMAND.items() if name in tables}
    recipe = _made(text, "recipe", Recipe, head | {"knobs": _knobs(text, tables)} | parts)
    _refuse_misfit(text, recipe)
    return recipe


def _nest(text: str, tables: dict[str, Any]) -> None:
    """Read [command.overrides] first, so that its errors name it."""
    command = tables.get("command")
    if isinstance(command, dict) and "overrides" in command:
        said = _part(text, "command.overrides", Overrides, command["overrides"])
        tables["command"] = command | {"overrides": said}


def _knobs(text: str, tables: Mapping[str, Any]) -> tuple[Knob, ...]:
    knobs = []
    for key, body in _table(text, tables, "knobs").items():
        where = f"knobs.{key}"
        if not isinstance(body, dict):
            raise ValueError(f"recipe.toml{_at(text, where)}: [{where}] must be a table")
        knob = _part(text, where, Knob, body, key=key)
        if (problem := knob.problem_with(knob.default)) is not None:
            raise ValueError(f"recipe.toml{_at(text, where, 'default')}: the default of {problem}")
        knobs.append(knob)
    return tuple(knobs)


def _refuse_misfit(text: str, recipe: Recipe) -> None:
    """Raises ValueError where tables that are fine each do not fit together."""
    command = recipe.command
    if recipe.kind == "harness":
        for name in OF_A_COMMAND:
            if getattr(recipe, name) is not None:
                raise ValueError(f'recipe.toml{_at(text, name)}: [{name}] is for kind = "command"; set it in [recipe]')
        return
    if command is None:
        raise ValueError('recipe.toml: [command] is missing; with kind = "command" its run starts the trainer')
    if recipe.metrics is None and recipe.model is None:
        raise ValueError(
            "recipe.toml: [metrics] is missing; it says how the trainer's number is read (or [model], how its model"
            " is opened)"
        )
    keys = [knob.key for knob in recipe.knobs if knob.type == "int"]
    if recipe.model is not None and isinstance(length := recipe.model.seq_len, str) and length not in keys:
        said = f"seq_len in [model]: {length!r} is no knob of type int; {closest(length, keys)}"
        raise ValueError(f"recipe.toml{_at(text, 'model', 'seq_len')}: {said}")
    if recipe.model is not None and "steps" not in command.named:
        said = "run in [command]: names no {steps}; with [model] it must, or no smoke run ends with a checkpoint"
        raise ValueError(f"recipe.toml{_at(text, 'command', 'run')}: {said}")
    if (problem := command.problem_with_knobs({knob.key: knob.called for knob in recipe.knobs})) is not None:
        key = problem.partition(":")[0]
        raise ValueError(f"recipe.toml{_at(text, 'command', key)}: [command] {problem}")


# --- one table ------------------------------------------------------------------------------


def _table(text: str, of: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = of.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"recipe.toml{_at(text, name)}: [{name}] must be a table")
    return found


def _part(text: str, where: str, kind: type[W], body: Any, **given: Any) -> W:
    if not isinstance(body, dict):
        raise ValueError(f"recipe.toml{_at(text, where)}: [{where}] must be a table")
    _refuse_unknown(text, where, body, [name for name in kind.model_fields if name not in given])
    return _made(text, where, kind, body | given)


def _refuse_unknown(text: str, where: str, body: Mapping[str, Any], known: list[str]) -> None:
    for key in body:
        if key not in known:
            raise ValueError(
                f"recipe.toml{_at(text, where, key)}: {key} in [{where}] is not known; {closest(key, known)}"
            )


def _made(text: str, where: str, kind: type[W], fields: Mapping[str, Any]) -> W:
    try:
        return kind(**{name: _frozen(value) for name, value in fields.items()})
    except ValidationError as error:
        found = error.errors()[0]
        said = _in_words(found["type"], found["msg"])
        key, table = _split([str(part) for part in found["loc"]], where)
        if not key and (of_the_whole := said.partition(": ")[0]) in kind.model_fields:  # two keys that do not fit
            key, said = of_the_whole, said.removeprefix(f"{of_the_whole}: ")
        named = f"{key} in [{table}]" if key else f"[{table}]"
        raise ValueError(f"recipe.toml{_at(text, table, key)}: {named}: {said}") from error


def _frozen(value: Any) -> Any:
    """TOML's lists as the tuples that frozen messages hold, at any depth."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return {key: _frozen(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _split(inner: list[str], where: str) -> tuple[str, str]:
    """The key and its table, of an error's place inside of table ``where``. Places in a list are left out."""
    names = [name for name in inner if not name.isdigit() and name != "[key]"]
    if len(names) > 1:
        return names[-1], ".".join((where, *names[:-1]))
    return (names[0] if names else ""), where


def _in_words(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing; add it"
    if kind == "extra_forbidden":
        return "is not known; leave it out"
    if kind == "string_pattern_mismatch":
        return f"is spelled as no such name may be; it {message[message.index('should') :]}"
    return message.removeprefix("Value error, ")


# --- lines ----------------------------------------------------------------------------------


def _at(text: str, table: str, key: str = "") -> str:
    """``", line 12"``: where ``key`` of ``table`` stands, else the table's head; empty where neither is found."""
    head = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]")
    wanted = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
    found, inside = 0, False
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"\s*\[", line):
            inside = head.match(line) is not None
            found = found or (number if inside else 0)
        elif (inside and key and wanted.match(line)) or (not found and re.match(rf"{re.escape(table)}\s*=", line)):
            return f", line {number}"
    if not found and "." in table:  # written inside of its table, as in overrides = {...}
        return _at(text, *table.rsplit(".", 1))
    return f", line {found}" if found else ""


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
