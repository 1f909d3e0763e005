"""Rules on the shape of code: classes, decorators, exceptions, memory between calls, looking ahead."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from research.gates.code import allowed
from research.gates.code.source import Sighting, Source

_SHAPES = (
    ast.ClassDef, ast.FunctionDef, ast.Lambda, ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith,
    ast.comprehension, ast.Assign, ast.AnnAssign, ast.Attribute, ast.Try, ast.TryStar, ast.Global, ast.Nonlocal,
    ast.Subscript, ast.Call, ast.If, ast.IfExp, ast.While,
)  # fmt: skip


def sightings(source: Source) -> Iterator[Sighting]:
    for node in source.of_kind(*_SHAPES):
        if isinstance(node, ast.ClassDef):
            yield from _class(source, node)
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            yield from _lasting_defaults(node)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from _decorators(node)
        if isinstance(node, ast.FunctionDef):
            yield from _definition(source, node)
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            sentence = "Training has no use for async code, which runs at a time that nobody reads; write it plainly."
            yield Sighting("block", "async", node, type(node).__name__, sentence)
        elif isinstance(node, ast.comprehension) and node.is_async:
            sentence = "Training has no use for async code, which runs at a time that nobody reads; write it plainly."
            yield Sighting("block", "async", node.target, "async for", sentence)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from _assigned_exit(source, node)
        elif isinstance(node, ast.Attribute) and node.attr == "push":
            yield from _pushed(source, node)
        elif isinstance(node, ast.Try | ast.TryStar):
            yield from _handlers(node)
            yield from _ends(node)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            sentence = "What it assigns lasts between calls; a model may remember nothing from one call to the next."
            yield Sighting("warn", "memory", node, ast.unparse(node), sentence)
        yield from _remembered(source, node)
        yield from _looks_ahead(source, node)


# --- classes and functions ---------------------------------------------------------------------


def _class(source: Source, node: ast.ClassDef) -> Iterator[Sighting]:
    if node.name in source.imports or node.name in allowed.REFUSED_BUILTINS:
        sentence = f"{node.name} would mean something else than a reader expects; take another name."
        yield Sighting("block", "rebound", node, f"class {node.name}", sentence)
    for keyword in node.keywords:
        is_total = keyword.arg == "total" and isinstance(keyword.value, ast.Constant)  # TypedDict's
        if not is_total and ast.unparse(keyword.value).split(".")[-1] != "ABCMeta":
            sentence = "A class with keywords runs code when it is made; leave them out."
            yield Sighting("block", "class", node, f"class {node.name}({keyword.arg}=...)", sentence)
    for base in node.bases:
        dotted = source.dotted(base)
        if dotted & {
            "torch.Tensor",
            "torch.nn.Parameter",
            "torch.nn.parameter.Parameter",
            "torch.Size",
            "torch.Generator",
        }:
            sentence = "A tensor class of its own can change what every operation does; use plain tensors."
            yield Sighting("block", "class", node, f"class {node.name}({ast.unparse(base)})", sentence)
        elif isinstance(base, ast.Name) and base.id in (
            "type",
            "str",
            "int",
            "float",
            "dict",
            "list",
            "tuple",
            "bytes",
        ):
            sentence = f"It changes what a plain {base.id} does; look at whether that is meant."
            yield Sighting(
                "block" if base.id == "type" else "warn", "class", node, f"class {node.name}({base.id})", sentence
            )
        elif not isinstance(base, ast.Name | ast.Attribute | ast.Subscript):
            sentence = "Its base class is computed, so nobody can read what it is; name the class."
            yield Sighting("block", "class", node, f"class {node.name}({ast.unparse(base)})", sentence)


def _definition(source: Source, node: ast.FunctionDef) -> Iterator[Sighting]:
    in_class = isinstance(source.parents.get(node), ast.ClassDef)
    if node.name.startswith("__") and node.name.endswith("__") and (not in_class or node.name not in allowed.DUNDERS):
        sentence = f"{node.name} is run by Python at times that nobody reads; write a plain method."
        yield Sighting("block", "dunder", node, f"def {node.name}", sentence)
    elif in_class and node.name == "__exit__":
        yield from _exit(node)
    elif in_class and _is_plain_class(source, source.parents[node]):
        return  # an average of weights may have its own state_dict, and a meter its own eval
    elif in_class and node.name in allowed.REFUSED_DEFINITIONS:
        sentence = f"{node.name} decides what is saved, loaded and hashed; leave torch's own in place."
        yield Sighting("block", "state", node, f"def {node.name}", sentence)
    elif in_class and node.name in ("eval", "train"):
        sentence = f"{node.name}() is what the scorer calls before it scores; nothing else should happen in it."
        yield Sighting("block", "state", node, f"def {node.name}", sentence)
    elif not in_class and node.name in allowed.REFUSED_BUILTINS | source.imports.keys() | {"getattr", "setattr"}:
        sentence = f"{node.name} would mean something else than a reader expects; take another name."
        yield Sighting("block", "rebound", node, f"def {node.name}", sentence)


def _is_plain_class(source: Source, node: ast.AST) -> bool:
    """Whether neither torch nor the scorer ever calls it: it has no base, is no base, and has no method of a model."""
    assert isinstance(node, ast.ClassDef)
    methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    return not node.bases and node.name not in source.bases and not methods & {"forward", "raw_logits", "__call__"}


def _decorators(node: ast.FunctionDef | ast.ClassDef) -> Iterator[Sighting]:
    for decorator in node.decorator_list:
        plain = decorator.func if isinstance(decorator, ast.Call) else decorator
        while isinstance(plain, ast.Attribute):
            plain = plain.value
        if not isinstance(plain, ast.Name):
            sentence = "The decorator is computed, so nobody can read what it does; name a function."
            yield Sighting("block", "decorator", decorator, ast.unparse(decorator), sentence)


def _lasting_defaults(node: ast.FunctionDef | ast.Lambda) -> Iterator[Sighting]:
    for default in [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]:
        if isinstance(default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp):
            sentence = "A list or dict as a default is remembered between calls; make it inside."
            yield Sighting("warn", "memory", default, ast.unparse(default), sentence)


_STOP = "It swallows everything, the order to stop included; let what is raised go on."


def _ends(node: ast.Try | ast.TryStar) -> Iterator[Sighting]:
    """A sighting of ``finally: return`` and the like, which drops the exception."""
    for leaving in (n for statement in node.finalbody for n in ast.walk(statement)):
        if isinstance(leaving, ast.Return | ast.Break | ast.Continue):
            yield Sighting("block", "swallow", leaving, f"finally: {ast.unparse(leaving)}", _STOP)


def _exit(node: ast.FunctionDef) -> Iterator[Sighting]:
    """A sighting of an ``__exit__`` that may return something true, which drops the exception."""
    for answer in ast.walk(node):
        if isinstance(answer, ast.Return) and answer.value and not _is_nothing(answer.value):
            yield Sighting("block", "swallow", answer, f"__exit__: {ast.unparse(answer)}", _STOP)


def _assigned_exit(source: Source, node: ast.Assign | ast.AnnAssign) -> Iterator[Sighting]:
    """A sighting of ``__exit__ = ...`` in a class, whose result cannot be seen there."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if any(isinstance(t, ast.Name) and t.id == "__exit__" for t in targets):
        sentence = "What __exit__ answers stands elsewhere, and it can swallow everything; define it in the class."
        yield Sighting("block", "swallow", node, ast.unparse(node), sentence)


