"""Rules on what the harness gives a recipe: ``run``, its knobs and its batches, under whatever name they go.

What they are called is followed through assignments and calls of the file's own functions. Where they are handed to
what cannot be followed, a person looks.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from research.gates import allowed
from research.gates.source import Sighting, Source

SIGNED = "Knobs are what was signed; propose an override, or calculate a value of your own from them."
OTHERS = "It changes what the harness measures by; write a function or a class of your own."


Place = tuple[ast.AST | None, str]  # a variable: the function whose it is, None for the file's, and its name


@dataclass
class Given:
    """The variables by which a file knows ``run``, its knobs and its batches."""

    source: Source

    @cached_property
    def _runs(self) -> set[Place]:
        return self._reached(lambda node: isinstance(node, ast.Name) and node.id == "run")

    @cached_property
    def _knobs(self) -> set[Place]:
        return self._reached(lambda node: self._is_of_run(node, "knobs"))

    @cached_property
    def _batches(self) -> set[Place]:
        return self._reached(lambda node: isinstance(node, ast.Call) and self._is_of_run(node.func, "batches"))

    def _is_of_run(self, node: ast.AST, name: str) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == name and self.is_run(node.value)

    def is_run(self, node: ast.AST | None) -> bool:
        """``run`` itself, whatever it is called, or kept as ``self.run``."""
        if isinstance(node, ast.Name):
            return node.id == "run" or self._place(node) in self._runs
        return isinstance(node, ast.Attribute) and node.attr == "run" and isinstance(node.value, ast.Name)

    def is_knobs(self, node: ast.AST | None) -> bool:
        if isinstance(node, ast.Name):
            return node.id == "knobs" or self._place(node) in self._knobs
        return node is not None and self._is_of_run(node, "knobs")

    def is_batches(self, node: ast.AST | None) -> bool:
        if isinstance(node, ast.Name):
            return self._place(node) in self._batches
        return isinstance(node, ast.Call) and self._is_of_run(node.func, "batches")

    def _place(self, node: ast.Name) -> Place:
        return self.source.scope(node.id, node), node.id

    def _reached(self, is_it: Callable[[ast.expr], bool]) -> set[Place]:
        """What is given that for which ``is_it`` holds, or what was given it; followed as far as three times."""
        places: set[Place] = set()
        for _ in range(3):
            for place, value in self._given_places:
                if is_it(value) or (isinstance(value, ast.Name) and self._place(value) in places):
                    places.add(place)
        return places

    @cached_property
    def _given_places(self) -> list[tuple[Place, ast.expr]]:
        assigned = [((self.source.scope(name, value), name), value) for name, value in self.source.plain_assignments]
        called = [pair for n in self.source.nodes if isinstance(n, ast.Call) for pair in self.parameters_of(n) or ()]
        return [*assigned, *called]

    def parameters_of(self, call: ast.Call) -> list[tuple[Place, ast.expr]] | None:
        """(parameter, argument) of a call of one of the file's own functions or classes; None for any other."""
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        found = self._functions.get(name)
        if found is None:
            return None
        given = [*found.args.posonlyargs, *found.args.args]
        is_unbound = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in self.source.own
        if isinstance(self.source.parents.get(found), ast.ClassDef) and not is_unbound:
            given = given[1:]
        by_order = [(p.arg, value) for p, value in zip(given, call.args, strict=False)]
        by_name = [(keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg]
        return [((found, name), value) for name, value in [*by_order, *by_name]]

    @cached_property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        """By name; a class goes by its ``__init__``."""
        found: dict[str, ast.FunctionDef] = {}
        for node in self.source.nodes:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = node
                parent = self.source.parents.get(node)
                if node.name == "__init__" and isinstance(parent, ast.ClassDef):
                    found[parent.name] = node
        return found


def sightings(source: Source) -> Iterator[Sighting]:
    given = Given(source)
    for node in source.nodes:
        if isinstance(node, ast.Attribute):
            yield from _attribute(given, node)
        elif isinstance(node, ast.Call):
            yield from _call(given, node)
        elif given.is_knobs(_assigned_into(node)):
            yield Sighting("block", "knobs", node, ast.unparse(node), SIGNED)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and given.is_run(node):
            yield from _handed_on(given, node)


def _assigned_into(node: ast.AST) -> ast.expr | None:
    """``k`` of ``k["depth"] = 1``, ``del k["depth"]`` and ``k |= {}``."""
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
    elif is_run and node.attr not in allowed.RUN:
        sentence = f"{said} is not among what the harness gives a recipe ({', '.join(sorted(allowed.RUN))})."
        yield Sighting("warn", "harness", node, said, sentence)
    elif is_batches and node.attr not in allowed.BATCHES:
        sentence = f"{said} is the harness's own: the order and the count of the text belong to the seed; use next()."
        yield Sighting("block", "harness", node, said, sentence)


def _call(given: Given, node: ast.Call) -> Iterator[Sighting]:
    """``k.update(x=1)``, and ``dict.update(k, x=1)``."""
    if isinstance(node.func, ast.Attribute) and node.func.attr in allowed.MUTATORS:
        of = node.args[0] if getattr(node.func.value, "id", "") == "dict" and node.args else node.func.value
        if given.is_knobs(of):
            yield Sighting("block", "knobs", node, ast.unparse(node), SIGNED)


def _handed_on(given: Given, node: ast.Name | ast.Attribute) -> Iterator[Sighting]:
    """Only to the files' own functions, or to another name: elsewhere nobody sees what becomes of it."""
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
    """``r = run``, ``self.run = run``, and ``self.run, self.knobs = run, run.knobs``."""
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
