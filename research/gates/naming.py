"""Rules on names: what is imported, which builtins and attributes are used, and what is assigned to what."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from research.gates import allowed
from research.gates.source import Sighting, Source, is_module, objection

INSTEAD = "Calculate with torch and what `run` gives; the sandbox would stop it in any case."


def sightings(source: Source) -> Iterator[Sighting]:
    for node in source.nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imports(source, node)
        elif isinstance(node, ast.Attribute):
            yield from _attribute_name(source, node, node.attr, node.value)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield from _name(source, node)
        elif isinstance(node, ast.Call):
            yield from _call(source, node)
        elif isinstance(node, ast.MatchClass):
            for name in node.kwd_attrs:
                yield from _attribute_name(source, node, name, None)
        if isinstance(node, ast.Attribute | ast.Name):
            yield from _chain(source, node)
            yield from _stored(source, node)


def _said(node: ast.AST) -> str:
    return ast.unparse(node)


def _imports(source: Source, node: ast.Import | ast.ImportFrom) -> Iterator[Sighting]:
    if isinstance(node, ast.Import):
        wanted = [(name.name, name.name) for name in node.names]
    elif node.level or any(name.name == "*" for name in node.names):
        sentence = "Import by full name, and name what you import: a reader has to see where a name comes from."
        yield Sighting("block", "import", node, _said(node), sentence)
        return
    else:
        wanted = [(f"{node.module}.{name.name}", f"{node.module}") for name in node.names]
    for dotted, module in wanted:
        if found := objection(dotted, source.siblings) or _unknown(module, source):
            severity, why = found
            yield Sighting(severity, "import", node, dotted, f"It imports {dotted}: {why}. {_way_out(severity)}")


def _unknown(module: str, source: Source) -> tuple[str, str] | None:
    if is_module(module, source.siblings) or module.startswith(("torch.nn.", "torch.optim.")):
        return None
    return "block", f"{module} is not among the modules that edited code may use"


def _way_out(severity: str) -> str:
    return INSTEAD if severity == "block" else "Look at whether that is meant."


# --- chains: torch.nn.functional.relu ------------------------------------------------------------


def _chain(source: Source, node: ast.Attribute | ast.Name) -> Iterator[Sighting]:
    """The whole of a chain, once; where it ends at a module, that is handed on and nobody can follow it."""
    parent = source.parents.get(node)
    if isinstance(parent, ast.Attribute) or not isinstance(node.ctx, ast.Load):
        return
    for dotted in sorted(source.dotted(node)):
        if found := objection(dotted, source.siblings):
            severity, why = found
            yield Sighting(severity, "name", node, dotted, f"{why[0].upper()}{why[1:]}. {_way_out(severity)}")
        elif is_module(dotted, source.siblings) and not _may_stand_alone(node, parent):
            sentence = (
                f"It hands the module {dotted} on as a value, where its use cannot be followed; name what you use."
            )
            yield Sighting("block", "module-as-value", node, _said(node), sentence)


def _may_stand_alone(node: ast.AST, parent: ast.AST | None) -> bool:
    """Compared with None, given another name, or asked for an attribute by getattr, which has rules of its own."""
    if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name):
        return parent.func.id in ("getattr", "hasattr") and parent.args[:1] == [node]
    if isinstance(parent, ast.Assign):
        return all(isinstance(target, ast.Name) for target in parent.targets)
    return isinstance(parent, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in parent.ops)


# --- single names ------------------------------------------------------------------------------


def _name(source: Source, node: ast.Name) -> Iterator[Sighting]:
    name = node.id
    if source.is_local(name, node) or name in source.imports:
        return
    if name in allowed.SILENT_EXITS:
        yield Sighting("block", "exit", node, name, f"{name} would end or outlive the run past the harness. {INSTEAD}")
    elif name in allowed.REFUSED_BUILTINS or name in allowed.MODULE_NAMES or _is_odd_dunder(name):
        yield Sighting("block", "builtin", node, name, f"{name} reaches beyond calculating. {INSTEAD}")
    elif name in ("getattr", "setattr", "hasattr") and not _is_called(source, node):
        sentence = f"{name} is handed on as a value, where its use cannot be followed; call it, or name the attribute."
        yield Sighting("block", "builtin", node, name, sentence)
    elif name in allowed.WARNED_BUILTINS:
        yield Sighting(
            "warn", "builtin", node, _said(source.parents[node])[:200], f"{name}: {allowed.WARNED_BUILTINS[name]}."
        )


def _is_odd_dunder(name: str) -> bool:
    """``__slots__ = ...`` and ``__radd__ = __add__`` are how classes are written."""
    return name.startswith("__") and name not in allowed.DUNDERS


def _is_called(source: Source, node: ast.AST) -> bool:
    parent = source.parents.get(node)
    return isinstance(parent, ast.Call) and parent.func is node


# --- attributes --------------------------------------------------------------------------------

_SELF = ("self", "cls", "ctx")


def _attribute_name(source: Source, node: ast.AST, name: str, of: ast.AST | None) -> Iterator[Sighting]:
    if why := _refused(source, node, name, of):
        yield Sighting(
            "block", "attribute", node, f".{name} of {_said(of) if of else 'a pattern'}", f".{name} {why}. {INSTEAD}"
        )
    elif name in allowed.WARNED_ATTRIBUTES and not _is_plain(source, node, name, of):
        yield Sighting("warn", "attribute", node, _said(node), f".{name}: {allowed.WARNED_ATTRIBUTES[name]}.")
    elif name == "format":
        yield from _formats(node, of)


def _is_plain(source: Source, node: ast.AST, name: str, of: ast.AST | None) -> bool:
    """run.seed is what seeds are for; dropout and its kind ask self.training; a chain of an import has its own rule."""
    if name == "seed" and isinstance(of, ast.Name):
        return of.id == "run"
    return of is not None and bool(source.dotted(of))


def _formats(node: ast.AST, of: ast.AST | None) -> Iterator[Sighting]:
    """The braces of a text may reach into what it is given; ``wording`` reads those of a text that is written out."""
    if of is None or isinstance(of, ast.Constant):
        return
    severity = "block" if isinstance(of, ast.BinOp | ast.JoinedStr | ast.Call) else "warn"
    sentence = "format() of a text that is put together reaches into what it is given; use an f-string."
    yield Sighting(severity, "format", node, _said(node), sentence)


def _refused(source: Source, node: ast.AST, name: str, of: ast.AST | None) -> str | None:
    if name.startswith("__"):
        return None if _is_common_dunder(source, node, name) else "is Python's inside"
    if name in allowed.REFUSED_ATTRIBUTES:
        return None if _is_own(of) and source.knows(name) else "reaches beyond calculating"
    if not name.startswith("_") or name in allowed.PUBLIC_PRIVATE or (of is not None and source.dotted(of)):
        return None
    if _is_own(of):
        return "is torch's own book-keeping of a module" if name in allowed.MODULE_STATE else None
    return None if source.knows(name) else "is private to other code"


def _is_own(of: ast.AST | None) -> bool:
    if isinstance(of, ast.Call) and isinstance(of.func, ast.Name):
        return of.func.id == "super"
    return isinstance(of, ast.Name) and of.id in _SELF


def _is_common_dunder(source: Source, node: ast.AST, name: str) -> bool:
    parent = source.parents.get(node)
    names_class = name == "__class__" and isinstance(parent, ast.Attribute) and parent.attr == "__name__"
    return names_class or name in allowed.DUNDERS or _fills_frozen(source, node, name)


def _fills_frozen(source: Source, node: ast.AST, name: str) -> bool:
    """``object.__setattr__(self, "x", ...)`` in ``__post_init__``: how frozen dataclasses calculate a field."""
    call = source.parents.get(node)
    if name != "__setattr__" or not isinstance(call, ast.Call) or source.method(node) != "__post_init__":
        return False
    is_object = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "object"
    plain = len(call.args) == 3 and _is_own(call.args[0]) and isinstance(call.args[1], ast.Constant)
    return is_object and plain


# --- calls -------------------------------------------------------------------------------------


def _call(source: Source, node: ast.Call) -> Iterator[Sighting]:
    if isinstance(node.func, ast.Name) and not source.is_local(node.func.id, node):
        name = node.func.id
        if name in ("getattr", "setattr", "hasattr"):
            yield from _by_name(source, node, name)
        elif name == "type" and len(node.args) != 1:
            yield Sighting("block", "class", node, _said(node), "It makes a class while it runs; write the class out.")
    elif isinstance(node.func, ast.Call) and isinstance(node.func.func, ast.Name) and node.func.func.id == "type":
        yield Sighting("warn", "class", node, _said(node), "It makes an object of a computed class; name the class.")
    if source.dotted(node.func) & {"abc.ABCMeta", "enum.EnumMeta", "enum.EnumType"}:
        yield Sighting("block", "class", node, _said(node), "It makes a class while it runs; write the class out.")
    yield from _given(source, node)
    yield from _registered(source, node)


def _given(source: Source, node: ast.Call) -> Iterator[Sighting]:
    """Arguments by keyword, those in ``**{...}`` too."""
    for name, value in _keywords(node):
        if name in ("extern_libs", "backend", "map_location", "pickle_module", "metaclass"):
            sentence = f"{name}= lets other code or files in. {INSTEAD}"
            yield Sighting("block", "argument", node, f"{name}={_said(value)}", sentence)
        elif name == "file" and isinstance(node.func, ast.Name) and node.func.id == "print":
            sentence = f"print(file=...) writes elsewhere than to the log. {INSTEAD}"
            yield Sighting("block", "file", node, _said(node), sentence)
        elif name == "options" and not _only_makes_faster(value):
            sentence = (
                "Options of the compiler can name programs and folders; write out those that only make code faster."
            )
            yield Sighting("block", "argument", node, f"{name}={_said(value)}", sentence)
        elif name is None and any(d.endswith(".compile") for d in source.dotted(node.func)):
            sentence = "Arguments of the compiler that stand elsewhere cannot be read here; write them out."
            yield Sighting("warn", "argument", node, _said(node), sentence)


def _keywords(node: ast.Call) -> Iterator[tuple[str | None, ast.expr]]:
    for keyword in node.keywords:
        if keyword.arg is None and isinstance(keyword.value, ast.Dict):
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                yield (key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None), value
        else:
            yield keyword.arg, keyword.value


def _only_makes_faster(value: ast.expr) -> bool:
    return isinstance(value, ast.Dict) and all(
        isinstance(key, ast.Constant) and allowed.COMPILE_OPTIONS.fullmatch(str(key.value)) for key in value.keys
    )


def _registered(source: Source, node: ast.Call) -> Iterator[Sighting]:
    """torch.library.register_fake("aten::mm", ...): for an operation that everybody's code uses."""
    if not node.args or not any(d.startswith("torch.library.") for d in source.dotted(node.func)):
        return
    name = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
    if isinstance(name, str) and name.split("::")[0] in allowed.TORCH_NAMESPACES:
        sentence = f"It replaces a part of torch's own operation {name}; register it for one of the recipe's."
        yield Sighting("block", "monkey-patch", node, _said(node), sentence)