def _pushed(source: Source, node: ast.Attribute) -> Iterator[Sighting]:
    """A sighting of ``ExitStack.push``, whose argument may drop an exception."""
    if any("contextlib.ExitStack" in dotted for dotted in source.imports.values()) or any(
        isinstance(n, ast.Attribute) and "contextlib.ExitStack" in source.dotted(n) for n in source.nodes
    ):
        sentence = "push() of an ExitStack takes functions that may swallow everything; use enter_context or callback."
        yield Sighting("block", "swallow", node, ast.unparse(node), sentence)


def _is_nothing(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in (None, False)


def _handlers(node: ast.Try | ast.TryStar) -> Iterator[Sighting]:
    for handler in node.handlers:
        caught = ast.unparse(handler.type) if handler.type else ""
        if not caught or "BaseException" in caught:
            sentence = "It catches everything, the order to stop included; name the exception that is meant."
            yield Sighting("block", "swallow", handler, f"except {caught}", sentence)
        elif "Exception" in _caught(handler.type):
            sentence = "It catches every error, so a fault would look like a result; name the exception that is meant."
            yield Sighting("warn", "swallow", handler, f"except {caught}", sentence)


def _caught(kind: ast.expr | None) -> set[str]:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind] if kind else []
    return {ast.unparse(one) for one in kinds}


