"""Rules on the knobs, whose values were signed: they may be read, copied and passed to the file's own functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from research.gates.code.flows import leaves
from research.gates.code.given import SIGNED, Given, called
from research.gates.code.naming import is_own
from research.gates.code.source import Sighting

NOT_FOLLOWED = f"It hands the knobs on to where nobody can follow what becomes of them. {SIGNED}"
_READERS = frozenset(
    "dict len sorted list tuple set frozenset iter str repr print bool isinstance enumerate any all "
    "getattr hasattr".split()
)
_COPIERS = frozenset({"copy.copy", "copy.deepcopy"})
_READING = (
    ast.Attribute | ast.Subscript | ast.Compare | ast.Starred | ast.BinOp | ast.FormattedValue | ast.Expr
    | ast.If | ast.While | ast.Assert | ast.UnaryOp | ast.Match | ast.match_case
)  # fmt: skip


def sightings(given: Given) -> Iterator[Sighting]:
    for node in given.source.of_kind(ast.Name, ast.Attribute, ast.Call):  # what goes by a name
        if isinstance(node, ast.expr) and given.names_knobs(node):
            yield from _let_go(given, node)


def _let_go(given: Given, node: ast.expr) -> Iterator[Sighting]:
    if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
        return
    whole, around = node, given.source.parents.get(node)
    while isinstance(around, ast.IfExp | ast.BoolOp | ast.NamedExpr):  # it may be what all of that is
        whole, around = around, given.source.parents.get(around)
    if not _is_kept_in_sight(given, whole, around):
        yield Sighting("block", "knobs", node, ast.unparse(around)[:200] if around else "", NOT_FOLLOWED)


def _is_kept_in_sight(given: Given, node: ast.expr, around: ast.AST | None) -> bool:
    if isinstance(around, ast.keyword):
        call = given.source.parents.get(around)
        is_copied = around.arg is None  # ``**k``
        return is_copied or (isinstance(call, ast.Call) and _is_followed(given, call, node))
    if isinstance(around, ast.Call):
        return around.func is node or _is_followed(given, around, node)
    if isinstance(around, ast.Tuple | ast.List):  # ``self.team, self.knobs = run.team, run.knobs``
        outer = given.source.parents.get(around)
        return isinstance(outer, ast.Assign) and _is_matched(outer, around)
    if isinstance(around, ast.Dict):  # ``{**k}``
        return all(key is None for key, value in zip(around.keys, around.values, strict=True) if value is node)
    if isinstance(around, ast.Assign | ast.AnnAssign):
        targets = around.targets if isinstance(around, ast.Assign) else [around.target]
        is_a_class = isinstance(given.source.parents.get(around), ast.ClassDef)  # it would be read as ``H.q``
        return not is_a_class and all(isinstance(t, ast.Name) or _is_an_own_attribute(t) for t in targets)
    if isinstance(around, ast.Return):
        return not _is_called_unseen(given, around)
    if isinstance(around, ast.For | ast.comprehension):
        return around.iter is node
    return isinstance(around, _READING)


def _is_an_own_attribute(target: ast.expr) -> bool:
    """Whether it is ``self.k``. Other objects may do anything with their attributes (``UserDict().data``)."""
    return isinstance(target, ast.Attribute) and is_own(target.value)


def _is_called_unseen(given: Given, answer: ast.Return) -> bool:
    """Whether a function may be called without its name: a property, ``h()``, ``h[0]``, or by a decorator."""
    function = next((n for n in given.source.above(answer) if isinstance(n, ast.FunctionDef)), None)
    return function is not None and (function.name.startswith("__") or bool(function.decorator_list))


def _is_followed(given: Given, call: ast.Call, argument: ast.expr) -> bool:
    """Whether the call is of a file's own function, whose parameter it becomes, or of one that only reads or copies."""
    parameters = given.parameters_of(call)
    if parameters is not None:
        return any(argument is one or argument in leaves(one) for _, one in parameters)
    if isinstance(call.func, ast.Name) and not given.source.dotted(call.func):
        return called(call) in _READERS and not given.source.is_local(call.func.id, call)
    return bool(dotted := given.source.dotted(call.func)) and dotted <= _COPIERS


def _is_matched(assign: ast.Assign, value: ast.Tuple | ast.List) -> bool:
    """Whether targets and values of the assignment pair up one by one."""
    sides = [value, *assign.targets]
    return all(
        isinstance(side, ast.Tuple | ast.List)
        and len(side.elts) == len(value.elts)
        and not any(isinstance(element, ast.Starred) for element in side.elts)
        for side in sides
    )
