"""Parses overrides that a person types, one a line, and writes them back into a form. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence

from gpu_runner.contract import KnobValue, Recipe
from research.change.drafts import Edit, Override
from research.change.pasted import edits_of
from research.change.patches import apply_edits, to_patch

_LINE = re.compile(r"^\s*(?P<key>[A-Za-z_][\w]*)\s*=\s*(?P<value>[^#]*?)\s*(?:#\s*(?P<reason>.*?)\s*)?$")


def overrides_of(text: str, recipe: Recipe) -> tuple[Override, ...]:
    """Parse lines of ``key = value  # why``. Raises ValueError that names the line.

    Bounds are checked by ``patches.problems_with``, as for every draft.
    """
    found: list[Override] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None or not match["value"]:
            raise ValueError(f"line {number}: write key = value  # why, not {line.strip()[:60]!r}")
        value = _value(match["value"], match["key"], recipe)
        found.append(Override(key=match["key"], value=value, reason=match["reason"] or "by hand"))
    return tuple(found)


def _value(text: str, key: str, recipe: Recipe) -> KnobValue:
    """A number, true or false as in TOML; anything else is the name of a choice. 4.0 for a whole-number knob is 4."""
    if (knob := recipe.knob(key)) is not None and text in knob.choices:
        return text  # also where it looks like a number
    try:
        value: KnobValue = tomllib.loads(f"v = {text}")["v"]
    except (ValueError, RecursionError):  # not TOML, more digits than Python reads, nested absurdly
        value = text
    if not isinstance(value, bool | int | float | str):
        value = text
    if recipe.problems_with({key: value}):
        return value
    return recipe.effective({key: value})[key]


# --- the way back: what a draft says, for a person to go on from ------------------------------------


def lines_of(overrides: Iterable[Override]) -> str:
    """Overrides as lines for ``overrides_of``; a reason of several lines is put on one."""
    return "\n".join(f"{o.key} = {_as_toml(o.value)}{_comment(o.reason)}" for o in overrides)


def _as_toml(value: KnobValue) -> str:
    return json.dumps(value) if isinstance(value, bool | str) else repr(value)


def _comment(reason: str) -> str:
    return f"  # {in_one}" if (in_one := _in_one_line(reason)) else ""


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def as_they_were(overrides: Iterable[Override], earlier: Sequence[Override]) -> tuple[Override, ...]:
    """``overrides``; those that equal one of ``earlier`` keep that one's exact words."""
    known = {
        (o.key, repr(o.value), _in_one_line(o.reason)): o for o in earlier
    }  # 1, 1.0 and True are equal, and not one
    return tuple(known.get((o.key, repr(o.value), o.reason), o) for o in overrides)


def diff_of(files: Mapping[str, str], edits: Sequence[Edit]) -> str:
    """The unified diff of ``edits``, with as much context as it takes to find every hunk again on a later incumbent.

    Raises ValueError as ``apply_edits`` does.
    """
    after = apply_edits(files, edits)
    for num_context in (3, 12, 40, 160):
        patch = to_patch(files, edits, num_context=num_context)
        try:
            if apply_edits(files, edits_of(patch, files, by_number=False)) == after:
                return patch
        except ValueError:
            continue  # a hunk occurs twice
    return to_patch(files, edits)