def _by_name(source: Source, node: ast.Call, function: str) -> Iterator[Sighting]:
    """An attribute by a name in text: as if it were written out; computed, only from a knob or on self."""
    if len(node.args) < 2 or any(isinstance(a, ast.Starred) for a in node.args):
        sentence = f"{function} without two plain arguments cannot be followed; name the attribute."
        yield Sighting("block", "computed-name", node, _said(node), sentence)
        return
    of, name = node.args[0], node.args[1]
    if isinstance(name, ast.Constant) and isinstance(name.value, str):
        yield from _written_out(source, node, of, name.value)
    else:
        severity = "warn" if _comes_from_a_knob(name) or (_is_own(of) and not _is_spelled(name)) else "block"
        sentence = f"{function} takes a computed name, so nobody can read what it reaches; name the attribute."
        yield Sighting(severity, "computed-name", node, _said(node), sentence)
    if function == "setattr" and not _is_own(of):
        sentence = "setattr changes an object from outside; assign to the attribute, so that its rules are seen."
        yield Sighting("block", "monkey-patch", node, _said(node), sentence)


def _written_out(source: Source, node: ast.Call, of: ast.expr, name: str) -> Iterator[Sighting]:
    yield from _attribute_name(source, node, name, of)
    for dotted in sorted(source.dotted(of)):
        if found := objection(f"{dotted}.{name}", source.siblings):
            severity, why = found
            yield Sighting(
                severity, "name", node, f"{dotted}.{name}", f"{why[0].upper()}{why[1:]}. {_way_out(severity)}"
            )


