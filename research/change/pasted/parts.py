"""What a patch is made of. ``number`` is always a line of the patch as it was given, from 1."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A line as it stands in the patch, without its end."""

    number: int
    text: str


@dataclass(frozen=True)
class Envelope:
    """``is_crlf``: every row ended in CRLF, as browsers send all text, so it says nothing about the files."""

    rows: list[Row]
    is_crlf: bool


@dataclass(frozen=True)
class Line:
    """A line of a hunk. ``kind`` is " ", "-" or "+".

    Without ``ends`` it is a file's last and has no newline. ``is_bare``: nothing can be seen there, so it is a blank
    line of context, which may have lost its blank, or none of the hunk's.
    """

    kind: str
    text: str
    number: int
    ends: bool = True
    is_bare: bool = False


@dataclass
class Hunk:
    """``start`` is the line of the old file that its header names, from 1; None: it names none."""

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
    """One file's part. ``blob`` and ``blob_after`` begin git's hashes of the old and the new file; "": nobody says."""

    number: int
    path: str
    blob: str = ""
    blob_after: str = ""
    hunks: list[Hunk] = field(default_factory=list)


def wrong(number: int, sentence: str) -> ValueError:
    return ValueError(f"line {number}: {sentence}")


def shown(text: str) -> str:
    """A line, short enough for a sentence."""
    text = text.rstrip("\r")
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
