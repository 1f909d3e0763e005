"""Settings of a command line: argparse, click, and the parameters of a function behind fire or jsonargparse."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from gpu_runner.adopt import fields
from gpu_runner.adopt.syntax import calls, keyword, literal, name_of
from gpu_runner.adopt.tree import Tree
from gpu_runner.adopt.values import MAX_CHOICES, Setting, Type, type_of
from gpu_runner.adopt.ways import Way

OF_NAMES: dict[str, Type] = {"int": "int", "float": "float", "bool": "bool", "str": "text", "Path": "text"}
FLAGS = {"store_true": False, "store_false": True, "BooleanOptionalAction": False}


def found(tree: Tree, paths: list[str]) -> Iterator[Way]:
    """One way a file that declares options. Raises nothing: what cannot be read is left out."""
    for path in paths:
        module = tree.module(path)
        options = [s for call in calls(module, "add_argument", "option") if (s := _option(call, path)) is not None]
        if options:
            yield Way(what=f"options of {path}", travel="arguments", settings=_one_each(options), booleans="flag")
        if path == paths[0] and "__main__" not in tree.text(path):  # started by its package's own command line
            yield from _of_a_package(tree, paths, path)
        for call in calls(module, "Fire", "CLI", "auto_cli"):
            if (settings := _parameters(tree, paths, module, call, path)) and call.args:
                yield Way(what=f"parameters of {name_of(call.args[0])}() in {path}", travel="arguments",
                          settings=settings)  # fmt: skip


def _of_a_package(tree: Tree, paths: list[str], path: str) -> Iterator[Way]:
    module = tree.module(path)
    for node in module.body if module else ():
        if not isinstance(node, ast.FunctionDef) or node.name not in ("setup", "main", "train"):
            continue
        if settings := tuple(of_function(tree, paths, node, path)):
            yield Way(what=f"parameters of {node.name}() in {path}", travel="arguments", settings=settings)
            return


def _one_each(options: list[Setting]) -> tuple[Setting, ...]:
    """One setting a name: of options that several parsers have, the first."""
    by_name: dict[str, Setting] = {}
    for option in options:
        by_name.setdefault(option.name, option)
    return tuple(by_name.values())


def _option(call: ast.Call, path: str) -> Setting | None:
    names = [value for node in call.args if isinstance(value := literal(node), str)]
    long = next((name for name in names if name.startswith("--")), None)
    if long is None or not call.args:
        return None
    action, declared = keyword(call, "action"), name_of(keyword(call, "type")).rpartition(".")[2]
    how = literal(action) if isinstance(action, ast.Constant) else name_of(action).rpartition(".")[2]
    is_flag = how in FLAGS or literal(keyword(call, "is_flag")) is True
    value = literal(keyword(call, "default"))
    if is_flag and value is None:
        value = FLAGS.get(str(how), False)
    choices = _choices(keyword(call, "choices"))
    kind = _kind(declared, value, choices, is_flag)
    if kind is None:
        return None
    said = literal(keyword(call, "help"))
    unsure = "" if declared or is_flag or choices else "no type is declared; taken from its default"
    return Setting(
        name=long.partition("/")[0].lstrip("-"),
        value=float(value) if kind == "float" and type_of(value) == "int" and value is not None else value,
        type=kind,
        path=path,
        line=call.lineno,
        help=said if isinstance(said, str) else "",
        choices=choices,
        is_flag=is_flag and how != "BooleanOptionalAction" and how != "store_false",
        unsure="a flag that turns it off; True here leaves the flag out" if how == "store_false" else unsure,
    )


def _kind(declared: str, value: object, choices: tuple[str, ...], is_flag: bool) -> Type | None:
    if is_flag:
        return "bool"
    if choices:
        return "choice"
    kind = OF_NAMES.get(declared) or type_of(value)
    if kind == "int" and isinstance(value, float):
        return "float"
    if kind in ("int", "float") and value is not None and type_of(value) not in ("int", "float"):
        return "text"
    return kind or ("text" if value is None else None)


def _choices(node: ast.AST | None) -> tuple[str, ...]:
    if not isinstance(node, ast.List | ast.Tuple):
        return ()
    values = [literal(item) for item in node.elts[:MAX_CHOICES]]
    return tuple(value for value in values if isinstance(value, str)) if all(values) else ()


def _parameters(
    tree: Tree, paths: list[str], module: ast.Module | None, call: ast.Call, path: str
) -> tuple[Setting, ...]:
    """The parameters of the function that fire or jsonargparse is given, where it stands in the same file."""
    wanted = name_of(call.args[0]) if call.args else ""
    for node in ast.walk(module) if module else ():
        if isinstance(node, ast.FunctionDef) and node.name == wanted:
            return tuple(of_function(tree, paths, node, path))
    return ()


def of_function(tree: Tree, paths: list[str], node: ast.FunctionDef, path: str) -> Iterator[Setting]:
    """Its parameters that have a default; those that are dataclasses give their fields, with what the call sets."""
    arguments = node.args
    with_default = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = [*zip(with_default, arguments.defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults)]  # noqa: B905 - of one length
    for argument, default in pairs:
        value = literal(default)
        if (kind := type_of(value)) is not None:
            yield Setting(name=argument.arg, value=value, type=kind, path=path, line=argument.lineno)
        elif isinstance(default, ast.Call) and (inner := fields.of_class(tree, paths, name_of(default.func))):
            given = {word.arg: literal(word.value) for word in default.keywords}
            for setting in inner:
                value = given.get(setting.name, setting.value)
                kind = type_of(value) or setting.type
                yield replace(setting, name=f"{argument.arg}.{setting.name}", value=value, type=kind)
        elif name_of(argument.annotation).rpartition(".")[2] in ("Path", "str") or default is not None:
            yield Setting(name=argument.arg, value=None, type="text", path=path, line=argument.lineno)
