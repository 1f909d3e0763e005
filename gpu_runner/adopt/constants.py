"""Constants: at the head of a script, in a class of settings there, and the globals of nanoGPT's configurator."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from gpu_runner.adopt.fields import plain_classes, remark
from gpu_runner.adopt.syntax import assigned, literal, texts
from gpu_runner.adopt.tree import Tree
from gpu_runner.adopt.values import Setting, type_of
from gpu_runner.adopt.ways import Way

CONFIGURATOR = re.compile(r"exec\(\s*open\(\s*[\"']([\w./-]{0,60}config\w{0,20}\.py)[\"']")


def found(tree: Tree, entry: str) -> Iterator[Way]:
    module = tree.module(entry)
    if module is None:
        return
    if (said := CONFIGURATOR.search(tree.text(entry))) is not None:
        line = tree.text(entry)[: said.start()].count("\n") + 1
        heads = [node for node in module.body if node.lineno < line]
        settings = tuple(_settings(tree, entry, heads, ""))
        yield Way(what=f"globals of {entry} before {said[1]}", travel="arguments", settings=settings)
        return
    settings = tuple(s for s in _settings(tree, entry, module.body, "") if _is_a_constant(s))
    for node in plain_classes(module):
        settings += tuple(_settings(tree, entry, node.body, f"{node.name}."))
    if settings:
        yield Way(what=f"constants at the head of {entry}", travel="constants", settings=settings, path=entry)


def _is_a_constant(setting: Setting) -> bool:
    """A name in capitals; of others only a number that is called as such numbers are."""
    return setting.name.isupper() or (setting.type in ("int", "float") and setting.is_learning)


def _settings(tree: Tree, path: str, body: list[ast.stmt], within: str) -> Iterator[Setting]:
    """Assignments of plain values, each name once: what is assigned again is no setting."""
    pairs = [(node, said) for node in body if (said := assigned(node)) is not None]
    times = Counter(name for _, (name, _, _) in pairs)
    for node, (name, expression, annotation) in pairs:
        value = literal(expression)
        kind = type_of(value) or ("text" if _holds_text(expression) else None)
        if kind is None or times[name] > 1 or name.startswith("_"):
            continue
        if isinstance(annotation, ast.Name) and annotation.id == "float" and type_of(value) == "int":
            kind, value = "float", float(value or 0)
        behind = remark(tree, path, node)
        yield Setting(name=f"{within}{name}", value=value, type=kind, path=path, line=node.lineno, help=behind)


def _holds_text(node: ast.expr) -> bool:
    return any(True for _ in texts(node))
