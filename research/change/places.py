"""Counts how many things a draft changes at once; for more than one it must say why. Pure.

A knob is one thing. Edits are one thing as long as they stay in one top-level definition of one file. An idea that
reaches further may be right, and states its reason in ``why_together``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping

from research.change.drafts import Draft, Edit
from research.change.patches import as_python


def changed(draft: Draft, files: Mapping[str, str]) -> list[str]:
    """The names of what ``draft`` changes: knobs, then places in code. Expects a draft without problems."""
    return [*(override.key for override in draft.overrides), *places(draft.edits, files)]


def places(edits: Iterable[Edit], files: Mapping[str, str]) -> list[str]:
    """The top-level definitions that ``edits`` touch, as ``path: name``, each once and in order."""
    texts, found = dict(files), dict[str, None]()
    for edit in edits:
        text = texts[edit.path]
        first = text.count("\n", 0, text.find(edit.search)) + 1
        found |= dict.fromkeys(_touched(edit.path, text, first, first + edit.search.rstrip("\n").count("\n")))
        texts[edit.path] = text.replace(edit.search, edit.replace)
    return list(found)


def _touched(path: str, text: str, first: int, last: int) -> list[str]:
    """Definitions with a line among ``first`` .. ``last``; the file itself where there are none."""
    names = [name for name, begins, ends in _definitions(path, text) if begins <= last and ends >= first]
    return [f"{path}: {name}" for name in names] or [path]


def _definitions(path: str, text: str) -> list[tuple[str, int, int]]:
    """(name, first line, last line) of top-level definitions; none for a file that does not parse (yet)."""
    if not path.endswith(".py"):
        return []
    try:
        nodes = ast.parse(as_python(text)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [(node.name, _begins(node), node.end_lineno or node.lineno) for node in nodes if isinstance(node, kinds)]


def _begins(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
