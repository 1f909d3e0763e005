"""What a person writes down as an experiment: overrides, one a line, and a diff out of their own clone. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gpu_runner.contract import KnobValue, Recipe
from research.drafts import Edit, Override
from research.patches import apply_edits, to_patch

_LINE = re.compile(r"^\s*(?P<key>[A-Za-z_][\w]*)\s*=\s*(?P<value>[^#]*?)\s*(?:#\s*(?P<reason>.*?)\s*)?$")
_HUNK = re.compile(r"^@@ -\d+(?:,(?P<old>\d+))? \+\d+(?:,(?P<new>\d+))? @@")
_NEW_NAME = re.compile(r"^\+\+\+ (?:b/)?(?P<path>[^\t\n]+)")


def overrides_of(text: str, recipe: Recipe) -> tuple[Override, ...]:
    """Lines of ``key = value  # why``. Raises ValueError that names the line.

    Whether a value is in bounds is for ``patches.problems_with``, which every draft goes through.
    """
    found: list[Override] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.match(line)
        if match is None or not match["value"]:
            raise ValueError(f"line {number}: write key = value  # why, not {line.strip()[:60]!r}")
        value = _value(match["value"], match["key"], recipe)
        found.append(Override(key=match["key"], value=value, reason=match["reason"] or "by hand"))
    return tuple(found)


def _value(text: str, key: str, recipe: Recipe) -> KnobValue:
    """A number, true or false as TOML writes them; anything else is a choice's name. 4.0 for a whole number is 4."""
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


def edits_of(patch: str, files: Mapping[str, str]) -> tuple[Edit, ...]:
    """The hunks of a unified diff against ``files``, each as an exact search and replace.

    A hunk's own lines have to occur exactly once, since line numbers move with the incumbent. Raises ValueError that
    names the hunk and the way out.
    """
    edits: list[Edit] = []
    for number, (path, old, new) in enumerate(_hunks(patch), start=1):
        try:
            apply_edits(files, [*edits, Edit(path=path, search=old, replace=new)])
        except ValueError as error:
            problem = str(error).split(": ", 1)[-1]
            way_out = "; make the diff on the incumbent, with more context: git diff -U12"
            raise ValueError(f"hunk {number}, {path}: {problem}{way_out}") from error
        edits.append(Edit(path=path, search=old, replace=new))
    if patch.strip() and not edits:
        raise ValueError("this is not a unified diff; paste what `git diff` prints")
    return tuple(edits)


# --- the way back: what a draft says, for a person to go on from ------------------------------------


def lines_of(overrides: Iterable[Override]) -> str:
    """What ``overrides_of`` reads back; a reason of several lines stands in one."""
    return "\n".join(f"{o.key} = {_as_toml(o.value)}{_comment(o.reason)}" for o in overrides)


def _as_toml(value: KnobValue) -> str:
    return json.dumps(value) if isinstance(value, bool | str) else repr(value)


def _comment(reason: str) -> str:
    return f"  # {in_one}" if (in_one := _in_one_line(reason)) else ""


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def as_they_were(overrides: Iterable[Override], earlier: Sequence[Override]) -> tuple[Override, ...]:
    """``overrides``, with those of ``earlier`` that were left alone in the words in which they were given."""
    known = {
        (o.key, repr(o.value), _in_one_line(o.reason)): o for o in earlier
    }  # 1, 1.0 and True are equal, and not one
    return tuple(known.get((o.key, repr(o.value), o.reason), o) for o in overrides)


def diff_of(files: Mapping[str, str], edits: Sequence[Edit]) -> str:
    """The unified diff of ``edits``, with as much context as ``edits_of`` needs to find every hunk again.

    Raises ValueError as ``apply_edits`` does.
    """
    after = apply_edits(files, edits)
    for num_context in (3, 12, 40, 160):
        patch = to_patch(files, edits, num_context=num_context)
        try:
            if apply_edits(files, edits_of(patch, files)) == after:
                return patch
        except ValueError:
            continue  # a hunk occurs twice
    return to_patch(files, edits)


def _hunks(patch: str) -> Iterator[tuple[str, str, str]]:
    """(path, the lines before, the lines after) of every hunk."""
    path, lines = "", iter(patch.replace("\r\n", "\n").split("\n"))
    for line in lines:
        if name := _NEW_NAME.match(line):
            path = name["path"]
        elif head := _HUNK.match(line):
            if not path or path == "/dev/null":
                raise ValueError("a hunk belongs to no file: files can be edited, not removed")
            yield path, *_sides(lines, int(head["old"] or 1), int(head["new"] or 1))


def _sides(lines: Iterator[str], num_old: int, num_new: int) -> tuple[str, str]:
    old: list[str] = []
    new: list[str] = []
    while len(old) < num_old or len(new) < num_new:
        line = next(lines, None)
        if line is None:
            raise ValueError("the diff ends in the middle of a hunk")
        mark, text = line[:1] or " ", line[1:] + "\n"
        if mark in (" ", "-"):
            old.append(text)
        if mark in (" ", "+"):
            new.append(text)
        if mark not in (" ", "-", "+", "\\"):
            raise ValueError(f"a line of a hunk begins with neither +, - nor a space: {line[:60]!r}")
    return "".join(old), "".join(new)
