"""Rules on ``run``, its knobs and its batches, under whatever names they go (``given``).

Their names are followed through assignments and calls of the file's own functions. Where one is passed to
something that cannot be followed, a person has to look.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from research.gates.code import allowed, signed
from research.gates.code.given import SIGNED, Given
from research.gates.code.source import Sighting, Source

OTHERS = "It changes what the harness measures by; write a function or a class of your own."


def sightings(source: Source) -> Iterator[Sighting]:
    given = Given(source)
    yield from signed.sightings(given)
    for node in source.of_kind(ast.Attribute, ast.Call, ast.AugAssign, ast.Subscript, ast.Name):
        if isinstance(node, ast.Attribute):
            yield from _attribute(given, node)
        elif isinstance(node, ast.Call):
            yield from _call(given, node)
        elif given.is_knobs(_assigned_into(node)):
            yield Sighting("block", "knobs", node, ast.unparse(node), SIGNED)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and given.is_run(node):
            yield from _handed_on(given, node)


def _assigned_into(node: ast.AST) -> ast.expr | None:
    """What is changed by ``k["depth"] = 1``, ``del k["depth"]`` or ``k |= {}``: here ``k``."""
    if isinstance(node, ast.AugAssign):
        return node.target
    return node.value if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) else None


def _attribute(given: Given, node: ast.Attribute) -> Iterator[Sighting]:
    is_run, is_batches = given.is_run(node.value), given.is_batches(node.value)
    if not (is_run or is_batches or given.is_knobs(node.value)):
        return
    said = ast.unparse(node)
    if not isinstance(node.ctx, ast.Load):
        yield Sighting("block", "harness", node, said, OTHERS)
    elif node.attr.startswith("_") and node.attr not in allowed.READING_DUNDERS:
        yield Sighting("block", "harness", node, said, f"{said} is the harness's own; a recipe gets on without it.")
    elif node.attr in allowed.MUTATORS and given.is_knobs(node.value):
        yield Sighting("block", "knobs", node, said, SIGNED)
    elif is_run and node.attr not in allowed.RUN:
        sentence = f"{said} is not among what the harness gives a recipe ({', '.join(sorted(allowed.RUN))})."
        yield Sighting("warn", "harness", node, said, sentence)
    elif is_batches and node.attr not in allowed.BATCHES:
        sentence = f"{said} is the harness's own: the order and the count of the text belong to the seed; use next()."
        yield Sighting("block", "harness", node, said, sentence)


def _call(given: Given, node: ast.Call) -> Iterator[Sighting]:
    """Sightings in calls such as ``dict.update(k, x=1)``, and in ``getattr(b, "drawn")`` as if it were written out."""
    if getattr(node.func, "id", "") == "getattr" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
        written_out = ast.Attribute(value=node.args[0], attr=str(node.args[1].value), ctx=ast.Load())
        yield from _attribute(given, ast.copy_location(written_out, node))
    method = node.func if isinstance(node.func, ast.Attribute) else None
    if method is None or method.attr not in allowed.MUTATORS or getattr(method.value, "id", "") != "dict":
        return
    if node.args and given.is_knobs(node.args[0]):
        yield Sighting("block", "knobs", node, ast.unparse(node), SIGNED)


def _handed_on(given: Given, node: ast.Name | ast.Attribute) -> Iterator[Sighting]:
    """A sighting where ``run`` goes anywhere but to the file's own functions or another name: it is lost from sight."""
    parent = given.source.parents.get(node)
    around = given.source.parents.get(parent) if isinstance(parent, ast.keyword) else parent
    if isinstance(around, ast.Attribute | ast.Compare):
        return
    if isinstance(around, ast.Call):
        is_followed = given.parameters_of(around) is not None or around.func is node
        if is_followed or getattr(around.func, "id", "") in ("getattr", "hasattr", "isinstance"):
            return
    elif isinstance(around, ast.Assign | ast.AnnAssign | ast.Tuple) and _is_kept(given.source, around, node):
        return
    sentence = "It hands on what the harness gave it, where its use cannot be followed; pass on what is needed of it."
    yield Sighting("warn", "harness", node, ast.unparse(around)[:200] if around else "", sentence)


def _is_kept(source: Source, around: ast.AST, node: ast.AST) -> bool:
    """Whether it is only given another name: ``r = run``, ``self.run = run``, and these in tuples."""
    if isinstance(around, ast.Assign):
        return all(isinstance(t, ast.Name) or _is_called_run(t) for t in around.targets)
    if isinstance(around, ast.AnnAssign):
        return isinstance(around.target, ast.Name) or _is_called_run(around.target)
    outer = source.parents.get(around)
    if not isinstance(around, ast.Tuple) or not isinstance(outer, ast.Assign):
        return False
    at = [element is node for element in around.elts].index(True)
    return all(isinstance(t, ast.Tuple) and len(t.elts) > at and _is_called_run(t.elts[at]) for t in outer.targets)


def _is_called_run(target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) and target.attr == "run"
