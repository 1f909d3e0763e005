"""Rules on names: which modules are imported, and which builtins and attributes are used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

from research.gates.code import allowed, compiling
from research.gates.code.leads import is_module, objection
from research.gates.code.source import Sighting, Source

INSTEAD = "Calculate with torch and what `run` gives; the sandbox would stop it in any case."


def sightings(source: Source) -> Iterator[Sighting]:
    for node in source.of_kind(ast.Import, ast.ImportFrom, ast.Attribute, ast.Name, ast.MatchClass):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(source, node)
        elif isinstance(node, ast.Attribute):
            yield from attribute_name(source, node, node.attr, node.value)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield from _name(source, node)
        elif isinstance(node, ast.MatchClass):
            for name in node.kwd_attrs:
                yield from attribute_name(source, node, name, None)
        if isinstance(node, ast.Attribute | ast.Name):
            yield from _chain(source, node)


def said(node: ast.AST) -> str:
    return ast.unparse(node)


def _imports(source: Source, node: ast.Import | ast.ImportFrom) -> Iterator[Sighting]:
    if isinstance(node, ast.Import):
        wanted = [(name.name, name.name) for name in node.names]
    elif node.level or any(name.name == "*" for name in node.names):
        sentence = "Import by full name, and name what you import: a reader has to see where a name comes from."
        yield Sighting("block", "import", node, said(node), sentence)
        return
    else:
        wanted = [(f"{node.module}.{name.name}", f"{node.module}") for name in node.names]
    for dotted, module in wanted:
        if compiling.is_only_set(source, node, dotted):
            yield Sighting("warn", "compile", node, dotted, compiling.FOR_ALL)
        elif found := objection(dotted, source.siblings) or _unknown(module, source):
            severity, why = found
            yield Sighting(severity, "import", node, dotted, f"It imports {dotted}: {why}. {way_out(severity)}")


def _unknown(module: str, source: Source) -> tuple[str, str] | None:
    if is_module(module, source.siblings):
        return None
    return "block", f"{module} is not among the modules that edited code may use"


def as_sentence(why: str, severity: str) -> str:
    """``why`` as a sentence; a dotted name at its beginning is not capitalised: ``torch.load reads files.``"""
    is_a_name = "." in why.split()[0]
    return f"{why if is_a_name else why[0].upper() + why[1:]}. {way_out(severity)}"


def way_out(severity: str) -> str:
    return INSTEAD if severity == "block" else "Look at whether that is meant."


# --- chains: torch.nn.functional.relu ------------------------------------------------------------


def _chain(source: Source, node: ast.Attribute | ast.Name) -> Iterator[Sighting]:
    """Sightings in a whole chain of attributes; one that ends at a module hands it on, where it cannot be followed."""
    parent = source.parents.get(node)
    if isinstance(parent, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return
    for dotted in sorted(source.dotted(node)):
        if found := objection(dotted, source.siblings):
            severity, why = found
            yield Sighting(severity, "name", node, dotted, as_sentence(why, severity))
        elif is_module(dotted, source.siblings) and not _may_stand_alone(source, node, parent):
            sentence = (
                f"It hands the module {dotted} on as a value, where its use cannot be followed; name what you use."
            )
            yield Sighting("block", "module-as-value", node, said(node), sentence)


def _may_stand_alone(source: Source, node: ast.AST, parent: ast.AST | None) -> bool:
    """Whether a module may stand here as a value: compared with None, given another name, or asked by getattr.

    A name in a class body does not count as another name: it is read through the class, or by an enum's members.
    """
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name):
        return parent.func.id in ("getattr", "hasattr") and parent.args[:1] == [node]
    if isinstance(parent, ast.Assign):
        is_a_class = isinstance(source.parents.get(parent), ast.ClassDef)
        return not is_a_class and all(isinstance(target, ast.Name) for target in parent.targets)
    return isinstance(parent, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in parent.ops)


# --- single names ------------------------------------------------------------------------------


def _name(source: Source, node: ast.Name) -> Iterator[Sighting]:
    name = node.id
    if source.is_local(name, node) or name in source.imports:
        return
    if name in allowed.SILENT_EXITS:
        yield Sighting("block", "exit", node, name, f"{name} would end or outlive the run past the harness. {INSTEAD}")
    elif name in allowed.REFUSED_BUILTINS or name in allowed.MODULE_NAMES or is_odd_dunder(name):
        yield Sighting("block", "builtin", node, name, f"{name} reaches beyond calculating. {INSTEAD}")
    elif name in ("getattr", "setattr", "hasattr") and not _is_called(source, node):
        sentence = f"{name} is handed on as a value, where its use cannot be followed; call it, or name the attribute."
        yield Sighting("block", "builtin", node, name, sentence)
    elif name == "type" and not _reads_as_a_type(source, node):
        sentence = "type is handed on as a value, where it can make classes that nobody reads; write the class out."
        yield Sighting("block", "class", node, name, sentence)
    elif name in allowed.WARNED_BUILTINS:
        yield Sighting(
            "warn", "builtin", node, said(source.parents[node])[:200], f"{name}: {allowed.WARNED_BUILTINS[name]}."
        )


def _reads_as_a_type(source: Source, node: ast.AST) -> bool:
    """Whether ``type`` is called, subscripted, an annotation, or tested for (``isinstance(x, type)``)."""
    for inner, outer in pairwise([node, *source.above(node)]):
        if isinstance(outer, ast.Call):
            return outer.func is inner or getattr(outer.func, "id", "") in ("isinstance", "issubclass")
        if isinstance(outer, ast.arg | ast.Compare) or inner in (
            getattr(outer, "annotation", None),
            getattr(outer, "returns", None),
            outer.value if isinstance(outer, ast.Subscript) else None,
        ):
            return True
        if isinstance(outer, ast.stmt):
            return isinstance(outer, ast.ClassDef)  # as a base it has a rule of its own
    return False


def is_odd_dunder(name: str) -> bool:
    """Whether a dunder name is not one with which classes are written, such as ``__slots__`` and ``__radd__``."""
    return name.startswith("__") and name not in allowed.DUNDERS


def _is_called(source: Source, node: ast.AST) -> bool:
    parent = source.parents.get(node)
    return isinstance(parent, ast.Call) and parent.func is node


# --- attributes --------------------------------------------------------------------------------

_SELF = ("self", "cls", "ctx")


def attribute_name(source: Source, node: ast.AST, name: str, of: ast.AST | None) -> Iterator[Sighting]:
    if why := _refused(source, node, name, of):
        yield Sighting(
            "block", "attribute", node, f".{name} of {said(of) if of else 'a pattern'}", f".{name} {why}. {INSTEAD}"
        )
    elif name in allowed.WARNED_ATTRIBUTES and not _is_plain(source, node, name, of):
        yield Sighting("warn", "attribute", node, said(node), f".{name}: {allowed.WARNED_ATTRIBUTES[name]}.")
    elif name == "format":
        yield from _formats(node, of)


def _is_plain(source: Source, node: ast.AST, name: str, of: ast.AST | None) -> bool:
    """Whether a warned attribute is plainly meant: run.seed, or a chain of an import, which has a rule of its own."""
    if name == "seed" and isinstance(of, ast.Name):
        return of.id == "run"
    return of is not None and bool(source.dotted(of))


def _formats(node: ast.AST, of: ast.AST | None) -> Iterator[Sighting]:
    """A sighting of ``format`` on a computed text, which can reach into arguments. ``wording`` reads literals."""
    if of is None or isinstance(of, ast.Constant):
        return
    severity = "block" if isinstance(of, ast.BinOp | ast.JoinedStr | ast.Call) else "warn"
    sentence = "format() of a text that is put together reaches into what it is given; use an f-string."
    yield Sighting(severity, "format", node, said(node), sentence)


def _refused(source: Source, node: ast.AST, name: str, of: ast.AST | None) -> str | None:
    if name.startswith("__"):
        return None if _is_common_dunder(source, node, name) else "is Python's inside"
    if name in allowed.REFUSED_ATTRIBUTES:
        return None if is_own(of) and source.knows(name) else "reaches beyond calculating"
    if not name.startswith("_") or name in allowed.PUBLIC_PRIVATE or (of is not None and source.dotted(of)):
        return None
    if is_own(of):
        return "is torch's own book-keeping of a module" if name in allowed.MODULE_STATE else None
    return None if source.knows(name) else "is private to other code"


def is_own(of: ast.AST | None) -> bool:
    if isinstance(of, ast.Call) and isinstance(of.func, ast.Name):
        return of.func.id == "super"
    return isinstance(of, ast.Name) and of.id in _SELF


def _is_common_dunder(source: Source, node: ast.AST, name: str) -> bool:
    parent = source.parents.get(node)
    names_class = name == "__class__" and isinstance(parent, ast.Attribute) and parent.attr == "__name__"
    return names_class or name in allowed.DUNDERS or _fills_frozen(source, node, name)


def _fills_frozen(source: Source, node: ast.AST, name: str) -> bool:
    """Whether it is ``object.__setattr__(self, "x", ...)`` in ``__post_init__``, as frozen dataclasses need."""
    call = source.parents.get(node)
    if name != "__setattr__" or not isinstance(call, ast.Call) or source.method(node) != "__post_init__":
        return False
    is_object = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "object"
    plain = len(call.args) == 3 and is_own(call.args[0]) and isinstance(call.args[1], ast.Constant)
    return is_object and plain
