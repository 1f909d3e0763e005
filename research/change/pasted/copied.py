"""Refuses placeholders that a page or a model put in the place of code, since it would be taken literally."""

from __future__ import annotations

import html
import re

from research.change.pasted.parts import Section, shown, wrong

_ENTITY = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,7}|#x[0-9a-fA-F]{1,6});")
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
DOTS = re.compile(r"\s*(?:#|//)?\s*[\[(]?(?:\.{3}|\u2026).*")
_LEFT_OUT = re.compile(
    r"\s*(?:#|//)\s*(?:\.{3}|\u2026).*\b(?:code|rest|remaining|existing|unchanged|same|omitted|lines?)\b.*", re.I
)


def check(section: Section, text: str) -> None:
    """Raises ValueError that names the line of a placeholder: a page's ``&lt;``, "... existing code ..."."""
    known = {line.strip() for line in text.split("\n")}
    has_entities = _ENTITY.search(text) is not None
    for line in (line for hunk in section.hunks for line in hunk.lines):
        if line.text.strip() in known:
            continue
        if line.kind == "+" and _LEFT_OUT.fullmatch(line.text):
            raise wrong(line.number, f"{shown(line.text)} stands for lines that would be lost; write them out")
        if line.kind != "+" and DOTS.fullmatch(line.text):
            raise wrong(line.number, left_out(line.text))
        if line.kind == "+" and not has_entities and (found := _ENTITY.search(_QUOTED.sub("", line.text))):
            said = f"{shown(line.text)} holds {found[0]}, as the source of a page writes {html.unescape(found[0])!r}"
            raise wrong(line.number, f"{said}; copy the diff as plain text")


def left_out(text: str) -> str:
    """Why dots are no line of code."""
    return f"{shown(text)} stands for lines that were left out; write two hunks, each with lines of the file"
