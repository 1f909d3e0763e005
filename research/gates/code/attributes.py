"""Rules on attributes by a name in text: ``getattr``, ``setattr``, ``hasattr``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from research.gates.code.leads import objection
from research.gates.code.naming import as_sentence, attribute_name, is_own, said
from research.gates.code.source import Sighting, Source


def by_name(source: Source, node: ast.Call, function: str) -> Iterator[Sighting]:
    """Sightings in ``getattr`` and its like. A literal name counts as if it were written out.

    A computed one is blocked; where it comes from a knob or is on self, it is a warning.
    """
    if len(node.args) < 2 or any(isinstance(a, ast.Starred) for a in node.args):
        sentence = f"{function} without two plain arguments cannot be followed; name the attribute."
        yield Sighting("block", "computed-name", node, said(node), sentence)
        return
    of, name = node.args[0], node.args[1]
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        yield from _written_out(source, node, of, name.value)
    else:
        severity = "warn" if _comes_from_a_knob(source, of, name) or (is_own(of) and not _is_spelled(name)) else "block"
        sentence = f"{function} takes a computed name, so nobody can read what it reaches; name the attribute."
        yield Sighting(severity, "computed-name", node, said(node), sentence)
    if function == "setattr" and not is_own(of):
        sentence = "setattr changes an object from outside; assign to the attribute, so that its rules are seen."
        yield Sighting("block", "monkey-patch", node, said(node), sentence)


def _written_out(source: Source, node: ast.Call, of: ast.expr, name: str) -> Iterator[Sighting]:
    yield from attribute_name(source, node, name, of)
    for dotted in sorted(source.dotted(of)):
        if found := objection(f"{dotted}.{name}", source.siblings):
            severity, why = found
            yield Sighting(severity, "name", node, f"{dotted}.{name}", as_sentence(why, severity))


_KNOBS = ("config", "k", "knobs")


def _comes_from_a_knob(source: Source, of: ast.expr, name: ast.expr) -> bool:
    """Whether it is config["dtype"], k["activation"] or run.dtype, whose values recipe.toml or the machine bounds."""
    if not isinstance(name, ast.Subscript):
        return isinstance(name, ast.Attribute) and ast.unparse(name) == "run.dtype"
    named = ast.unparse(name.value).removeprefix("self.").removeprefix("run.")
    if not isinstance(name.slice, ast.Constant) or named not in _KNOBS:
        return False
    values = [v for node in source.nodes for v in _written(node, name.slice.value)]
    return all(_is_bounded(source, of, value) for value in values)


def _written(node: ast.AST, key: object) -> Iterator[ast.expr]:
    """Values that ``node`` may store under ``key`` in any dict, or under an unknown key in one with a knobs' name.

    Of a dict that is written out, computed keys are among them: each could be ``key``.
    """
    if isinstance(node, ast.Dict):
        yield from (
            v for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant) and k.value == key
        )
        yield from (k for k in node.keys if k is not None and not isinstance(k, ast.Constant))
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript) and _may_be(target, key):
                yield node.value
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("dict", "update", "setdefault"):
        yield from (keyword.value for keyword in node.keywords if keyword.arg == key)


def _may_be(target: ast.Subscript, key: object) -> bool:
    if isinstance(target.slice, ast.Constant):
        return target.slice.value == key
    return ast.unparse(target.value).split(".")[-1] in _KNOBS


def _is_bounded(source: Source, of: ast.expr, value: ast.expr) -> bool:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        found = [objection(f"{dotted}.{value.value}", source.siblings) for dotted in source.dotted(of)]
        return all(one is None or one[0] == "warn" for one in found)
    return isinstance(value, ast.Constant) or ast.unparse(value) == "run.dtype" or _is_a_knobs(value)


def _is_a_knobs(value: ast.expr) -> bool:
    return isinstance(value, ast.Subscript) and ast.unparse(value.value).removeprefix("run.") in _KNOBS


def _is_spelled(name: ast.expr) -> bool:
    return isinstance(name, ast.BinOp | ast.Call)
