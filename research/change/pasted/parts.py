"""The parts of a pasted patch: rows, lines, hunks, sections. ``number`` is the line of the patch as given, from 1."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A line of the patch, without its end."""

    number: int
    text: str


@dataclass(frozen=True)
class Envelope:
    """The rows of a patch.

    ``is_crlf``: all ended in CRLF, as browsers send all text, so it says nothing of the files.
    """

    rows: list[Row]
    is_crlf: bool


@dataclass(frozen=True)
class Line:
    """A line of a hunk. ``kind`` is " ", "-" or "+".

    ``ends`` is False for a file's last line without a newline. ``is_bare``: it looks empty, so it is a blank
    line of context that may have lost its blank, or no line of the hunk.
    """

    kind: str
    text: str
    number: int
    ends: bool = True
    is_bare: bool = False


@dataclass
class Hunk:
    """``start`` is the line of the old file in its header, from 1; None where the header has none."""

    number: int
    lines: list[Line]
    start: int | None = None
    is_last: bool = False  # it says that it ends the file

    @property
    def old(self) -> list[Line]:
        return [line for line in self.lines if line.kind != "+"]

    @property
    def new(self) -> list[Line]:
        return [line for line in self.lines if line.kind != "-"]


@dataclass
class Section:
    """One file's hunks.

    ``blob`` and ``blob_after`` are the beginnings of git's hashes of the old and new file, or "".
    """

    number: int
    path: str
    blob: str = ""
    blob_after: str = ""
    hunks: list[Hunk] = field(default_factory=list)


def wrong(number: int, sentence: str) -> ValueError:
    return ValueError(f"line {number}: {sentence}")


def shown(text: str) -> str:
    """A line, cut for a sentence."""
    text = text.rstrip("\r")
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
