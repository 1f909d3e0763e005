"""Fields of dataclasses behind a parser: HfArgumentParser, tyro, simple-parsing, draccus, OmegaConf."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace

from gpu_runner.adopt import files
from gpu_runner.adopt.syntax import assigned, calls, is_dataclass, keyword, literal, name_of
from gpu_runner.adopt.tree import Tree
from gpu_runner.adopt.values import MAX_CHOICES, Setting, Type, type_of
from gpu_runner.adopt.ways import Way

MAX_NESTED = 3
MAX_FIELDS = 400
# The function that reads a command line into dataclasses, and how it spells an option of it.
PARSERS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "HfArgumentParser": ("flat", ("--{key}", "{value}"), "python"),
    "TrlParser": ("flat", ("--{key}", "{value}"), "python"),
    "cli": ("nested", ("--{key}", "{value}"), "python"),  # tyro.cli
    "parse": ("nested", ("--{key}", "{value}"), "python"),  # simple_parsing.parse, draccus.parse
    "wrap": ("nested", ("--{key}={value}",), "python"),  # draccus.wrap, pyrallis.wrap
    "structured": ("nested", ("{key}={value}",), "lower"),  # OmegaConf.structured, merged with from_cli
    "add_arguments": ("flat", ("--{key}", "{value}"), "python"),  # simple_parsing
}
MODULES = {"cli": "tyro", "parse": "simple_parsing|draccus|pyrallis", "wrap": "draccus|pyrallis",
           "structured": "omegaconf", "add_arguments": "simple_parsing"}  # fmt: skip
# Of transformers' TrainingArguments, which a script takes and does not define. Their defaults, as of version 4.
TRANSFORMERS = "per_device_train_batch_size"  # shows that they are there
OF_TRANSFORMERS: tuple[tuple[str, int | float, str], ...] = (
    ("learning_rate", 5e-5, "Peak learning rate of AdamW."),
    ("weight_decay", 0.0, "Weight decay."),
    ("adam_beta1", 0.9, "AdamW's first beta."),
    ("adam_beta2", 0.999, "AdamW's second beta."),
    ("max_grad_norm", 1.0, "Largest norm of the gradient."),
    ("warmup_steps", 0, "Steps of warm-up."),
    ("per_device_train_batch_size", 8, "Rows of a step on each device."),
    ("gradient_accumulation_steps", 1, "Steps whose gradients are added."),
)
TOLD_TO_TRANSFORMERS: tuple[tuple[str, Type], ...] = (
    ("seed", "int"), ("max_steps", "int"), ("output_dir", "text"))  # fmt: skip


def found(tree: Tree, paths: list[str]) -> Iterator[Way]:
    for path in paths:
        module, text = tree.module(path), tree.text(path)
        for call in calls(module, *PARSERS):
            ending = name_of(call.func).rpartition(".")[2]
            if ending in MODULES and not re.search(MODULES[ending], text):
                continue
            shape, pattern, booleans = PARSERS[ending]
            settings: list[Setting] = []
            for name in _classes(call):
                settings += _of_class(tree, paths, name, "", 0 if shape == "nested" else MAX_NESTED)
                if name.endswith("TrainingArguments") and not any(s.name == TRANSFORMERS for s in settings):
                    settings += _of_transformers(path, call.lineno)
            if settings:
                what = f"dataclasses behind {name_of(call.func)} in {path}"
                kept = tuple({setting.name: setting for setting in settings[:MAX_FIELDS]}.values())
                yield _over_a_file(
                    tree, path, Way(what=what, travel="arguments", settings=kept, pattern=pattern, booleans=booleans)
                )


def _over_a_file(tree: Tree, path: str, way: Way) -> Way:
    """OmegaConf's usual three: dataclasses, a file that is named on the command line, and overrides."""
    file = files.default_file(tree, path) if files.NAMED_IN_CODE.search(tree.text(path)) else None
    if file is None or "omegaconf" not in tree.text(path).lower():
        return way
    over = {setting.name: setting for setting in files.settings_of(tree, file)}
    settings = [over[s.name] if s.name in over and over[s.name].type == s.type else s for s in way.settings]
    unsure = f"{file} is one of several files of settings; name the one that you mean"
    return replace(way, settings=tuple(settings), before=(f"config={file}",), unsure=unsure)


def _classes(call: ast.Call) -> list[str]:
    """The names of classes in a parser's arguments: alone, in a tuple, or made, as in ``structured(TrainArgs())``."""
    nodes = [inner for node in call.args for inner in (node.elts if isinstance(node, ast.Tuple | ast.List) else [node])]
    names = [name_of(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2] for node in nodes]
    return [name for name in names if name[:1].isupper()]


def of_class(tree: Tree, paths: list[str], name: str) -> list[Setting]:
    """The fields of a dataclass, wherever among ``paths`` it stands; empty where it is none."""
    return _of_class(tree, paths, name.rpartition(".")[2], "", MAX_NESTED)


