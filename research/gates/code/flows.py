"""How values get names: every way in which Python binds one, with and without an equals sign."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import product

Target = ast.expr | str  # what is given the value: a name, or where it is kept
Displayed = ast.Tuple | ast.List | ast.Set
_GIVING = frozenset(
    {ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.For, ast.AsyncFor, ast.comprehension, ast.withitem, ast.Match}
)


def names_bound(node: ast.AST) -> Iterator[str]:
    """Names that ``node`` binds in its own scope (a function: its own name)."""
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Load):
            yield node.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (name.asname or name.name.split(".")[0] for name in node.names)
    elif isinstance(node, ast.MatchMapping):
        yield from (name for name in (node.rest,) if name)
    else:  # except ... as, case ... as, def, class, and the parameters of types, which Python 3.12 has
        name = getattr(node, "name", None)
        if isinstance(name, str) and not isinstance(node, ast.alias):
            yield name


def flows(node: ast.AST) -> Iterator[tuple[Target, ast.expr]]:
    """(target, value) of each value that ``node`` gives a name or a place to, as far as the text tells."""
    if type(node) not in _GIVING:  # most nodes are asked for nothing else
        return
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _paired(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        yield from _paired(node.target, node.value)
    elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        for element in _elements(node.iter):
            yield from _paired(node.target, element)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from _entered(node.optional_vars, node.context_expr)
    elif isinstance(node, ast.Match):
        for case in node.cases:
            yield from _captured(case.pattern, node.subject)


def leaves(value: ast.expr) -> Iterator[ast.expr]:
    """All expressions that ``value`` may be: both sides of a condition, any element of what it indexes."""
    if isinstance(value, ast.IfExp):
        yield from (leaf for part in (value.body, value.orelse) for leaf in leaves(part))
    elif isinstance(value, ast.BoolOp):
        yield from (leaf for part in value.values for leaf in leaves(part))
    elif isinstance(value, ast.NamedExpr | ast.Starred):
        yield from leaves(value.value)
    elif isinstance(value, ast.Subscript) and (picked := list(_elements(value.value))):
        yield from (leaf for part in picked for leaf in leaves(part))
    else:
        yield value


def _elements(value: ast.expr) -> Iterator[ast.expr]:
    if isinstance(value, Displayed):
        yield from value.elts
    elif isinstance(value, ast.Dict):
        yield from value.values


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[Target, ast.expr]]:
    """``a, b = x, y`` in pairs; with a star among them, or other lengths, every target with every value."""
    if isinstance(target, ast.Starred):
        target = target.value
    if isinstance(target, ast.Tuple | ast.List):
        parts = list(_elements(value))
        is_plain = len(parts) == len(target.elts) and not any(
            isinstance(e, ast.Starred) for e in (*target.elts, *parts)
        )
        for one, other in zip(target.elts, parts, strict=True) if is_plain else product(target.elts, parts):
            yield from _paired(one, other)
    elif isinstance(target, ast.Name | ast.Attribute):
        yield target.id if isinstance(target, ast.Name) else target, value


def _entered(target: ast.expr, context: ast.expr) -> Iterator[tuple[Target, ast.expr]]:
    """``with nullcontext(x) as y``: a context manager may return its argument."""
    yield from _paired(target, context)
    if isinstance(context, ast.Call):
        for given in (*context.args, *(keyword.value for keyword in context.keywords)):
            yield from _paired(target, given)


def _captured(pattern: ast.pattern, subject: ast.expr) -> Iterator[tuple[Target, ast.expr]]:
    if isinstance(pattern, ast.MatchAs):
        if pattern.name:
            yield pattern.name, subject
        if pattern.pattern:
            yield from _captured(pattern.pattern, subject)
    elif isinstance(pattern, ast.MatchOr):
        for one in pattern.patterns:
            yield from _captured(one, subject)
    elif isinstance(pattern, ast.MatchSequence | ast.MatchMapping):
        for one, element in product(pattern.patterns, _elements(subject)):
            yield from _captured(one, element)
    elif isinstance(pattern, ast.MatchStar) and pattern.name:
        yield pattern.name, subject
    elif isinstance(pattern, ast.MatchClass):
        for name, one in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
            yield from _captured(one, ast.Attribute(value=subject, attr=name, ctx=ast.Load()))