# --- memory between calls ----------------------------------------------------------------------


def _remembered(source: Source, node: ast.AST) -> Iterator[Sighting]:
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(source.parents.get(node), ast.Module | ast.ClassDef):
        if _is_empty_container(node.value) or _is_counter(node.value):
            sentence = "It lasts between calls; a model may remember nothing from one call to the next."
            yield Sighting("warn", "memory", node, ast.unparse(node), sentence)
    elif (changed := _changed(node)) is not None and (what := _outlives_the_call(source, node, changed)):
        sentence = f"It changes {what}; a model may remember nothing from one call to the next."
        yield Sighting("warn", "memory", node, ast.unparse(node), sentence)


def _changed(node: ast.AST) -> ast.expr | None:
    """The object that an assignment to an attribute or item, or a call that works in place, changes."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
        return node.value
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name):
        return node.args[0] if node.func.id == "setattr" and node.args else None
    if not isinstance(node.func, ast.Attribute):
        return None
    name = node.func.attr
    inplace = name.endswith("_") and not name.endswith("__")
    return node.func.value if inplace or name in _CHANGING else None


_CHANGING = frozenset("append appendleft extend insert update add setdefault pop popleft register_buffer".split())


def _outlives_the_call(source: Source, node: ast.AST, changed: ast.expr) -> str | None:
    """What is changed and outlives the call: the model, outside of methods that make it; or a variable of the file."""
    root: ast.expr = changed
    while isinstance(root, ast.Attribute | ast.Subscript):
        root = root.value
    if not isinstance(root, ast.Name) or source.method(node) in _MAKING:
        return None
    if root.id == "self":
        return "the model" if _is_of_a_model(source, node) else None
    is_kept = root.id in source.kept and not source.is_local(root.id, root)
    return f"{root.id}, which lasts between calls" if is_kept and _is_in_function(source, node) else None


_MAKING = frozenset({"__init__", "__post_init__", "reset_parameters", "init_weights"})


def _is_in_function(source: Source, node: ast.AST) -> bool:
    return any(isinstance(n, ast.FunctionDef | ast.Lambda) for n in source.above(node))


def _is_of_a_model(source: Source, node: ast.AST) -> bool:
    """Whether it is in a method of a class with a forward(), one that ``__init__`` does not call."""
    around = next((n for n in source.above(node) if isinstance(n, ast.ClassDef)), None)
    methods = {n.name: n for n in around.body if isinstance(n, ast.FunctionDef)} if around else {}
    if "forward" not in methods:
        return False
    making = ast.unparse(methods["__init__"]) if "__init__" in methods else ""
    return f"self.{source.method(node)}(" not in making


def _is_empty_container(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).split(".")[-1] in (
            "dict",
            "list",
            "set",
            "deque",
            "defaultdict",
            "Counter",
            "count",
        )
    return (isinstance(value, ast.List | ast.Set) and not value.elts) or (
        isinstance(value, ast.Dict) and not value.keys
    )


def _is_counter(value: ast.expr | None) -> bool:
    return isinstance(value, ast.List) and len(value.elts) == 1 and isinstance(value.elts[0], ast.Constant)


# --- the future and the batch: warnings, as the scorer decides ------------------------------------

_AHEAD = "A token might see what comes after it, or another row; the scorer will tell."
_REDUCING = frozenset("mean sum amax amin max min std var norm logsumexp softmax median prod any all".split())
_ORDERING = frozenset("topk sort argsort unique kthvalue cumsum cumprod".split())


def _looks_ahead(source: Source, node: ast.AST) -> Iterator[Sighting]:
    method = source.method(node)
    if isinstance(node, ast.Call):
        if _is_bidirectional(source, node) or (method and method != "__init__" and _mixes(node)):
            yield Sighting("warn", "looks-ahead", node, ast.unparse(node), _AHEAD)
    elif isinstance(node, ast.Subscript) and method and method != "__init__":
        if _shifts_left(node) or _reverses(node):
            yield Sighting("warn", "looks-ahead", node, ast.unparse(node), _AHEAD)
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and method == "forward" and _asks_for_shape(node.test):
        sentence = "The model behaves otherwise for some shapes, which those of scoring may be; the scorer will tell."
        yield Sighting("warn", "by-shape", node, ast.unparse(node.test), sentence)


def _is_bidirectional(source: Source, node: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    is_attention = any(d.endswith("scaled_dot_product_attention") for d in source.dotted(node.func))
    masked = "attn_mask" in given or len(node.args) > 3 or _is_constant(given.get("is_causal"), True)
    is_convolution = ast.unparse(node.func).split(".")[-1].lower() in ("conv1d", "avg_pool1d", "max_pool1d", "unfold")
    padded = "padding" in given and not _is_constant(given["padding"], 0)
    return (
        (is_attention and not masked and "is_causal" not in given)
        or _is_constant(given.get("is_causal"), False)
        or _is_constant(given.get("bidirectional"), True)
        or _is_constant(given.get("causal"), False)
        or (is_convolution and padded)
    )


def _is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value == value and isinstance(node.value, type(value))


def _mixes(node: ast.Call) -> bool:
    """Whether it reduces or orders along rows (0) or tokens (1, -2), as x is [B, T, D] almost everywhere."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in _REDUCING | _ORDERING:
        return False
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if node.func.attr in _ORDERING:
        return (
            node.func.attr not in ("cumsum", "cumprod") and "stable" not in given and _axis(node, given) in (0, 1, -2)
        )
    return _axis(node, given) in (0, 1, -2)


