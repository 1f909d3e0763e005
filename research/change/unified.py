"""Parses a unified diff strictly, so that git, the gates and a person read the same change from it.

git, patch and a page's parser disagree about sloppy diffs: what counts as a header, where a hunk ends, which of
two names wins. Everything that is not plainly a header or a counted line of a hunk is kept as a *stray*, and strays
are refused. Never raises, whatever the bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_GIT = re.compile(r"diff --git (.+)")
_HUNK = re.compile(r"@@ -([0-9]{1,9})(?:,([0-9]{1,9}))? \+([0-9]{1,9})(?:,([0-9]{1,9}))? @@(?: (.*))?")
_INDEX = re.compile(r"index [0-9a-f]{4,64}\.\.[0-9a-f]{4,64}(?: 100644)?")
_EXTENDED = re.compile(
    r"(?:old mode|new mode|new file mode|deleted file mode|copy from|copy to|rename from|rename to|rename old"
    r"|rename new|similarity index|dissimilarity index|GIT binary patch|Binary files|literal \d|delta \d|index|Index:"
    r"|Subproject commit|Prereq:|Only in)\b.*"
)
_NO_NEWLINE = "\\ No newline at end of file"
_SIGNATURE = "-- "


@dataclass
class FileChange:
    """One file's section. ``names`` are all names in its headers, as written; lines are (number in the file, text)."""

    line: int  # of the patch, where the section begins
    names: list[str] = field(default_factory=list)
    special: list[tuple[int, str]] = field(default_factory=list)  # headers that ask for more than changed lines
    added: list[tuple[int, str]] = field(default_factory=list)
    removed: list[tuple[int, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  # all that come and go, in their order, with + and -
    num_hunks: int = 0

    @property
    def paths(self) -> set[str]:
        """The names without a/ and b/, and without /dev/null."""
        return {re.sub(r"^[ab]/", "", name) for name in self.names} - {"/dev/null"}


@dataclass
class Change:
    """A parsed patch. Numbers of ``strays`` are lines of the patch, from 1."""

    files: list[FileChange] = field(default_factory=list)
    strays: list[tuple[int, str]] = field(default_factory=list)
    # What git passes over and a reader does not: a mail's text, what stands behind @@ or behind a file's name.
    asides: list[tuple[int, str]] = field(default_factory=list)

    @property
    def paths(self) -> set[str]:
        return {path for file in self.files for path in file.paths}

    @property
    def num_added(self) -> int:
        return sum(len(file.added) for file in self.files)

    @property
    def num_removed(self) -> int:
        return sum(len(file.removed) for file in self.files)


def read(patch: str) -> Change:
    """Parse ``patch``. A mail's text before the first section and its signature at the end are allowed."""
    reader = _Reader()
    lines = patch.split("\n")
    if lines[-1] == "":
        lines.pop()
    elif patch:
        reader.change.strays.append((len(lines), "the last line of the patch has no newline"))
    for number, line in enumerate(lines, start=1):
        reader.take(number, line)
    reader.close(len(lines))
    return reader.change


class _Reader:
    def __init__(self) -> None:
        self.change = Change()
        self.file: FileChange | None = None
        self.old = self.new = self.old_left = self.new_left = 0
        self.can_end = False  # the line before was content, so "no newline" may follow
        self.is_over = False  # a mail's signature was read

    def take(self, number: int, line: str) -> None:
        if self.old_left or self.new_left:
            self._content(number, line)
        elif line == _NO_NEWLINE and self.can_end:
            self.can_end = False
        elif self.is_over:
            self._after_the_signature(number, line)
        elif not self._header(number, line):
            (self.change.asides if self._may_pass(line) else self.change.strays).append((number, line))

    def _content(self, number: int, line: str) -> None:
        kind = line[:1]
        if line == _NO_NEWLINE and self.can_end:
            self.can_end = False
            return
        fits = {"+": self.new_left, "-": self.old_left, " ": self.old_left and self.new_left}.get(kind, 0)
        if not fits or self.file is None:
            self.change.strays.append((number, line))
            self.old_left = self.new_left = 0
            return
        self.can_end = True
        if kind == "+":
            self.file.added.append((self.new, line[1:]))
        elif kind == "-":
            self.file.removed.append((self.old, line[1:]))
        if kind != " ":
            self.file.changed.append(line)
        if kind != "-":
            self.new, self.new_left = self.new + 1, self.new_left - 1
        if kind != "+":
            self.old, self.old_left = self.old + 1, self.old_left - 1

    def _header(self, number: int, line: str) -> bool:
        self.can_end = False
        if line.startswith(("--- ", "+++ ")):
            self._aside(number, line.partition("\t")[2])
        if match := _GIT.fullmatch(line):
            self._open(number, _git_names(match[1]))
        elif line.startswith("diff "):
            self._open(number, [])
        elif line.startswith("--- ") and (self.file or self._looks_like_a_name(line)):
            self._old_name(number, line)
        elif line.startswith("+++ ") and self.file and not self.file.num_hunks:
            self.file.names.append(_name(line))
        elif (match := _HUNK.fullmatch(line)) and self.file:
            self._hunk(match)
            self._aside(number, match[5])
        elif self.file and not self.file.num_hunks and _INDEX.fullmatch(line):
            pass
        elif _EXTENDED.fullmatch(line):
            self._special(number, line)
        else:
            return False
        return True

    def _aside(self, number: int, text: str | None) -> None:
        if text and text.strip():
            self.change.asides.append((number, text))

    def _open(self, number: int, names: list[str]) -> None:
        self.file = FileChange(line=number, names=names)
        self.change.files.append(self.file)

    def _looks_like_a_name(self, line: str) -> bool:
        return bool(line[4:].strip())

    def _old_name(self, number: int, line: str) -> None:
        if self.file is None or self.file.num_hunks or len(self.file.names) > 2:
            self._open(number, [])
        assert self.file is not None
        self.file.names.append(_name(line))

    def _hunk(self, match: re.Match[str]) -> None:
        assert self.file is not None
        self.old, self.new = int(match[1]), int(match[3])
        self.old_left = 1 if match[2] is None else int(match[2])
        self.new_left = 1 if match[4] is None else int(match[4])
        self.file.num_hunks += 1

    def _special(self, number: int, line: str) -> None:
        if self.file is None:
            self._open(number, [])
        assert self.file is not None
        self.file.special.append((number, line))

    def _may_pass(self, line: str) -> bool:
        """Whether a line may be a mail's: text before the first file, or the signature after the last."""
        self.is_over = bool(self.file) and line == _SIGNATURE
        return self.is_over or (self.file is None and not line.startswith(("@@", "+", "diff")))

    def _after_the_signature(self, number: int, line: str) -> None:
        if line and not re.fullmatch(r"[\w.() -]{1,40}", line):
            self.change.strays.append((number, line))
        self._aside(number, line)

    def close(self, number: int) -> None:
        if self.old_left or self.new_left:
            self.change.strays.append((number, "the patch ends inside a hunk"))


def _git_names(both: str) -> list[str]:
    """The names of ``a/x b/x``, where x may have spaces; the whole text, which equals no path, where it is not two."""
    middle = len(both) // 2
    one, other = both[:middle], both[middle + 1 :]
    if one[:2] == "a/" and other[:2] == "b/" and one[2:] == other[2:]:
        return [one, other]
    parts = both.split(" ")
    return parts if len(parts) == 2 else [both]


def _name(line: str) -> str:
    """The name up to a tab, behind which diff writes the time."""
    return line[4:].split("\t")[0]
