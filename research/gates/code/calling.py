"""Rules on calls: dangerous arguments, attributes by a name in text, and functions that change what others use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from research.gates.code import allowed, compiling
from research.gates.code.arguments import keywords
from research.gates.code.attributes import by_name
from research.gates.code.leads import leads_to_a_class
from research.gates.code.naming import INSTEAD, said
from research.gates.code.source import Sighting, Source


def sightings(source: Source) -> Iterator[Sighting]:
    for node in source.of_kind(ast.Call, ast.Attribute, ast.Name):
        if isinstance(node, ast.Call):
            yield from _call(source, node)
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            yield from _handed_on(source, node)


def _call(source: Source, node: ast.Call) -> Iterator[Sighting]:
    if isinstance(node.func, ast.Name) and not source.is_local(node.func.id, node):
        name = node.func.id
        if name in ("getattr", "setattr", "hasattr"):
            yield from by_name(source, node, name)
        elif name == "type" and len(node.args) != 1:
            yield Sighting("block", "class", node, said(node), "It makes a class while it runs; write the class out.")
    elif isinstance(node.func, ast.Call) and isinstance(node.func.func, ast.Name) and node.func.func.id == "type":
        yield Sighting("warn", "class", node, said(node), "It makes an object of a computed class; name the class.")
    if source.dotted(node.func) & {"abc.ABCMeta"}:
        yield Sighting("block", "class", node, said(node), "It makes a class while it runs; write the class out.")
    yield from _given(source, node)
    yield from compiling.call(source, node)
    yield from _special(source, node)


def _given(source: Source, node: ast.Call) -> Iterator[Sighting]:
    """Sightings in keyword arguments, those in ``**{...}`` too."""
    for name, value in keywords(node):
        given = f"{name}={said(value)}"
        if name in ("extern_libs", "ir_override", "map_location", "pickle_module", "metaclass"):
            yield Sighting("block", "argument", node, given, f"{name}= lets other code or files in. {INSTEAD}")
        elif name == "file" and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield Sighting(
                "block", "file", node, said(node), f"print(file=...) writes elsewhere than to the log. {INSTEAD}"
            )
        elif name == "timeout":
            sentence = "How long it waits is told by the clock, which a recipe has no use for; wait without a limit."
            yield Sighting("block", "clock", node, given, sentence)
        elif name == "dtype" and isinstance(value, ast.BinOp | ast.JoinedStr):
            sentence = "The type is spelled together, so nobody can read which one it is; write its name out."
            yield Sighting("block", "computed-name", node, given, sentence)


# --- functions that do more than calculate when they are given certain things ----------------------

_BY_NAME = re.compile(r"torch\.library\.(?:register_\w+|custom_op|triton_op)|functools\.(?:update_wrapper|wraps)")
# They change the class that they are given, and give it back: as decorators of a class that stands there they are seen.
_MARKING = frozenset(
    "functools.total_ordering dataclasses.dataclass enum.unique enum.verify "
    "typing.final typing.override typing.runtime_checkable typing.dataclass_transform "
    "typing_extensions.final typing_extensions.override typing_extensions.runtime_checkable "
    "typing_extensions.dataclass_transform typing_extensions.deprecated "
    "torch.compile torch.compiler.disable torch.compiler.compile torch.compiler.allow_in_graph torch._dynamo.disable "
    "torch.jit.unused torch.jit.ignore torch.jit.export".split()
)
_ENUMS = frozenset(f"enum.{name}" for name in "Enum IntEnum Flag IntFlag StrEnum ReprEnum".split())


def _handed_on(source: Source, node: ast.Attribute | ast.Name) -> Iterator[Sighting]:
    """A sighting where a function is passed as a value that must be seen together with its arguments."""
    parent = source.parents.get(node)
    if isinstance(parent, ast.Attribute) or (isinstance(parent, ast.Call) and parent.func is node):
        return
    if any(_BY_NAME.fullmatch(d) for d in source.meant(node)):
        sentence = f"{said(node)} is handed on as a value, where nobody sees what it is given; call it by its name."
        yield Sighting("block", "handed-on", node, said(node), sentence)


def _special(source: Source, node: ast.Call) -> Iterator[Sighting]:
    dotted = source.meant(node.func)
    if dotted & _ENUMS and (len(node.args) != 1 or node.keywords):
        sentence = "It makes a class while it runs, in whatever module it names; write the class out."
        yield Sighting("block", "class", node, said(node), sentence)
    if dotted & {"functools.update_wrapper", "functools.wraps"} and (
        len(node.args) > 1 + ("functools.update_wrapper" in dotted)
        or {name for name, _ in keywords(node)} - {"wrapped"}
    ):
        sentence = "It copies attributes by names in text from one thing to another; leave out which ones."
        yield Sighting("block", "monkey-patch", node, said(node), sentence)
    if dotted & {"functools.update_wrapper"} and not _is_own_function(source, node.args[:1]):
        sentence = "It changes an object that other code uses; give it a function of your own."
        yield Sighting("block", "monkey-patch", node, said(node), sentence)
    yield from _marked(source, node)
    if "contextlib.suppress" in dotted and any(said(error) == "Exception" for error in node.args):
        sentence = "It swallows every error, so a fault would look like a result; name the exception that is meant."
        yield Sighting("warn", "swallow", node, said(node), sentence)
    if any(_BY_NAME.fullmatch(d) and d.startswith("torch.library.") for d in dotted):
        yield from _registered(source, node)


def _marked(source: Source, node: ast.Call) -> Iterator[Sighting]:
    """A sighting where a decorator is called on a class that other code uses.

    ``dataclass(nn.Linear)`` and ``dataclass(eq=True)(nn.Linear)`` change it for all.
    """
    by = node.func.func if isinstance(node.func, ast.Call) else node.func
    if not source.meant(by) & _MARKING:
        return
    for given in (*node.args[:1], *(value for _, value in keywords(node))):
        leads = {dotted for dotted in source.meant(given) if leads_to_a_class(dotted, source.siblings)}
        if leads:
            sentence = f"It changes {min(leads)}, which other code uses; write a class of your own."
            yield Sighting("block", "monkey-patch", node, said(node), sentence)


def _is_own_function(source: Source, given: list[ast.expr]) -> bool:
    """Whether the argument is a function that the file defines."""
    if not given or not isinstance(given[0], ast.Name):
        return False
    name = given[0].id
    is_bound_again = name in source.imports or any(target == name for target, _, _ in source.flows)
    return name in source.own and not is_bound_again


def _registered(source: Source, node: ast.Call) -> Iterator[Sighting]:
    """A sighting where ``register_fake("aten::mm", ...)`` or the like names torch's own operation or a computed one."""
    given = dict(keywords(node))
    wanted = next(iter(node.args), None) or given.get("op") or given.get("name")
    if isinstance(wanted, ast.Constant) and isinstance(wanted.value, str):
        space, colons, _ = wanted.value.partition("::")
        if not colons or space in allowed.TORCH_NAMESPACES:
            sentence = (
                f"It replaces a part of torch's own operation {wanted.value}; register it for one of the recipe's."
            )
            yield Sighting("block", "monkey-patch", node, said(node), sentence)
    elif wanted is None or not _is_own_function(source, [wanted]):
        sentence = "Which operation it is for is computed, so it could be one of torch's own; write its name out."
        yield Sighting("block", "computed-name", node, said(node), sentence)