def _axis(node: ast.Call, given: dict[str | None, ast.expr]) -> int | None:
    axis = given.get("dim", node.args[-1] if node.args else None)
    if axis is None:
        return 0  # over all of it
    try:
        value = ast.literal_eval(axis)
    except (ValueError, TypeError, RecursionError):
        return None
    return (
        value
        if isinstance(value, int)
        else next((v for v in value if v in (0, 1, -2)), None)
        if isinstance(value, tuple)
        else None
    )


def _shifts_left(node: ast.Subscript) -> bool:
    """Whether it is x[:, 1:], which moves each token's successor into its place."""
    if not isinstance(node.slice, ast.Tuple) or len(node.slice.elts) < 2 or not isinstance(node.ctx, ast.Load):
        return False
    second = node.slice.elts[1]
    if not isinstance(second, ast.Slice) or second.upper is not None or second.step is not None:
        return False
    return isinstance(second.lower, ast.Constant) and isinstance(second.lower.value, int) and second.lower.value > 0


def _reverses(node: ast.Subscript) -> bool:
    """Whether an index runs from the end, as arange(T - 1, -1, -1) does."""
    return any(isinstance(n, ast.Call) and ast.unparse(n).endswith(", -1, -1)") for n in ast.walk(node.slice))


def _asks_for_shape(test: ast.expr) -> bool:
    return any(
        isinstance(n, ast.Compare)
        and any(isinstance(c, ast.Constant) and isinstance(c.value, int) for c in n.comparators)
        and any(word in ast.unparse(n.left) for word in (".shape", ".size(", "len(", ".numel("))
        for n in ast.walk(test)
    )
