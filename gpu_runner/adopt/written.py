"""Writes a first recipe.toml: every foreign text quoted, and what is not sure marked beside its line."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpu_runner.adopt.values import comment
from gpu_runner.contract import Knob
from gpu_runner.contract.plain import plain

WIDTH = 100
HEAD = """\
# A first recipe of somebody else's trainer, written by `recipe new` from reading alone: nothing was run.
# What it was not sure of is marked "unsure". All bounds of knobs are guesses around their defaults.
# docs/recipes.md tells every key; `manage.py recipe check PATH` trains a few steps and says what is missing.
"""


@dataclass
class Writing:
    """Lines of TOML. ``doubts`` collects what was marked: the table, key and sentence of each."""

    lines: list[str] = field(default_factory=list)
    doubts: list[tuple[str, str]] = field(default_factory=list)
    table: str = ""

    def begin(self, table: str) -> None:
        self.lines += ["", f"[{table}]"]
        self.table = table

    def put(self, key: str, value: str, unsure: str = "") -> None:
        said, line = comment(unsure, 300), f"{key} = {value}"
        if said and ("\n" in line or len(line) + len(said) > WIDTH):
            self.lines += textwrap.wrap(f"unsure: {said}", WIDTH, initial_indent="# ", subsequent_indent="#   ")
        self.lines.append(f"{line}  # unsure: {said}" if said and len(line) + len(said) <= WIDTH else line)
        if said:
            self.doubts.append((f"{key} in [{self.table}]", said))

    def remark(self, sentence: str) -> None:
        self.lines.append(f"# {comment(sentence, 400)}")

    def doubt(self, about: str, sentence: str) -> None:
        said = f"unsure: {comment(sentence, 300)}"
        self.lines += textwrap.wrap(said, WIDTH, initial_indent="# ", subsequent_indent="#   ")
        self.doubts.append((about, comment(sentence, 300)))

    @property
    def text(self) -> str:
        return HEAD + "\n".join(self.lines) + "\n"


def quoted(text: str) -> str:
    """One TOML string."""
    return json.dumps(plain(text), ensure_ascii=False).replace("\x7f", "")


def pattern(text: str) -> str:
    """A regular expression: as it is, where no quote of its own ends it."""
    return quoted(text) if "'" in text else f"'{plain(text)}'"


def many(values: Sequence[str], write: Callable[[str], str] = quoted) -> str:
    """A list, on one line or a line each."""
    made = [write(value) for value in values]
    short = f"[{', '.join(made)}]"
    if len(short) <= WIDTH:
        return short
    return "[\n" + "".join(f"    {value},\n" for value in made) + "]"


def value(said: int | float | bool | str) -> str:
    return quoted(said) if isinstance(said, str) else json.dumps(said)


def knob(writing: Writing, one: Knob, unsure: str) -> None:
    writing.begin(f"knobs.{one.key}")
    if one.name:
        writing.put("name", quoted(one.name))
    writing.put("type", quoted(one.type))
    writing.put("default", value(one.default), unsure)
    for name, bound in (("low", one.low), ("high", one.high)):
        if bound is not None:
            writing.put(name, json.dumps(int(bound) if one.type == "int" else bound))
    if one.choices:
        writing.put("choices", many(one.choices))
    writing.put("help", quoted(one.help))


def table(values: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name} = {quoted(text)}" for name, text in values.items()) + "}"
