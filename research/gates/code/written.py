"""All that a file says beside what it does: every text, number and name in it, by kind. Read, never run.

A model may read its own source, its docstrings and the names that it uses, so text can be hidden in any of them.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from research.change.patches import as_python
from research.gates.code.source import alone

DOCSTRINGS, STRINGS, COMMENTS, NAMES, NUMBERS, TABLES, LINES = KINDS = (
    "docstrings",
    "strings",
    "comments",
    "names",
    "numbers",
    "tables",
    "lines of text",
)
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError)
LARGE = 16  # elements: a list of so many is a table, whatever stands in it
# Letters without a space are text that was encoded: a byte of it, packed, stands for some three of plain text at the
# two bits or so a byte that a model of that text needs. Rulers ("-----") have few different letters.
OPAQUE_LETTERS, OPAQUE_KINDS, OPAQUE_WEIGHT = 32, 8, 3
_DISPLAYS = ast.List | ast.Tuple | ast.Set | ast.Dict


@dataclass(frozen=True)
class Piece:
    """One line of a text, one number, one name or one table."""

    kind: str
    text: str
    line: int  # of the file, from 1; of a piece of a longer text, where that begins
    num_bytes: int  # what it counts for

    @property
    def sameness(self) -> tuple[str, str]:
        """What two pieces are compared by; their place does not matter."""
        return self.kind, self.text


@lru_cache(maxsize=64)  # every proposal on an incumbent has its files for a base
def pieces(path: str, text: str) -> tuple[Piece, ...]:
    """All pieces of a file. A file that cannot be parsed as Python is lines of text."""
    if path.endswith(".py"):
        source = as_python(text)
        try:
            return (*_in_tree(alone(source).tree, source), *_in_tokens(source))
        except UNREADABLE:
            pass  # the gate on code has its word on it
    return tuple(
        Piece(LINES, said.strip(), number, _weight(said))
        for number, said in enumerate(text.split("\n"), start=1)
        if said.strip()
    )


def _in_tree(tree: ast.Module, text: str) -> Iterator[Piece]:
    starts = _starts_of_lines(text)
    statements = set[ast.AST]()
    rest: list[ast.AST] = [tree]
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Expr):
            statements.add(node.value)
        if isinstance(node, ast.Constant):
            yield from _constant(node, is_alone=node in statements)
        elif isinstance(node, _DISPLAYS) and len(_elements(node)) >= LARGE:
            yield _table(node, text, starts)
        else:
            rest += ast.iter_child_nodes(node)


def _elements(node: _DISPLAYS) -> list[ast.expr]:
    return node.values if isinstance(node, ast.Dict) else node.elts


def _constant(node: ast.Constant, *, is_alone: bool) -> Iterator[Piece]:
    if isinstance(node.value, str):
        yield from _lines(DOCSTRINGS if is_alone else STRINGS, node.value, node.lineno)
    elif isinstance(node.value, bytes):
        weight = OPAQUE_WEIGHT if len(node.value) >= OPAQUE_LETTERS else 1
        yield Piece(STRINGS, repr(node.value), node.lineno, weight * len(node.value))
    elif isinstance(node.value, int | float | complex) and not isinstance(node.value, bool):
        width = (node.end_col_offset or 0) - node.col_offset  # a number stands on one line
        yield Piece(NUMBERS, hex(node.value) if isinstance(node.value, int) else repr(node.value), node.lineno, width)
    else:
        yield Piece(NUMBERS, repr(node.value), node.lineno, 1)


def _lines(kind: str, text: str, line: int) -> Iterator[Piece]:
    for said in text.splitlines():
        if said := said.strip():
            yield Piece(kind, said, line, _weight(said))


def _weight(text: str) -> int:
    """Bytes; those of opaque words count several times."""
    counted = [(OPAQUE_WEIGHT if _is_opaque(word) else 1) * _num_bytes(word) for word in text.split()]
    return sum(counted) + max(0, len(counted) - 1)


def _is_opaque(word: str) -> bool:
    return len(word) >= OPAQUE_LETTERS and len(set(word)) >= OPAQUE_KINDS


def _num_bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _table(node: _DISPLAYS, text: str, starts: list[int]) -> Piece:
    """A table as it is written: its items may be numbers, texts, names or all of them."""
    begin, end = (
        starts[line - 1] + column
        for line, column in ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
    )
    said = " ".join(text.encode()[begin:end].decode().split())
    return Piece(TABLES, said, node.lineno, _weight(said))


def _starts_of_lines(text: str) -> list[int]:
    """Where each line starts, in bytes, as ast counts."""
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _in_tokens(text: str) -> Iterator[Piece]:
    """Comments and names; each name once, however often it is used."""
    seen: set[str] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield from _lines(COMMENTS, token.string.lstrip("#"), token.start[0])
        elif token.type == tokenize.NAME and token.string not in seen and not keyword.iskeyword(token.string):
            seen.add(token.string)
            yield Piece(NAMES, token.string, token.start[0], _num_bytes(token.string))


def new(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, Piece]]:
    """(path, piece) of what ``after`` has more of than ``before``, over all files; what only moved is not new."""
    known: dict[tuple[str, str], int] = {}
    for path, text in before.items():
        for piece in pieces(path, text):
            known[piece.sameness] = known.get(piece.sameness, 0) + 1
    return list(_beyond(known, ((path, piece) for path, text in after.items() for piece in pieces(path, text))))


def _beyond(known: dict[tuple[str, str], int], found: Iterable[tuple[str, Piece]]) -> Iterator[tuple[str, Piece]]:
    names: set[str] = set()
    for path, piece in found:
        if piece.kind == NAMES:
            if piece.sameness not in known and piece.text not in names:
                names.add(piece.text)
                yield path, piece
        elif known.get(piece.sameness, 0):
            known[piece.sameness] -= 1
        else:
            yield path, piece
