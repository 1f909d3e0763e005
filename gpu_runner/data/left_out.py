"""Counts what of a source is in no split, and what was read in a way that a person may not expect.

Documents and rows are text that somebody may miss, so the manifest names them as well (``fact``). Files that never
were text (a checksum, a hidden folder) are only told when the dataset is made, so that the same text has the same
manifest with and without a .DS_Store.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter


@dataclass
class _Counted:
    num: int
    first: str


class LeftOut:
    """Counts by kind, with the first name of each. A kind is worded for one and for many: ``empty document(s)``."""

    def __init__(self) -> None:
        self._files: dict[str, _Counted] = {}
        self._documents: dict[str, _Counted] = {}
        self._read: dict[str, _Counted] = {}
        self._doubts: dict[str, _Counted] = {}

    def file(self, kind: str, name: object) -> None:
        """Count a file, folder or link that is not read."""
        _count(self._files, kind, name)

    def document(self, kind: str, name: object) -> None:
        """Count a document, row or line that is read and not kept."""
        _count(self._documents, kind, name)

    def read(self, kind: str, name: object) -> None:
        """Count a document that is kept, and how it was found."""
        _count(self._read, kind, name)

    def doubt(self, kind: str, name: object) -> None:
        """Count a document that is kept, though it may not be what it seems to be."""
        _count(self._doubts, kind, name)

    def in_words(self) -> str:
        """``Left out: 2 empty documents (first: a.txt), 1 hidden file (.b).``; "" when there is nothing."""
        sentences = (
            _sentence("Read", self._read),
            _sentence("CAREFUL", self._doubts),
            _sentence("Left out", self._documents, self._files),
        )
        return " ".join(filter(None, sentences))

    def fact(self) -> str:
        """The documents left out, without names: for the manifest, which has no local path."""
        return ", ".join(_worded(kind, found.num) for kind, found in sorted(self._documents.items(), key=itemgetter(0)))


def _sentence(what: str, *counts: dict[str, _Counted]) -> str:
    counted = [pair for one in counts for pair in sorted(one.items(), key=itemgetter(0))]
    said = (
        f"{_worded(kind, found.num)} ({'first: ' if found.num > 1 else ''}{found.first})" for kind, found in counted
    )
    return f"{what}: {', '.join(said)}." if counted else ""


def _count(counted: dict[str, _Counted], kind: str, name: object) -> None:
    if kind in counted:
        counted[kind].num += 1
    else:
        counted[kind] = _Counted(1, str(name))


def _worded(kind: str, num: int) -> str:
    return f"{num:,} {kind.replace('(s)', '' if num == 1 else 's')}"
