"""Reads text from JSON: a document in each line, or in each item of one array, in the field "text" or a named one.

A line ends at a newline and nowhere else: the other marks that Unicode calls line ends are text in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources.source import Document

TEXT = "text"  # the field, or column, where nobody names another
MAX_ARRAY_BYTES = 256_000_000  # an array is held as a whole, and takes several times that
MARK = b"\xef\xbb\xbf"  # of UTF-8, as some editors set it before a file's first byte
NO_ROW = "file(s) without a row"
NAMES_SHOWN = 8
KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the rows of a source become documents."""

    column: str
    left_out: LeftOut
    held_out: bool | None = None


def documents_of_lines(path: Path, lines: Iterable[bytes], by: Reading) -> Iterator[Document]:
    """Documents of JSON Lines. ValueError names a line that is no object with a text in the column."""
    number = 0
    for number, line in enumerate(lines, start=1):
        name, where = f"{path}, line {number}", f"{path}: line {number}"
        if line.isspace():
            by.left_out.document("blank line(s)", name)
        elif (
            text := _text_of(_parse(line.removeprefix(MARK) if number == 1 else line, where), by.column, where)
        ) is None:
            by.left_out.document("row(s) without text", name)
        else:
            yield Document(name=name, text=text, held_out=by.held_out)
    if not number:
        by.left_out.file(NO_ROW, path)


def documents_of_file(path: Path, file: BinaryIO, by: Reading) -> Iterator[Document]:
    """Documents of a ``.json``: an array of objects or texts, one object, or JSON Lines under that suffix (C4's are).

    ValueError where it is none of these.
    """
    first = file.readline(MAX_ARRAY_BYTES).removeprefix(MARK)
    if isinstance(_parsed(first), dict):
        yield from documents_of_lines(path, chain([first], file), by)
        return
    body = first + file.read(MAX_ARRAY_BYTES)
    if len(body) > MAX_ARRAY_BYTES:
        raise ValueError(
            f"{path}: is one JSON value of more than {MAX_ARRAY_BYTES:,} bytes; write it as JSON Lines, such as with"
            f" `jq -c '.[]' {path.name} > {path.stem}.jsonl`"
        )
    whole = _parse(body, str(path)) if body.strip() else []
    if whole == []:
        by.left_out.file(NO_ROW, path)
    for number, item in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        where = f"{path}: item {number}" if isinstance(whole, list) else str(path)
        is_text = isinstance(whole, list) and isinstance(item, str)
        text = _encoded(item, where) if is_text else _text_of(item, by.column, where)
        if text is None:
            by.left_out.document("row(s) without text", f"{path}, item {number}")
        else:
            yield Document(name=f"{path}, item {number}", text=text, held_out=by.held_out)


def are_rows(lines: Sequence[bytes]) -> bool:
    """Whether these are two lines and each is a JSON object."""
    return len(lines) == 2 and all(isinstance(_parsed(line), dict) for line in lines)


def _loads(body: bytes) -> Any:
    """Parsed JSON, integers as floats: they are not used, and Python refuses integers of more than 4,300 digits."""
    return json.loads(body.decode(), parse_int=float)


def _parsed(line: bytes) -> Any:
    """The parsed line; None where it is not JSON by itself."""
    try:
        return _loads(line)
    except (ValueError, RecursionError):
        return None


def _parse(body: bytes, where: str) -> Any:
    try:
        return _loads(body)
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 ({error.reason} at byte {error.start:,}); convert it") from error
    except RecursionError as error:
        raise ValueError(f"{where} nests its objects too deep to be read; leave all but the text out") from error
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}; mend it, or take it out") from error


def _text_of(row: Any, column: str, where: str) -> bytes | None:
    """The text of a row; None where it is null."""
    if not isinstance(row, dict):
        found = KINDS.get(type(row), "null")
        raise ValueError(
            f'{where} is not a JSON object with a "{column}", but {found}; write objects, or name a file .json where it'
            " is one array of them"
        )
    if column not in row:
        raise ValueError(f'{where} is not a JSON object with a "{column}": it has {_names(row)}')
    text = row[column]
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f'{where}: its "{column}" is {KINDS[type(text)]} and no text: it has {_names(row)}')
    return _encoded(text, where)


def _encoded(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        half = ord(text[error.start])
        raise ValueError(
            f"{where}: its text holds \\u{half:04x} at character {error.start + 1:,}, half of a surrogate pair, which"
            " is no character and has no UTF-8; write \\ufffd in its place, or take the line out"
        ) from error


def _names(row: dict[str, Any]) -> str:
    """The fields that the row has, and the option that names one."""
    shown = [f"{name} ({KINDS.get(type(value), 'null')})" for name, value in list(row.items())[:NAMES_SHOWN]]
    more = f" and {len(row) - NAMES_SHOWN} more" if len(row) > NAMES_SHOWN else ""
    texts = [name for name, value in row.items() if isinstance(value, str)][:3]
    way = (
        f"name the one to read with --column {' or '.join(texts)}, or take the file out of the folder"
        if texts
        else "write its text into that, or take it out of the folder"
    )
    return f"{', '.join(shown) or 'no field'}{more}; {way}"
