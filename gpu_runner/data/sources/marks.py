"""Splits a plain text file that holds many texts, as TinyStories does: a line ends in <|endoftext|> where a text ends.

A tokenizer is given text alone, so an unsplit mark would be thirteen letters that a model learns to write, and the file
one document. A mark within a line stays text, since a page about tokenizers may have it there; that is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_runner.data.left_out import LeftOut

MARK = b"<|endoftext|>"
AT_END_OF_LINE = re.compile(re.escape(MARK) + rb"[ \t\r]*(?:\n|\Z)")
LOOKED_AT_BYTES = 1 << 20


def has_texts(head: bytes) -> bool:
    return AT_END_OF_LINE.search(head) is not None


def texts_of(name: str, text: bytes, told: LeftOut) -> Iterator[tuple[str, bytes]]:
    """The texts of a file without their marks, each with a name; a file without marks is one."""
    *whole, rest = AT_END_OF_LINE.split(text)
    pieces = [*whole, rest] if rest.strip() or not whole else whole
    for number, piece in enumerate(pieces, start=1):
        called = f"{name}, text {number}" if whole else name
        if whole:
            told.read(f"text(s) of files in which {MARK.decode()} ends a text at the end of a line", called)
        if MARK in piece:
            told.doubt(f"document(s) with {MARK.decode()} within a line, where it is letters and ends nothing", called)
        yield called, piece
