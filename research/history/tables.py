"""Reads tables of text, as loops, people and trackers write them: tabs or commas, a byte order mark, ragged rows.

A file may hold several tables below each other, each with a header of its own. Lines that are no row of any are kept
with the reason: blank lines are the only ones that are not told.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from research.history import cells, columns
from research.history.past import MAX_BYTES, MAX_ROWS, Refused, is_commit, line_of

MAX_COLUMNS = 400
HEADS_READ = 60  # of a row, to tell whether it is a header
MAX_RECORD_LINES = 200  # of one quoted row of a CSV file; a quote that nobody closed takes the rest of the file
_RULE = re.compile(r"[-=_*#~+|:\s]+")
_LONE_CR = re.compile(rb"\r(?!\n)")


@dataclass(frozen=True)
class Row:
    line: int
    cells: list[str]


@dataclass
class Table:
    """Rows under one header. ``names`` are made up where the file has none."""

    names: list[str]
    has_header: bool
    rows: list[Row] = field(default_factory=list)


@dataclass
class Tables:
    tables: list[Table]
    refused: list[Refused]
    notes: list[str]


def read(body: bytes) -> Tables:
    """All tables of a file. Raises ValueError for what is no table at all."""
    text, notes = _decoded(body)
    first = next((line for line in text.split("\n") if not _is_aside(line)), "")
    delimiter = _delimiter(first)
    reader = _Reader([], [], notes)
    for row in _split(text, delimiter):
        reader.take(row)
    if not reader.tables:
        raise ValueError("file: it has no row: nothing but blank lines and comments")
    return Tables(reader.tables, reader.refused, notes)


# --- bytes to lines -------------------------------------------------------------------------------


def _decoded(body: bytes) -> tuple[str, list[str]]:
    if not body.strip():
        raise ValueError("file: it is empty")
    if len(body) > MAX_BYTES:
        raise ValueError(f"file: it is too large; at most {MAX_BYTES // 2**20} MiB are read, so import it in parts")
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _ended(body.decode("utf-16", errors="replace").encode()).decode(), ["It was UTF-16, as Excel writes it."]
    body = _ended(body.removeprefix(codecs.BOM_UTF8))
    if b"\0" in body:
        raise ValueError("file: it is no text; give a table of text, with tabs or commas between its cells")
    return _lines(body)


def _ended(body: bytes) -> bytes:
    """Lines that end in a newline, whichever way they ended; a lone return inside of one was a progress bar's."""
    body = body.replace(b"\r\n", b"\n")
    return _LONE_CR.sub(b" " if b"\n" in body else b"\n", body)


def _lines(body: bytes) -> tuple[str, list[str]]:
    try:
        return body.decode(), []
    except UnicodeDecodeError:
        lines, foreign = [], []
        for place, raw in enumerate(body.split(b"\n"), start=1):
            try:
                lines.append(raw.decode())
            except UnicodeDecodeError:
                lines.append(raw.decode("cp1252", errors="replace"))
                foreign.append(place)
    some = ", ".join(map(str, foreign[:5])) + (" ..." if len(foreign) > 5 else "")
    return "\n".join(lines), [f"Not UTF-8, and read as Windows-1252: line {some}."]


# --- lines to cells -------------------------------------------------------------------------------


def _delimiter(first: str) -> str:
    """The tab where there is one, since commas stand in descriptions; else what the first line has most of."""
    if "\t" in first:
        return "\t"
    most = max(",;", key=first.count)
    if not first.count(most):
        raise ValueError(
            f"file: its first line has no tab, comma or semicolon between cells: {line_of(first, 60)!r}; "
            "give a table such as results.tsv"
        )
    return most


def _split(text: str, delimiter: str) -> Iterator[Row]:
    if delimiter == "\t":  # a line is a row: a quote in a description must not swallow those behind it
        for number, line in enumerate(text.split("\n"), start=1):
            yield Row(number, [_unquoted(cell) for cell in line.split("\t")])
        return
    reader, last = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 0
    try:
        for record in reader:
            if reader.line_num - last > MAX_RECORD_LINES:
                raise ValueError(f"file: a quote opened in line {last + 1} is closed {reader.line_num - last} lines on")
            yield Row(last + 1, record)
            last = reader.line_num
    except csv.Error as error:
        raise ValueError(f"file: line {last + 1}: {error}") from error


