"""Finds edits that undo one another, so that the text is again as it was. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from research.change.drafts import Edit
from research.change.nearest import num_alike


@dataclass
class _Place:
    """A stretch of the present text, its original text, and the edits that touched it."""

    start: int
    end: int
    first: str
    edits: list[int] = field(default_factory=list)


def undone(files: Mapping[str, str], edits: Iterable[Edit]) -> list[tuple[str, list[int]]]:
    """(path, numbers of edits, from 1) for every place that is again as it was. Expects edits that can be applied."""
    texts = dict(files)
    places: dict[str, list[_Place]] = {}
    for number, edit in enumerate(edits, start=1):
        text = texts[edit.path]
        start, end, new = _changed(text, edit)
        places[edit.path] = _with(places.get(edit.path, []), text, _Place(start, end, "", [number]), len(new))
        texts[edit.path] = text[:start] + new + text[end:]
    return [
        (path, place.edits)
        for path, touched in places.items()
        for place in touched
        if texts[path][place.start : place.end] == place.first
    ]


def _changed(text: str, edit: Edit) -> tuple[int, int, str]:
    """(start, end, new text) of an edit, without what search and replacement have in common at both ends."""
    same = num_alike(edit.search, edit.replace)
    old, new = edit.search[same:], edit.replace[same:]
    behind = num_alike(old[::-1], new[::-1])
    start = text.find(edit.search) + same
    return start, start + len(old) - behind, new[: len(new) - behind]


def _with(places: list[_Place], text: str, one: _Place, num_new: int) -> list[_Place]:
    """``places`` with ``one`` added, at their positions after its edit (``num_new`` characters long).

    Places that it touches are merged into it.
    """
    touched = [place for place in places if place.start <= one.end and one.start <= place.end]
    start, end = min(p.start for p in (*touched, one)), max(p.end for p in (*touched, one))
    first, at = "", start
    for place in touched:
        first, at = first + text[at : place.start] + place.first, place.end
    grown = num_new - (one.end - one.start)
    numbers = [number for place in (*touched, one) for number in place.edits]
    merged = _Place(start, end + grown, first + text[at:end], sorted(numbers))
    before = [place for place in places if place.end < one.start]
    behind = [_Place(p.start + grown, p.end + grown, p.first, p.edits) for p in places if p.start > one.end]
    return [*before, merged, *behind]
