"""Cuts one held-out text into three, one for each held-out split, at ends of lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from gpu_runner.data.manifest import HELD_OUT
from gpu_runner.data.sources.source import Document
from gpu_runner.data.splits import held_out_bounds

NEAR = 50  # part of a text within which the end of a line is looked for


def parts_of(name: str, text: bytes) -> Iterator[Document]:
    """A part of the text for each held-out split, in the usual shares; parts without text are left out."""
    stops = [_end_of_line(text, stop) for _, stop in held_out_bounds(len(text)).values()]
    for split, (start, stop) in zip(HELD_OUT, pairwise([0, *stops]), strict=True):
        if text[start:stop].strip():
            yield Document(name=f"{name}, its part for {split}", text=text[start:stop], split=split)


def _end_of_line(text: bytes, place: int) -> int:
    """A place to cut, at or soon after ``place``: behind a line, else behind a word, else behind a character."""
    near = text[place : place + max(len(text) // NEAR, 1)]
    for end in (b"\n", b" "):
        if (found := near.find(end)) >= 0:
            return place + found + 1
    while place < len(text) and text[place] & 0xC0 == 0x80:  # within a character of UTF-8
        place += 1
    return place
