"""Reads the lines of a hunk: as many as its counts say where they are right, else up to the next certain header."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from research.change.pasted import copied
from research.change.pasted.parts import Hunk, Line, Row, shown, wrong

_COUNTS = re.compile(r"@@ *-(\d{1,9})(?:,(\d{1,9}))? +\+(\d{1,9})(?:,(\d{1,9}))? *(?:@@.*)?")
_HEADS = ("@@", "diff ", "Index: ", "*** ", "<<<<<<<", "Only in ", "Binary files ", "Property changes on", "=== ")
_VERSION = re.compile(r"\d+\.\d[\w.() -]{0,40}")
_LISTS_END = re.compile(r"_{20,}")  # a mailing list's own words follow
_NAME_ALONE = re.compile(r"(?:---|\+\+\+) (?:[\w.~-]+[/\\])*[\w.-]+\.\w+(?:\t.*| \(.*\))?")
_BEHIND = re.compile(r"@@.*?@@ ?([-+].*)|@@ ?([-+](?![\d.,…?xyn]*(?: +[-+][\d.,…?xyn]*)?\s*$)[^@]*)")
_BY_WORDS = re.compile(r"\[-.*-\]|\{\+.*\+\}")
# What only looks like a mark or a blank, as pages and word processors write them.
_TYPED = {"\u2212": "-", "\u2013": "-", "\u2014": "-", "\uff0d": "-", "\uff0b": "+", "\xa0": "a blank"}
_LAST = "*** End of File"


def read(rows: list[Row], at: int, file: str) -> tuple[Hunk, int]:
    """Read the hunk whose header is ``rows[at]``: (hunk, where the next thing begins). ValueError names a line."""
    text = rows[at].text.rstrip("\r")
    if glued := _BEHIND.fullmatch(text):
        said = shown(glued[1] or glued[2])
        raise wrong(
            rows[at].number, f"{said} stands behind the hunk's @@, where nothing is read; put it on the next line"
        )
    match = _COUNTS.fullmatch(text)
    if match is None:
        return read_uncounted(rows, at, at + 1, file)
    start, num_old, num_new = int(match[1]), int(match[2] or 1), int(match[4] or 1)
    counted = _counted(rows, at + 1, num_old, num_new)
    if counted is not None and not _eats_a_header(rows[at + 1 : counted[1] + 3], len(counted[0]), file):
        lines, end = counted
        return _closed(Hunk(rows[at].number, lines, start), rows, end)
    hunk, end = read_uncounted(rows, at, at + 1, file)
    hunk.start = start
    return hunk, end


def _counted(rows: list[Row], at: int, num_old: int, num_new: int) -> tuple[list[Line], int] | None:
    """As many lines as the header says; None where they are no hunk's lines, or more of its lines seem to follow."""
    lines: list[Line] = []
    while num_old or num_new:
        if at >= len(rows) or (line := _line(rows[at])) is None:
            return None
        if line.kind == "\\":
            _end_here(lines)
        else:
            num_old, num_new = num_old - (line.kind != "+"), num_new - (line.kind != "-")
            lines.append(line)
        if num_old < 0 or num_new < 0:
            return None
        at += 1
    if at < len(rows) and rows[at].text.startswith("\\ "):
        _end_here(lines)
        at += 1
    return (lines, at) if is_over(rows, at) else None


def _eats_a_header(rows: list[Row], num: int, file: str) -> bool:
    """Whether a count that is too high took the next file's header for a removed line, which the file does not have."""
    known = _lines(file)
    return any(
        (_is_a_pair(rows, at) or is_signature(rows, at)) and rows[at].text[1:].rstrip() not in known
        for at in range(min(num, len(rows)))
    )


@lru_cache(maxsize=8)  # asked for every hunk of a file
def _lines(file: str) -> frozenset[str]:
    return frozenset(line.rstrip() for line in file.split("\n"))


def read_uncounted(rows: list[Row], head: int, at: int, file: str) -> tuple[Hunk, int]:
    """Read every line up to the next header. ValueError for a header that could be a line of the hunk as well."""
    while at < len(rows) and rows[at].text.startswith("@@") and not _COUNTS.fullmatch(rows[at].text):
        at += 1  # ``@@ class A`` and ``@@ def f`` one below the other
    lines: list[Line] = []
    known = _lines(file)
    while at < len(rows) and not _is_next(rows, at, known):
        line = _line(rows[at])
        if line is None and not any(line.kind in "+-" for line in lines):
            raise wrong(rows[at].number, why_not(rows[at].text))
        if line is None:
            break  # whoever reads on says what it is, or what is wrong with it
        if line.kind == "\\":
            _end_here(lines)
        else:
            lines.append(line)
        at += 1
    while lines and lines[-1].kind == " " and not lines[-1].text.strip("\r"):
        lines.pop()  # blank lines behind a hunk are no context: they would only narrow where it may stand
    return _closed(Hunk(rows[head].number, lines), rows, at)