def _comes_from_a_knob(name: ast.expr) -> bool:
    """config["dtype"], k["activation"], run.dtype: values that recipe.toml or the machine bounds."""
    if isinstance(name, ast.Subscript):
        named = ast.unparse(name.value).removeprefix("self.")
        return isinstance(name.slice, ast.Constant) and named in ("config", "k", "knobs", "run.knobs")
    return isinstance(name, ast.Attribute) and ast.unparse(name) == "run.dtype"


def _is_spelled(name: ast.expr) -> bool:
    return isinstance(name, ast.BinOp | ast.Call)


# --- assignments -------------------------------------------------------------------------------

_METHODS = frozenset("forward backward step save report begin steps batches apply raw_logits".split())


def _is_method(source: Source, node: ast.Attribute) -> bool:
    """Of others, any of the known ones; on self, in a class that has one: an optimizer may count in ``self.step``."""
    if node.attr not in _METHODS or not _is_own(node.value):
        return node.attr in _METHODS
    around = next((n for n in source.above(node) if isinstance(n, ast.ClassDef)), None)
    defined = {n.name for n in around.body if isinstance(n, ast.FunctionDef)} if around else set[str]()
    return around is None or bool(around.bases) or node.attr in defined


def _stored(source: Source, node: ast.Attribute | ast.Name) -> Iterator[Sighting]:
    """What is assigned to, deleted or looped into: an attribute or an item of something that is not the code's own."""
    parent = source.parents.get(node)
    is_item = isinstance(parent, ast.Subscript) and parent.value is node and not isinstance(parent.ctx, ast.Load)
    if isinstance(node.ctx, ast.Load) and not is_item:
        return
    if isinstance(node, ast.Name) and not is_item:
        yield from _rebound(source, node)
        return
    root = _root(node)
    if severity := _patches(source, root, node):
        sentence = "It changes an object that other code uses; write a function or a class of your own."
        yield Sighting(severity, "monkey-patch", node, _said(parent if is_item and parent else node), sentence)
    elif isinstance(node, ast.Attribute) and not is_item and _is_method(source, node):
        yield Sighting(
            "block", "monkey-patch", node, _said(node), f"It replaces the method {node.attr}; define it in a class."
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


def _rebound(source: Source, node: ast.Name) -> Iterator[Sighting]:
    if any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) for n in source.above(node)):
        return
    if node.id in source.imports or _is_reserved(node.id):
        sentence = f"{node.id} would mean something else than a reader expects; take another name."
        yield Sighting("block", "rebound", node, node.id, sentence)


def _is_reserved(name: str) -> bool:
    return name in allowed.REFUSED_BUILTINS or name in ("getattr", "setattr", "hasattr") or _is_odd_dunder(name)
