"""Reads the arguments of a call, in whatever way they are given."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def keywords(node: ast.Call) -> Iterator[tuple[str | None, ast.expr]]:
    """(name, value) of each keyword argument; the name is None for a ``**`` that is not written out."""
    for keyword in node.keywords:
        if keyword.arg is None and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                yield (key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None), value
        else:
            yield keyword.arg, keyword.value
