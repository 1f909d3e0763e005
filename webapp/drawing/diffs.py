"""A unified diff as rows for a table: text only, escaped by the template, coloured line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby

from pygments.lexers import get_lexer_for_filename
from pygments.token import Token, _TokenType
from pygments.util import ClassNotFound

from research.change.visible import visible

MAX_COLOURED_LINES = 3_000  # beyond, plain text: colour is not worth a slow page
_HUNK = re.compile(r"^@@ -([0-9]+)(?:,([0-9]+))? \+([0-9]+)(?:,([0-9]+))? @@ ?(.*)$")
_GIT = re.compile(r"^diff --git a/.* b/(.*)$")
_INDEX = re.compile(r"^index [0-9a-f]+\.\.[0-9a-f]+( [0-7]+)?$")  # says nothing that the file's name does not
_INDENT = re.compile(r" *\t[ \t]*")
# "ws" is none of a language's: blanks that decide something and cannot be seen.
_CLASSES: list[tuple[_TokenType, str]] = [
    (Token.Comment, "c"),
    (Token.Keyword, "k"),
    (Token.Literal.Number, "n"),
    (Token.Literal.String, "st"),
    (Token.Name.Function, "f"),
    (Token.Name.Class, "f"),
    (Token.Name.Builtin, "f"),
    (Token.Name.Decorator, "f"),
]


@dataclass(frozen=True)
class Line:
    """One row; kind is add, del, hunk or empty; ``parts`` are (class, text) pieces."""

    kind: str
    old: int | None
    new: int | None
    parts: list[tuple[str, str]]

    @property
    def sign(self) -> str:
        return {"add": "+", "del": "\u2212"}.get(self.kind, "")


@dataclass
class FileDiff:
    path: str
    lines: list[Line] = field(default_factory=list)

    @property
    def num_added(self) -> int:
        return sum(line.kind == "add" for line in self.lines)

    @property
    def num_removed(self) -> int:
        return sum(line.kind == "del" for line in self.lines)

    @property
    def num_hunks(self) -> int:
        return sum(line.kind == "hunk" and line.parts[0][1].startswith("@@") for line in self.lines)


def parse(patch: str) -> list[FileDiff]:
    """The files of ``patch``, as git reads it: hunk headers say how many lines are content.

    A removed line ``-- x`` looks like a file header and is not one, so headers are only looked for between hunks.
    Every line is shown, also one that is neither header nor content: a reviewer has to see it.
    """
    rows = patch.split("\n")  # as git does: str.splitlines would make a line of what stands behind a U+2028 or a \r
    if rows[-1] == "":
        rows.pop()
    reader = _Reader(colour=len(rows) <= MAX_COLOURED_LINES)
    for row in rows:
        reader.take(row)
    return reader.files


class _Reader:
    """Parser state: how many old and new lines the present hunk still has."""

    def __init__(self, *, colour: bool) -> None:
        self.files: list[FileDiff] = []
        self.colour = colour
        self.pieces = _Colourist("")
        self.old = self.new = self.old_left = self.new_left = 0

    def take(self, row: str) -> None:
        if (self.old_left or self.new_left) and row[:1] in ("+", "-", " ", "", "\\"):
            self._content(row)
        elif match := _HUNK.match(row):
            self.old, self.new = int(match[1]), int(match[3])
            self.old_left, self.new_left = int(match[2] or 1), int(match[4] or 1)
            self._show(Line("hunk", None, None, [("", f"@@ {visible(match[5]) or f'line {self.new}'}")]))
        elif match := _GIT.match(row):
            self._open(match[1])
        elif row.startswith(("--- ", "+++ ")):
            self._name(row)
        elif row and not _INDEX.match(row):
            self._show(Line("hunk", None, None, [("", visible(row))]))

    def _open(self, path: str) -> None:
        self.files.append(FileDiff(path))
        self.pieces = _Colourist(path if self.colour else "")

    def _name(self, row: str) -> None:
        """``--- a/x`` opens a file unless ``diff --git`` has; ``+++ b/x`` gives its new name."""
        path = re.sub(r"^[ab]/", "", row[4:].split("\t")[0])
        fresh = bool(self.files) and not self.files[-1].num_hunks
        if not fresh or (row.startswith("--- ") and self.files[-1].path == "/dev/null"):
            self._open(path)
        elif path != "/dev/null":
            self.files[-1].path = path
            self.pieces = _Colourist(path if self.colour else "")

    def _content(self, row: str) -> None:
        text = self._pieces(row[1:], is_change=row[:1] in ("+", "-"))
        if row.startswith("\\"):  # "\\ No newline at end of file"
            self._show(Line("hunk", None, None, [("", visible(row))]))
        elif row.startswith("+"):
            self._show(Line("add", None, self.new, text))
            self.new, self.new_left = self.new + 1, self.new_left - 1
        elif row.startswith("-"):
            self._show(Line("del", self.old, None, text))
            self.old, self.old_left = self.old + 1, self.old_left - 1
        else:
            self._show(Line("", self.old, self.new, text))
            self.old, self.old_left = self.old + 1, self.old_left - 1
            self.new, self.new_left = self.new + 1, self.new_left - 1

    def _pieces(self, text: str, *, is_change: bool) -> list[tuple[str, str]]:
        """Pieces of a line. Of a changed one, tabs in the indent and blanks at the end are apart, since they matter."""
        lead, code, trail = _parted(text) if is_change else ("", text, "")
        return [*_blanks(lead), *self.pieces(code), *_blanks(trail)]

    def _show(self, line: Line) -> None:
        if not self.files:
            self.files.append(FileDiff("patch"))
        self.files[-1].lines.append(line)


def _parted(text: str) -> tuple[str, str, str]:
    lead = _INDENT.match(text)
    code = text[lead.end() if lead else 0 :]
    bare = code.rstrip(" \t")
    return lead[0] if lead else "", bare, code[len(bare) :]


def _blanks(text: str) -> list[tuple[str, str]]:
    return [("ws", text)] if text else []


class _Colourist:
    """Splits a line into classed pieces. Line by line, so a string over several lines loses its colour only."""

    def __init__(self, path: str) -> None:
        try:
            self.lexer = get_lexer_for_filename(path, stripnl=False, ensurenl=False) if path else None
        except ClassNotFound:
            self.lexer = None

    def __call__(self, text: str) -> list[tuple[str, str]]:
        if self.lexer is None:
            return _marked("", text)
        # Not get_tokens, which drops a byte order mark and makes a line's end of a carriage return.
        pieces = self.lexer.get_tokens_unprocessed(text)
        return [part for _, token, piece in pieces for part in _marked(_class_of(token), piece)]


def _marked(name: str, text: str) -> list[tuple[str, str]]:
    """Invisible characters as pieces of their own, so that the text ``<U+202E>`` is not mistaken for one."""
    pieces = groupby(text, key=lambda character: visible(character) != character)
    return [("hid" if hidden else name, visible("".join(piece))) for hidden, piece in pieces]


def _class_of(token: _TokenType) -> str:
    """The CSS class of a token type: that of the first kind which is a prefix of it."""
    return next((name for kind, name in _CLASSES if token[: len(kind)] == kind), "")
