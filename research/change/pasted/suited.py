"""Gives a section the line ends and byte order mark of its file, since these get lost on the way and do not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from research.change.pasted.parts import Envelope, Hunk, Line, Section, wrong

BOM = "\ufeff"
Ends = Literal["LF", "CRLF", "both", "none"]


def suited(section: Section, text: str, envelope: Envelope) -> tuple[Section, str, str]:
    """The section with the file's line ends; the text without a byte order mark, and that mark.

    Raises ValueError where the file has both kinds of line ends and the patch, sent by a browser, does not tell which.
    """
    section, text, mark = _without_marks(section, text)
    has = ends_of(text)
    if envelope.is_crlf and has == "both":
        raise wrong(
            section.number,
            f"{section.path} ends some lines with CRLF and some with LF, and the patch does not say which are which; "
            "send it with manage.py gate, from a file, or make the file's ends alike first",
        )
    if has != "both":
        section = _with_ends(section, "\r" if has == "CRLF" else "")
    return section, text, mark


def ends_of(text: str) -> Ends:
    num, num_crlf = text.count("\n"), text.count("\r\n")
    if not num:
        return "none"
    return "both" if 0 < num_crlf < num else "CRLF" if num_crlf else "LF"


def _with_ends(section: Section, end: str) -> Section:
    def ended(line: Line) -> Line:
        return replace(line, text=line.text.removesuffix("\r") + end) if line.ends else line

    return _mapped(section, ended)


def _mapped(section: Section, each: Callable[[Line], Line]) -> Section:
    hunks = [Hunk(h.number, [each(line) for line in h.lines], h.start, h.is_last) for h in section.hunks]
    return replace(section, hunks=hunks)


def _without_marks(section: Section, text: str) -> tuple[Section, str, str]:
    """Section and text without byte order marks. The file's own mark is kept, unless the patch removes it."""
    lines = [line for hunk in section.hunks for line in hunk.lines]
    marked = {line.kind for line in lines if line.text.startswith(BOM)}
    mark = BOM if text.startswith(BOM) else ""
    if not marked and not mark:
        return section, text, mark
    if mark and "-" in marked and "+" not in marked:
        mark, text = "", text.removeprefix(BOM)
    elif not mark and marked == {"+"}:
        return section, text, ""  # it adds one: as it is written
    return _mapped(section, lambda line: replace(line, text=line.text.removeprefix(BOM))), text.removeprefix(BOM), mark
