"""Finds the names by which a file knows what the harness gives it: ``run``, its knobs and its batches.

They are followed through every way in which Python binds a name (``flows``), through attributes, and through calls
of the file's own functions and what these return.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from research.gates.code.flows import Target, leaves
from research.gates.code.source import Source

SIGNED = "Knobs are what was signed; propose an override, or calculate a value of your own from them."

Place = tuple[ast.AST | None, str]  # a variable: the function whose it is, None for the file's, and its name
ROUNDS = 12  # of following names to names; a longer chain is not followed to its end


@dataclass
class Reached:
    """All ways to one thing: variables, attributes that store it, functions that return it."""

    places: set[Place] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.places) + len(self.attributes) + len(self.functions)

    def add(self, target: Place | ast.Attribute | str) -> None:
        if isinstance(target, ast.Attribute):
            self.attributes.add(target.attr)
        elif isinstance(target, str):
            self.functions.add(target)
        else:
            self.places.add(target)


@dataclass
class Given:
    """The variables by which a file knows ``run``, its knobs and its batches."""

    source: Source

    @cached_property
    def _runs(self) -> Reached:
        return self._reached(_is_called_run, Reached())

    @cached_property
    def _knobs(self) -> Reached:
        return self._reached(lambda node: self._is_of_run(node, "knobs"), Reached(attributes={"knobs"}))

    @cached_property
    def _batches(self) -> Reached:
        return self._reached(self._makes_batches, Reached())

    def _makes_batches(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Call) and self._is_of_run(node.func, "batches")

    def _is_of_run(self, node: ast.AST, name: str) -> bool:
        """Whether it is ``run.knobs`` or the like, or ``getattr(run, "knobs")``."""
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr" and len(node.args) > 1:
            return ast.unparse(node.args[1]) == repr(name) and self.is_run(node.args[0])
        return isinstance(node, ast.Attribute) and node.attr == name and self.is_run(node.value)

    def is_run(self, node: ast.AST | None) -> bool:
        """Whether it may be ``run``, under whatever name, or stored as ``self.run``."""
        if node not in self._known_runs:
            self._known_runs[node] = self._is_run(node)
        return self._known_runs[node]

    @cached_property
    def _known_runs(self) -> dict[ast.AST | None, bool]:
        return {}

    def _is_run(self, node: ast.AST | None) -> bool:
        if isinstance(node, ast.Attribute) and node.attr == "run":
            return isinstance(node.value, ast.Name)
        return any(_is_called_run(leaf) or self._is(self._runs, leaf) for leaf in _leaves(node))

    def is_knobs(self, node: ast.AST | None) -> bool:
        return any(self.names_knobs(leaf) for leaf in _leaves(node))

    def names_knobs(self, node: ast.AST) -> bool:
        """Whether the expression itself is the knobs, and not only one of several things that it may be."""
        return getattr(node, "id", "") == "knobs" or self._is_of_run(node, "knobs") or self._is(self._knobs, node)

    def is_batches(self, node: ast.AST | None) -> bool:
        return any(self._makes_batches(leaf) or self._is(self._batches, leaf) for leaf in _leaves(node))

    def _is(self, reached: Reached, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return self._place(node) in reached.places
        if isinstance(node, ast.Attribute):
            return node.attr in reached.attributes and isinstance(node.value, ast.Name)
        return isinstance(node, ast.Call) and called(node) in reached.functions

    def _place(self, node: ast.Name) -> Place:
        return self.source.scope(node.id, node), node.id

    def _reached(self, is_it: Callable[[ast.expr], bool], reached: Reached) -> Reached:
        """Grow ``reached`` by everything that is bound to what ``is_it`` accepts, until nothing is added."""
        for _ in range(ROUNDS):
            before = len(reached)
            for target, value in self._given_places:
                if any(is_it(leaf) or self._is(reached, leaf) for leaf in leaves(value)):
                    reached.add(target)
            if len(reached) == before:
                break
        return reached

    @cached_property
    def _given_places(self) -> list[tuple[Place | ast.Attribute | str, ast.expr]]:
        """(variable, attribute, or a function's name; the value that it is given or returns)."""
        assigned = [(self._target(target, where), value) for target, value, where in self.source.flows]
        called = [pair for n in self.source.nodes if isinstance(n, ast.Call) for pair in self.parameters_of(n) or ()]
        return [*assigned, *called, *self._returned()]

    def _target(self, target: Target, where: ast.AST) -> Place | ast.Attribute | str:
        if isinstance(target, str):
            return self.source.scope(target, where), target
        assert isinstance(target, ast.Attribute)
        return target

    def _returned(self) -> Iterator[tuple[str, ast.expr]]:
        for node in self.source.of_kind(ast.Return):
            if isinstance(node, ast.Return) and node.value:
                around = next((f for f in self.source.above(node) if isinstance(f, ast.FunctionDef)), None)
                if around is not None:
                    yield around.name, node.value

    def parameters_of(self, call: ast.Call) -> list[tuple[Place, ast.expr]] | None:
        """(parameter, argument) of a call of one of the file's own functions or classes; None for other calls."""
        found = self._functions.get(called(call))
        if found is None:
            return None
        given = [*found.args.posonlyargs, *found.args.args]
        is_unbound = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in self.source.own
        if isinstance(self.source.parents.get(found), ast.ClassDef) and not is_unbound:
            given = given[1:]
        by_order = [(p.arg, value) for p, value in zip(given, call.args, strict=False)]
        taken = {p.arg for p in (*given, *found.args.kwonlyargs)}  # others go into ``**``
        by_name = [(keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg in taken]
        return [((found, name), value) for name, value in [*by_order, *by_name]]

    @cached_property
    def _functions(self) -> dict[str, ast.FunctionDef]:
        """Name -> function; a class's name -> its ``__init__``."""
        found: dict[str, ast.FunctionDef] = {}
        for node in self.source.of_kind(ast.FunctionDef):
            if isinstance(node, ast.FunctionDef):
                found[node.name] = node
                parent = self.source.parents.get(node)
                if node.name == "__init__" and isinstance(parent, ast.ClassDef):
                    found[parent.name] = node
        return found


def called(call: ast.Call) -> str:
    """The last part of the name by which a function is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_called_run(node: ast.expr) -> bool:
    """Whether it is the name ``run``, or ``type(run)`` or a copy, which share what it has."""
    if isinstance(node, ast.Call):
        return called(node) in ("type", "copy") and bool(node.args) and _is_called_run(node.args[0])
    return isinstance(node, ast.Name) and node.id == "run"


def _leaves(node: ast.AST | None) -> Iterator[ast.expr]:
    return leaves(node) if isinstance(node, ast.expr) else iter(())
