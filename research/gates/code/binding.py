"""Rules on what is bound, assigned, deleted and looped into: nothing that other code uses may change its meaning."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from research.gates.code import allowed, compiling
from research.gates.code.flows import names_bound
from research.gates.code.naming import is_odd_dunder, is_own, said
from research.gates.code.source import Sighting, Source


def sightings(source: Source) -> Iterator[Sighting]:
    for node in source.nodes:
        yield from _rebound(source, node)
        if isinstance(node, ast.Attribute | ast.Name):
            yield from _stored(source, node)


_METHODS = frozenset("forward backward step save report begin steps batches apply raw_logits".split())
# What torch and the scorer call on a model or an optimizer.
_TORCHS = frozenset(
    "state_dict load_state_dict parameters named_parameters buffers named_buffers modules named_modules children "
    "named_children zero_grad eval train register_buffer register_parameter add_module get_parameter get_buffer "
    "requires_grad_ to cpu cuda float half bfloat16 double compile add_param_group".split()
)


def _is_method(source: Source, node: ast.Attribute) -> bool:
    """Whether it is a known method's name: on self only where the class defines it or has a base.

    An optimizer of its own may count in ``self.step``.
    """
    if node.attr in _TORCHS and not is_own(node.value):
        return True
    if node.attr not in _METHODS | _TORCHS or not is_own(node.value):
        return node.attr in _METHODS
    around = next((n for n in source.above(node) if isinstance(n, ast.ClassDef)), None)
    defined = {n.name for n in around.body if isinstance(n, ast.FunctionDef)} if around else set[str]()
    return around is None or bool(around.bases) or node.attr in defined


def _stored(source: Source, node: ast.Attribute | ast.Name) -> Iterator[Sighting]:
    """Sightings in an assignment to, or deletion of, an attribute or item of an object that is not the code's own."""
    parent = source.parents.get(node)
    is_item = isinstance(parent, ast.Subscript) and parent.value is node and not isinstance(parent.ctx, ast.Load)
    if not is_item and (isinstance(node.ctx, ast.Load) or isinstance(node, ast.Name)):
        return
    root = _root(node)
    if isinstance(node, ast.Attribute) and compiling.is_setting(source, node):
        yield Sighting("warn", "compile", node, said(node), compiling.FOR_ALL)
    elif severity := _patches(source, root, node):
        sentence = "It changes an object that other code uses; write a function or a class of your own."
        yield Sighting(severity, "monkey-patch", node, said(parent if is_item and parent else node), sentence)
    elif isinstance(node, ast.Attribute) and not is_item and _is_method(source, node):
        yield Sighting(
            "block", "monkey-patch", node, said(node), f"It replaces the method {node.attr}; define it in a class."
        )


def _root(node: ast.AST) -> ast.AST:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                return node
            node = node.func
        else:
            node = node.value
    return node


def _patches(source: Source, root: ast.AST, node: ast.AST) -> str | None:
    if isinstance(root, ast.Call) and isinstance(root.func, ast.Name):
        return "block" if root.func.id in ("type", "super", "getattr", "vars") else None
    if not isinstance(root, ast.Name):
        return None
    if root.id == "run":
        return "block"
    if source.is_local(root.id, root):
        return None
    if root.id in source.own or root.id in source.imports or source.dotted(root):
        is_switch = any(d.startswith("torch.backends.") for d in source.dotted(node))
        return "warn" if is_switch else "block"
    return None


def _rebound(source: Source, node: ast.AST) -> Iterator[Sighting]:
    """Sightings of known names that are bound again, by any statement that binds."""
    for name in names_bound(node):
        if source.is_the_files(name, node) and _means_something(source, name, node):
            sentence = f"{name} would mean something else than a reader expects; take another name."
            yield Sighting("block", "rebound", node, name, sentence)


def _means_something(source: Source, name: str, node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return name in source.own or _is_reserved(name)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        is_around = isinstance(source.parents.get(node), ast.Module | ast.ClassDef)  # ``shaping`` has its word on these
        return not is_around  # by ``global``, from inside a function
    return name in source.imports or _is_reserved(name)


def _is_reserved(name: str) -> bool:
    return name in allowed.REFUSED_BUILTINS or name in ("getattr", "setattr", "hasattr") or is_odd_dunder(name)
