"""Defaults in files: a YAML or JSON file that the trainer reads, with overrides as ``key=value`` or ``--key=value``.

YAML is read line by line: names with plain values, and what they are indented below. Lists, anchors and the like are
left out; nobody's objects are made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from gpu_runner.adopt.tree import Tree
from gpu_runner.adopt.values import Setting, type_of
from gpu_runner.adopt.ways import Way

MAX_SETTINGS = 400
LINE = re.compile(r"( *)([A-Za-z_][A-Za-z0-9_-]{0,60}) *:(?: +(.*))?$")
NUMBER = re.compile(r"[+-]?(?:\d[\d_]*)?(?:\.\d*)?(?:[eE][+-]?\d{1,3})?")
# What shows that overrides are read from the command line, and how they are spelled.
TAKERS = (
    (re.compile(r"@hydra\.main|hydra\.initialize"), ("{key}={value}",), "hydra"),
    (re.compile(r"OmegaConf\.from_cli|\bom\.from_cli"), ("{key}={value}",), "OmegaConf"),
    (re.compile(r"OmegaConf\.from_dotlist|from_dotlist|om\.merge"), ("--{key}={value}",), "OmegaConf"),
)
AS_A_FILE = re.compile(r"[\"'](--config|--config[-_]file|--conf_file)[\"']")
NAMED_IN_CODE = re.compile(r"\b(?:cli_args|cli|args)\.config\b")


def found(tree: Tree, entry: str, paths: list[str]) -> Iterator[Way]:
    """A way where the trainer, or what it imports, reads such a file. The file is a guess, and marked so."""
    whole = "\n".join(tree.text(path) for path in paths)
    taker = next(((pattern, name) for taken, pattern, name in TAKERS if taken.search(whole)), None)
    file, option = default_file(tree, entry), AS_A_FILE.search(whole)
    if file is None:
        return
    unsure = f"{file} is one of several files of settings; name the one that you mean"
    if taker is not None:
        pattern, name = taker
        before = () if name == "hydra" else (f"config={file}",) if NAMED_IN_CODE.search(whole) else (file,)
        yield Way(what=f"{name} over {file}", travel="arguments", settings=tuple(settings_of(tree, file)),
                  pattern=pattern, booleans="lower", before=before, unsure=unsure)  # fmt: skip
    elif option is not None:
        said = f"{unsure}. Its numbers are set there, and none by an option: proposals edit that file"
        yield Way(what=f"the file {file}", travel="arguments", settings=(), before=(option[1], file), edited=file,
                  unsure=said)  # fmt: skip


def default_file(tree: Tree, entry: str) -> str | None:
    """The likeliest file: near the entry, small, and named as one that is a beginning."""
    beside = PurePosixPath(entry).parent.as_posix()
    files = [
        path
        for path in tree.ending(".yaml", ".yml", ".json")
        if re.search(r"conf", path.rpartition("/")[0] or path)
        and not re.search(r"(^|/)\.|test|docker|eval|slurm|sft|dpo|finetun", path)
    ]

    def rank(path: str) -> tuple[int, int, int, str]:
        name = path.rpartition("/")[2]
        is_first = re.search(r"(^|[/_.-])(default|debug|tiny|small|config|train|base)([/_.-])", path) is not None
        is_near = beside == "." or path.startswith(f"{beside}/")
        return (0 if is_near else 1, 0 if is_first else 1, path.count("/") + len(name) // 20, path)

    return min(files, key=rank, default=None)


def settings_of(tree: Tree, path: str) -> list[Setting]:
    text = tree.text(path)
    pairs = _of_json(text) if path.endswith(".json") else _of_yaml(text)
    found: dict[str, Setting] = {}
    for name, value, line, said in pairs:
        kind = type_of(value)
        if kind is not None and len(found) < MAX_SETTINGS:
            found[name] = Setting(name=name, value=value, type=kind, path=path, line=line, help=said)
    return list(found.values())


Pair = tuple[str, int | float | bool | str, int, str]


def _of_json(text: str) -> Iterator[Pair]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return
    lines = text.splitlines()

    def inside(table: object, within: str, depth: int) -> Iterator[Pair]:
        for name, value in table.items() if isinstance(table, dict) and depth < 4 else ():
            if isinstance(value, dict):
                yield from inside(value, f"{within}{name}.", depth + 1)
            elif isinstance(value, bool | int | float | str):
                line = next((n for n, said in enumerate(lines, start=1) if f'"{name}"' in said), 1)
                yield f"{within}{name}", value, line, ""

    yield from inside(whole, "", 0)


def _of_yaml(text: str) -> Iterator[Pair]:
    tables: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()[:5_000], start=1):
        if (found := LINE.match(line.rstrip())) is None:
            continue
        depth, name = len(found[1]), found[2]
        said, _, remark = (found[3] or "").partition(" #")
        while tables and tables[-1][0] >= depth:
            tables.pop()
        if not said.strip() or said.startswith("#"):
            tables.append((depth, name))
        elif (value := _value(said.strip())) is not None:
            yield ".".join((*(table for _, table in tables), name)), value, number, remark.strip()


def _value(said: str) -> int | float | bool | str | None:
    if said in ("true", "True", "false", "False"):
        return said in ("true", "True")
    if said[0] in "[{&*!|>" or said in ("null", "~", "None"):
        return None
    if NUMBER.fullmatch(said) and re.search(r"\d", said):
        return int(said.replace("_", "")) if re.fullmatch(r"[+-]?\d[\d_]*", said) else float(said.replace("_", ""))
    return said.strip("\"'")