def _unquoted(cell: str) -> str:
    bare = cell.strip()
    if len(bare) > 1 and bare[0] == bare[-1] == '"' and '"' not in bare[1:-1].replace('""', ""):
        return bare[1:-1].replace('""', '"')
    return cell


def _is_aside(line: str) -> bool:
    """Blank, a rule, or a comment. A header may begin with ``#``, so one that has columns is none."""
    return _RULE.fullmatch(line or " ") is not None or (line.lstrip().startswith("#") and not _is_header(_bare(line)))


def _bare(line: str) -> list[str]:
    return re.split(r"[\t,;]", line.lstrip(" #"))


# --- cells to tables ------------------------------------------------------------------------------


@dataclass
class _Reader:
    tables: list[Table]
    refused: list[Refused]
    notes: list[str]
    num_rows: int = 0

    def take(self, row: Row) -> None:
        text = "\t".join(row.cells)
        if not text.strip():
            return
        if self.num_rows + len(self.refused) >= MAX_ROWS:
            raise ValueError(f"file: it has more than {MAX_ROWS:,} rows; import it in parts")
        if _RULE.fullmatch(text):
            self.refuse(row, "a rule, not a row")
        elif _is_header(bare := [cell.strip().lstrip("# ") for cell in row.cells]):
            self.head(row, bare)
        elif text.lstrip().startswith("#"):
            self.refuse(row, "a comment")
        else:
            self.add(row)

    def head(self, row: Row, bare: list[str]) -> None:
        if len(bare) > MAX_COLUMNS:
            raise ValueError(f"file: line {row.line} has {len(bare)} columns; at most {MAX_COLUMNS} are read")
        while bare and not bare[-1]:
            bare.pop()  # tabs behind the last name
        names = columns.names_of(bare)
        if self.tables and self.tables[-1].names == names:
            self.refuse(row, "the header once more")
            return
        if self.tables:
            self.notes.append(f"Line {row.line} begins another table: {line_of(', '.join(names), 200)}.")
        self.tables.append(Table(names, True))

    def add(self, row: Row) -> None:
        if not self.tables:
            self.tables.append(Table(_made_up(row.cells), False))
            self.notes.append("It has no header: its columns are called by their place.")
        self.tables[-1].rows.append(row)
        self.num_rows += 1

    def refuse(self, row: Row, reason: str) -> None:
        self.refused.append(Refused(line=row.line, reason=reason, text=line_of("\t".join(row.cells), 200)))


def _is_header(row: list[str]) -> bool:
    """Whether cells are names of columns: words without numbers, and at least two of them, or half, known ones."""
    said = [cell for cell in row if cell.strip()]
    if len(said) < 2 or any(len(cell) > 60 or _is_measured(cell) for cell in said):
        return False
    first = said[:HEADS_READ]
    num_known = sum(columns.is_known(cell) for cell in first)
    return num_known >= 2 or 2 * num_known >= len(first)


def _is_measured(cell: str) -> bool:
    if is_commit(cell.strip()) and any(map(str.isdigit, cell)):
        return True
    try:
        return cells.number(cell) is not None
    except ValueError:
        return False


ORIGINAL = ["commit", "val_bpb", "memory_gb", "status", "description"]


def _made_up(row: list[str]) -> list[str]:
    """autoresearch's own names where the row looks like one of its; else commit, outcome and description by sight."""
    if len(row) == len(ORIGINAL) and cells.is_outcome(row[3]):
        return list(ORIGINAL)
    names = [f"{columns.MADE_UP} {place}" for place in range(1, len(row) + 1)]
    outcome = next((place for place, cell in enumerate(row) if cells.is_outcome(cell)), None)
    if outcome is not None:
        names[outcome] = "status"
        names[-1] = "description" if outcome != len(row) - 1 else names[-1]
    if is_commit(row[0].strip()) or row[0].strip() == "HEAD":
        names[0] = "commit"
    return names