def _of_class(tree: Tree, paths: list[str], name: str, within: str, depth: int) -> list[Setting]:
    node, path = _class(tree, paths, name)
    if node is None:
        return []
    settings: list[Setting] = []
    for base in (name_of(base).rpartition(".")[2] for base in node.bases):
        if base != name and depth <= MAX_NESTED:
            settings += _of_class(tree, paths, base, within, depth + 1)
        elif base == "TrainingArguments":  # transformers', under its own name
            settings += _of_transformers(path, node.lineno)
    for statement in node.body:
        inner = _nested_class(statement)
        if inner and depth < MAX_NESTED and (deeper := _of_class(tree, paths, inner, "", depth + 1)):
            assert isinstance(statement, ast.AnnAssign)
            settings += [replace(s, name=f"{name_of(statement.target)}.{s.name}") for s in deeper]
        elif (setting := _field(tree, statement, path)) is not None:
            settings.append(setting)
    return [replace(s, name=f"{within}{s.name}") for s in settings][:MAX_FIELDS]


def _class(tree: Tree, paths: list[str], name: str) -> tuple[ast.ClassDef | None, str]:
    for path in paths:
        module = tree.module(path)
        for node in module.body if module else ():
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node, path
    return None, ""


def _nested_class(statement: ast.stmt) -> str:
    if not isinstance(statement, ast.AnnAssign):
        return ""
    name = name_of(statement.annotation).rpartition(".")[2]
    return name if name[:1].isupper() and name not in ("Path", "Any") else ""


def _field(tree: Tree, statement: ast.stmt, path: str) -> Setting | None:
    if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
        return None
    default, said = statement.value, ""
    if isinstance(default, ast.Call) and name_of(default.func).rpartition(".")[2] in ("field", "Field", "arg"):
        said = _help(default)
        default = keyword(default, "default") or (default.args[0] if default.args else None)
    value = literal(default)
    choices = _choices(statement.annotation)
    kind = "choice" if choices else _declared(statement.annotation) or type_of(value)
    if kind is None:
        return None
    return Setting(
        name=statement.target.id,
        value=float(value) if kind == "float" and type_of(value) == "int" and value is not None else value,
        type=kind,
        path=path,
        line=statement.lineno,
        help=said or remark(tree, path, statement),
        choices=choices,
    )


def _help(call: ast.Call) -> str:
    said = literal(keyword(call, "help"))
    metadata = keyword(call, "metadata")
    if isinstance(metadata, ast.Dict):
        pairs = zip(metadata.keys, metadata.values, strict=True)
        said = next((literal(value) for key, value in pairs if literal(key) == "help"), said)
    return said if isinstance(said, str) else ""


def _declared(node: ast.expr) -> Type | None:
    """The type of an annotation such as ``int``, ``Optional[float]`` or ``str | None``."""
    names = [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    kinds: dict[str, Type] = {"bool": "bool", "int": "int", "float": "float", "str": "text", "Path": "text"}
    known = [kinds[name] for name in names if name in kinds]
    plain = {"Optional", "Union", "None", *kinds}
    return known[0] if known and set(names) <= plain and len(set(known)) == 1 else None


def _choices(node: ast.expr) -> tuple[str, ...]:
    if not isinstance(node, ast.Subscript) or name_of(node.value).rpartition(".")[2] != "Literal":
        return ()
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    values = [literal(item) for item in items[:MAX_CHOICES]]
    return tuple(v for v in values if isinstance(v, str)) if all(isinstance(v, str) for v in values) else ()


def remark(tree: Tree, path: str, statement: ast.stmt) -> str:
    """The comment behind an assignment; it stands behind the last character of its value."""
    lines = tree.text(path).splitlines()
    number, column = statement.end_lineno or 0, statement.end_col_offset or 0
    if not 0 < number <= len(lines):
        return ""
    behind = lines[number - 1].encode()[column:].decode(errors="replace").strip()
    return behind.lstrip("# ") if behind.startswith("#") else ""


def _of_transformers(path: str, line: int) -> Iterator[Setting]:
    unsure = "a field of transformers' own TrainingArguments, with the default of its version 4"
    for name, value, said in OF_TRANSFORMERS:
        kind = type_of(value)
        assert kind is not None
        yield Setting(name=name, value=value, type=kind, path=path, line=line, help=said, unsure=unsure)
    for name, told in TOLD_TO_TRANSFORMERS:
        yield Setting(name=name, value=None, type=told, path=path, line=line)


def instantiated_plainly(module: ast.Module, name: str) -> bool:
    """Whether a class is made somewhere, and everywhere without arguments: then its defaults are what is used."""
    made = list(calls(module, name))
    return bool(made) and not any(call.args or call.keywords for call in made)


def plain_classes(module: ast.Module) -> Iterator[ast.ClassDef]:
    """The classes at a module's head whose fields are its settings."""
    for node in module.body:
        if not isinstance(node, ast.ClassDef) or not instantiated_plainly(module, node.name):
            continue
        if is_dataclass(node) or all(assigned(s) for s in node.body if not isinstance(s, ast.Expr)):
            yield node
