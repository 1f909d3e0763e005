"""The values of knobs as a foreign trainer takes them: arguments, variables, a config file, constants in its source.

All values travel, not only those that a proposal changed: what recipe.toml calls a default is what is trained with,
whatever the trainer's own default is. So a kept change, which becomes recipe.toml's default, stays.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpu_runner.contract import Knob, Knobs, KnobValue, Overrides

BOOLEANS = {"python": ("False", "True"), "lower": ("false", "true"), "digits": ("0", "1"), "flag": ("False", "True")}


def as_text(value: KnobValue, booleans: str) -> str:
    """A value as one word."""
    return BOOLEANS[booleans][value] if isinstance(value, bool) else str(value)


def as_words(how: Overrides, knobs: Sequence[Knob], values: Knobs) -> list[str]:
    """What {overrides} stands for: all arguments, or the path of the config file."""
    if how.travel == "file":
        assert how.path is not None
        return [how.path]
    return [word for knob in knobs for word in _argument(how, knob, values[knob.key])]


def as_variables(how: Overrides, knobs: Sequence[Knob], values: Knobs) -> dict[str, str]:
    return {knob.called: as_text(values[knob.key], how.booleans) for knob in knobs}


def _argument(how: Overrides, knob: Knob, value: KnobValue) -> Iterator[str]:
    if isinstance(value, bool) and how.booleans == "flag":
        if value:  # the words up to the value: a flag that is there, or is not
            words = [word.partition("{value}")[0].rstrip("=") for word in how.pattern]
            yield from (word.replace("{key}", knob.called) for word in words if word)
        return
    text = as_text(value, how.booleans)
    yield from (word.replace("{key}", knob.called).replace("{value}", text) for word in how.pattern)


def write(how: Overrides, knobs: Sequence[Knob], values: Knobs, source: Path) -> None:
    """Write the config file, or the constants, into the trainer's own copy of the source.

    Raises ValueError that names file and knob: a path that is a folder, a constant that is missing or there twice.
    """
    if how.travel not in ("file", "constants"):
        return
    assert how.path is not None
    path = source / how.path
    if path.is_dir():
        raise ValueError(f"recipe.toml: path in [command.overrides]: {how.path} is a folder of the source")
    if how.travel == "file":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_file(how, knobs, values))
        return
    if not path.is_file():
        raise ValueError(f"{how.path}: is missing; path in [command.overrides] says that it holds the constants")
    text = path.read_bytes().decode()
    path.write_bytes(with_constants(text, {k.called: values[k.key] for k in knobs}, how.path).encode())


# --- a config file ----------------------------------------------------------------------------


def as_file(how: Overrides, knobs: Sequence[Knob], values: Knobs) -> str:
    """The config file's text. A dot in a name makes a table inside of a table; in Python it is no name."""
    named = {knob.called: values[knob.key] for knob in knobs}
    if how.format == "python":
        return "".join(f"{_python_name(name)} = {value!r}\n" for name, value in named.items())
    nested = _nested(named)
    if how.format == "json":
        return json.dumps(nested, indent=2) + "\n"
    return "\n".join(_toml(nested) if how.format == "toml" else _yaml(nested)) + "\n"


def _python_name(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"recipe.toml: name in [knobs]: {name!r} is no Python name; with format = python it must be")
    return name


def _nested(named: Knobs) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in named.items():
        *tables, last = name.split(".")
        here = nested
        for table in tables:
            here = here.setdefault(table, {})
            if not isinstance(here, dict):
                raise ValueError(f"recipe.toml: name in [knobs]: {name!r} lies in {table!r}, which is a knob itself")
        if isinstance(here.get(last), dict):
            raise ValueError(f"recipe.toml: name in [knobs]: {name!r} is a knob, and others lie in it")
        here[last] = value
    return nested


def _toml(tables: dict[str, Any], within: str = "") -> Iterator[str]:
    """Values first, then the tables: what follows a table's head belongs to it."""
    for name, value in tables.items():
        if not isinstance(value, dict):
            yield f"{name} = {json.dumps(value)}"
    for name, value in tables.items():
        if isinstance(value, dict):
            yield f"[{within}{name}]"
            yield from _toml(value, f"{within}{name}.")


def _yaml(tables: dict[str, Any], depth: int = 0) -> Iterator[str]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield f"{'  ' * depth}{name}:"
            yield from _yaml(value, depth + 1)
        else:
            yield f"{'  ' * depth}{name}: {_yaml_value(value)}"


def _yaml_value(value: KnobValue) -> str:
    """A float with a point: YAML 1.1 reads 1e-05 as text."""
    said = json.dumps(value)
    return said.replace("e", ".0e") if isinstance(value, float) and "e" in said and "." not in said else said


# --- constants --------------------------------------------------------------------------------


def with_constants(text: str, named: Knobs, path: str) -> str:
    """Python source with the values of constants replaced where they stand; nothing else changes.

    A constant is assigned once, at the head of the module, or of a class where its name has a dot. Raises ValueError.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no Python that its constants can be found in: {error}") from error
    lines = [line.encode() for line in text.splitlines(keepends=True)] or [b""]
    places = {name: _place_of(tree, name, path) for name in named}
    for name, node in sorted(places.items(), key=lambda place: (place[1].lineno, place[1].col_offset), reverse=True):
        _replace(lines, node, repr(named[name]).encode())
    return b"".join(lines).decode()


def _place_of(tree: ast.Module, name: str, path: str) -> ast.expr:
    """The expression that is assigned to ``name``."""
    *classes, last = name.split(".")
    body: list[ast.stmt] = tree.body
    for wanted in classes:
        body = [inner for node in body if isinstance(node, ast.ClassDef) and node.name == wanted for inner in node.body]
    found = [value for node in body for target, value in _assigned(node) if target == last]
    if len(found) != 1:
        said = "has no constant" if not found else f"assigns {len(found)} times to"
        raise ValueError(f"{path}: {said} {name}, which recipe.toml declares as a knob; it must stand there once")
    return found[0]


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        yield node.targets[0].id, node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        yield node.target.id, node.value


def _replace(lines: list[bytes], node: ast.expr, by: bytes) -> None:
    """Lines count from 1, columns in bytes from 0; several lines become one, with blank ones behind it."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    first, last = node.lineno - 1, node.end_lineno - 1
    whole = lines[first][: node.col_offset] + by + lines[last][node.end_col_offset :]
    lines[first : last + 1] = [whole, *[b""] * (last - first)]
