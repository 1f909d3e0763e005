"""Rules on compiling: settings that only make code faster pass with a warning; others can name programs and folders."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from research.gates.code import allowed
from research.gates.code.arguments import keywords
from research.gates.code.flows import flows, names_bound
from research.gates.code.source import Sighting, Source

FOR_ALL = "It changes how everything in the process is compiled, the scored model too; look at whether that is meant."
WRITTEN_OUT = "Options of the compiler can name programs and folders; write out those that only make code faster."
BACKENDS = frozenset({"inductor", "eager", "aot_eager", "cudagraphs"})
_VALUE = re.compile(r"[A-Za-z0-9_,]{1,40}")


# --- torch.compile(...) ----------------------------------------------------------------------------


def call(source: Source, node: ast.Call) -> Iterator[Sighting]:
    compiles = any(d.split(".")[-1] == "compile" for d in source.dotted(node.func))
    for name, value in keywords(node):
        given = f"{name}={ast.unparse(value)}"
        if name == "backend" and not (isinstance(value, ast.Constant) and value.value in BACKENDS):
            sentence = f"backend= lets other code in; of torch's own there are {', '.join(sorted(BACKENDS))}."
            yield Sighting("block", "argument", node, given, sentence)
        elif name == "options" and not _only_makes_faster(source, value):
            yield Sighting("block", "argument", node, given, WRITTEN_OUT)
        elif name is None and compiles:
            sentence = "Arguments of the compiler that stand elsewhere cannot be read here; write them out."
            yield Sighting("warn", "argument", node, ast.unparse(node), sentence)


def _only_makes_faster(source: Source, value: ast.expr) -> bool:
    written = _written_once(source, value) if isinstance(value, ast.Name) else value
    return isinstance(written, ast.Dict) and all(
        isinstance(key, ast.Constant) and allowed.COMPILE_OPTIONS.fullmatch(str(key.value)) and _is_plain(given)
        for key, given in zip(written.keys, written.values, strict=True)
    )


def _is_plain(value: ast.expr) -> bool:
    if not isinstance(value, ast.Constant):
        return False
    return not isinstance(value.value, str | bytes) or bool(_VALUE.fullmatch(str(value.value)))


def _written_once(source: Source, name: ast.Name) -> ast.expr | None:
    """The value of a variable that is bound once in the file and is used only for ``options``; else None."""
    bound = [node for node in source.nodes if name.id in names_bound(node)]
    uses = [n for n in source.nodes if isinstance(n, ast.Name) and n.id == name.id and isinstance(n.ctx, ast.Load)]
    values = [value for node in source.nodes for target, value in flows(node) if target == name.id]
    if len(bound) != 1 or len(values) != 1:
        return None
    is_only_given = all(isinstance(parent := source.parents[n], ast.keyword) and parent.arg == "options" for n in uses)
    return values[0] if is_only_given else None


# --- torch._inductor.config.... = ... --------------------------------------------------------------


def is_setting(source: Source, node: ast.Attribute) -> bool:
    """Whether it sets an allowed option to a plain value, as ``torch._inductor.config.max_autotune = True`` does."""
    parent = source.parents.get(node)
    is_assigned = isinstance(parent, ast.Assign) and parent.targets == [node] and _is_plain(parent.value)
    return is_assigned and bool(dotted := source.dotted(node)) and all(map(_is_option, dotted))


def _is_option(dotted: str) -> bool:
    for config, options in allowed.COMPILE_CONFIGS.items():
        if dotted.startswith(f"{config}."):
            return bool(options.fullmatch(dotted.removeprefix(f"{config}.")))
    return False


def is_only_set(source: Source, node: ast.Import | ast.ImportFrom, dotted: str) -> bool:
    """Whether an import of a compiler's config is used only to set such options."""
    if dotted not in allowed.COMPILE_CONFIGS:
        return False
    bound = next(iter(names_bound(node)))
    uses = [n for n in source.nodes if isinstance(n, ast.Name) and n.id == bound and isinstance(n.ctx, ast.Load)]
    if bound == "torch":  # ``import torch._inductor.config`` binds torch, which has other uses
        return any(isinstance(n, ast.Attribute) and is_setting(source, n) for n in source.nodes)
    mine = [_whole(source, n) for n in uses if not source.is_local(bound, n)]
    return (
        len(node.names) == 1
        and bool(mine)
        and all(isinstance(n, ast.Attribute) and is_setting(source, n) for n in mine)
    )


def _whole(source: Source, node: ast.AST) -> ast.AST:
    while isinstance(parent := source.parents.get(node), ast.Attribute):
        node = parent
    return node