def _closed(hunk: Hunk, rows: list[Row], at: int) -> tuple[Hunk, int]:
    """The hunk that ends before ``rows[at]``, where OpenAI's notation may mark the end of the file."""
    if at < len(rows) and rows[at].text.rstrip("\r") == _LAST:
        hunk.is_last, at = True, at + 1
    return _checked(hunk), at


def _line(row: Row) -> Line | None:
    """A line of a hunk; None for anything else. Editors take the blank off a blank context line."""
    if not row.text.strip():
        return Line(" ", row.text.removeprefix(" "), row.number, is_bare=True)
    if row.text[0] == "\t":  # of a line that stays, git's own white-space fix takes the blank before a tab
        return Line(" ", row.text, row.number)
    kind = row.text[0]
    return Line(kind, row.text[1:], row.number) if kind in " +-" or row.text.startswith("\\ ") else None


def _end_here(lines: list[Line]) -> None:
    """Take a ``\\ No newline at end of file``, in whatever language."""
    if lines:
        lines[-1] = replace(lines[-1], text=lines[-1].text.removesuffix("\r"), ends=False)


def _is_next(rows: list[Row], at: int, known: frozenset[str]) -> bool:
    text = rows[at].text
    if text.startswith(_HEADS):
        return True
    if _is_a_pair(rows, at) or is_signature(rows, at):
        if text[1:].rstrip() in known:
            sentence = f"{shown(text)} can be a header or a line that goes, and the hunk's counts do not tell"
            raise wrong(rows[at].number, f"{sentence}; correct the counts, or paste what git diff prints")
        return True
    return False


def is_over(rows: list[Row], at: int) -> bool:
    """Whether the patch ends here or a header follows, after blank lines."""
    while at < len(rows) and not rows[at].text.strip():
        at += 1
    return at >= len(rows) or rows[at].text.startswith(_HEADS) or _is_a_pair(rows, at) or is_signature(rows, at)


def _is_a_pair(rows: list[Row], at: int) -> bool:
    """Whether a file's header begins here without a ``diff`` line: ``---`` and ``+++``, then a hunk or nothing.

    One of the two is enough where it names a file and a hunk follows: models leave the other one out.
    """
    after = [row.text for row in rows[at + 1 : at + 3]]
    if not after or not rows[at].text.startswith(("--- ", "+++ ")):
        return False
    if after[0].startswith("@@"):
        return bool(_NAME_ALONE.fullmatch(rows[at].text.rstrip()))
    is_pair = rows[at].text.startswith("--- ") and after[0].startswith("+++ ")
    return is_pair and (len(after) == 1 or after[1].startswith("@@"))


def is_signature(rows: list[Row], at: int) -> bool:
    """Whether a mail's signature begins here: ``-- `` and git's version, at the end or before the next mail."""
    if rows[at].text.rstrip() != "--":
        return False
    rest = _next_words(rows, at + 1)
    if not rest or not _VERSION.fullmatch(rest[0]):
        return not rest
    return len(rest) == 1 or rest[1].startswith("From ") or bool(_LISTS_END.match(rest[1]))


def _next_words(rows: list[Row], at: int) -> list[str]:
    """The next two lines that are not blank."""
    found: list[str] = []
    while at < len(rows) and len(found) < 2:
        found += [rows[at].text] if rows[at].text.strip() else []
        at += 1
    return found


def _checked(hunk: Hunk) -> Hunk:
    if not any(line.kind in "+-" for line in hunk.lines):
        if by_words := next((line for line in hunk.lines if _BY_WORDS.search(line.text[:500])), None):
            raise wrong(by_words.number, why_not(by_words.text))
        raise wrong(hunk.number, "this hunk changes nothing: it has no line with + or -; add them, or leave it out")
    if [(line.text, line.ends) for line in hunk.old] == [(line.text, line.ends) for line in hunk.new]:
        raise wrong(
            hunk.number, "this hunk changes nothing: the lines that go and those that come are the same; leave it out"
        )
    for line, after in zip(hunk.lines, hunk.lines[1:], strict=False):
        if not line.ends and not (line.kind == "-" and after.kind == "+"):
            raise wrong(line.number, "it is said to be the file's last line, and more lines follow; put it last")
    return hunk


def why_not(text: str) -> str:
    """Why this line belongs to no hunk, and the way out."""
    text = text[:500]
    if _BY_WORDS.search(text) or text.rstrip() == "~":
        return f"{shown(text)} is of a diff by words; paste git diff without --word-diff"
    if copied.DOTS.fullmatch(text):
        return copied.left_out(text)
    if text[:1] in _TYPED:
        said = f"{shown(text)} begins with U+{ord(text[0]):04X}, which only looks like {_TYPED[text[0]]}"
        return f"{said}; copy the diff as plain text, not from a page or a word processor"
    return (
        f"{shown(text)} belongs to no hunk: a line of one begins with a blank (it stays), - (it goes) or + (it comes); "
        "paste what git diff prints"
    )
