"""Small questions to parsed Python. Nothing is run; values are literals, and arithmetic of literals."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

Literal = int | float | bool | str
MOST = 1e30  # of a number that arithmetic gives
MAX_POWER = 64
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


def literal(node: ast.AST | None) -> Literal | None:
    """The value of a literal, or of arithmetic such as ``2**19`` and ``5 * 8``; None where it is anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -inner if _is_number(inner := literal(node.operand)) else None
    if isinstance(node, ast.BinOp) and (act := _BINARY.get(type(node.op))) is not None:
        return _reckoned(node, act)
    if isinstance(node, ast.Call) and name_of(node.func) in ("int", "float") and len(node.args) == 1:
        inner = literal(node.args[0])
        if _is_number(inner) and abs(inner) < MOST:
            return int(inner) if name_of(node.func) == "int" else float(inner)
    return None


def _reckoned(node: ast.BinOp, act: Callable[[Any, Any], Any]) -> Literal | None:
    left, right = literal(node.left), literal(node.right)
    if not _is_number(left) or not _is_number(right) or max(abs(left), abs(right)) > MOST:
        return None
    if isinstance(node.op, ast.Pow) and (abs(right) > MAX_POWER or abs(left) > 1_000):
        return None
    try:
        value = act(left, right)
    except (ArithmeticError, ValueError):
        return None
    return value if _is_number(value) and abs(value) < MOST else None


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def name_of(node: ast.AST | None) -> str:
    """``a.b.c`` of a name or an attribute; empty where it is neither."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{before}.{node.attr}" if (before := name_of(node.value)) else node.attr
    return ""


def calls(tree: ast.AST | None, *ends: str) -> Iterator[ast.Call]:
    """The calls of a function whose last name is one of ``ends``, in the order of lines."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call)) if tree is not None else ()
    wanted = [node for node in found if name_of(node.func).rpartition(".")[2] in ends]
    yield from sorted(wanted, key=lambda node: (node.lineno, node.col_offset))


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def texts(tree: ast.AST | None) -> Iterator[tuple[str, int]]:
    """Every string of it, with its line."""
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


def assigned(node: ast.stmt) -> tuple[str, ast.expr, ast.expr | None] | None:
    """Name, value and annotation of an assignment to one plain name."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value, None
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return node.target.id, node.value, node.annotation
    return None


def is_dataclass(node: ast.ClassDef) -> bool:
    marks = (mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list)
    return any(name_of(mark).rpartition(".")[2] == "dataclass" for mark in marks)
