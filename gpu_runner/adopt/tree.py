"""The files of a repository, read without running anything. Names and texts are hostile: capped, no link followed."""

from __future__ import annotations

import ast
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from gpu_runner.command.safely import opened
from gpu_runner.contract.plain import plain

MAX_FILES = 20_000  # looked at; what comes later is left out and said
MAX_DEPTH = 8
MAX_BYTES = 1 << 20  # of one file that is read
MAX_PARSED = 400  # Python files
MAX_NESTED = 250  # of parsed Python: what asks it recurses
MAX_PATH = 180
READ = (".py", ".md", ".rst", ".sh", ".txt", ".toml", ".yaml", ".yml", ".json")
SKIPPED = {".git", ".github", "node_modules", "__pycache__", ".venv", "venv", "build", "dist", ".eggs", "third_party"}


@dataclass
class Tree:
    """A folder's regular files by their POSIX paths. ``left_out`` says in words what was not looked at."""

    folder: Path
    paths: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)
    _modules: dict[str, ast.Module | None] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Tree:
        """List ``folder``. Raises ValueError where it is none."""
        if not folder.is_dir():
            raise ValueError(f"PATH: {folder} is no folder; give that of a repository, such as ./nanoGPT")
        tree = cls(folder)
        for path in _walk(folder, "", MAX_DEPTH):
            if len(tree.paths) == MAX_FILES:
                tree.left_out.append(f"more than {MAX_FILES:,} files: the rest was not looked at")
                break
            tree.paths.append(path)
        tree.paths.sort()
        return tree

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(self.paths)

    def ending(self, *ends: str) -> list[str]:
        return [path for path in self.paths if path.endswith(ends)]

    def text(self, path: str) -> str:
        """A file's text; empty where it is binary, too large or gone."""
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def _read(self, path: str) -> str:
        if not path.endswith(READ) or (fd := opened(self.folder, path)) is None:
            return ""
        with os.fdopen(fd, "rb") as file:
            body = file.read(MAX_BYTES + 1)
        if len(body) > MAX_BYTES:
            self.left_out.append(f"{path}: larger than {MAX_BYTES >> 20} MiB")
            return ""
        return body.decode(errors="replace")

    def module(self, path: str) -> ast.Module | None:
        """A file parsed; None where it is no Python, or too much was parsed already."""
        if path not in self._modules:
            if len(self._modules) >= MAX_PARSED:
                return None
            module = _parsed(self.text(path))
            if module is not None and _is_deep(module):
                self.left_out.append(f"{path}: nested deeper than {MAX_NESTED} levels")
                module = None
            self._modules[path] = module
        return self._modules[path]

    def line(self, path: str, number: int) -> str:
        """One line of a file, harmless and short, for a person to look at."""
        lines = self.text(path).splitlines()
        return plain(lines[number - 1]).strip()[:100] if 0 < number <= len(lines) else ""

    # --- local modules ------------------------------------------------------------------------

    def imported_by(self, path: str) -> list[str]:
        """The repository's own files that one imports, in the order in which it names them."""
        found: dict[str, None] = {}
        for node in ast.walk(self.module(path) or ast.Module(body=[], type_ignores=[])):
            for name in _imported(node, path):
                if (local := self._file_of(name, path)) and local != path:
                    found[local] = None
        return list(found)

    def reached_from(self, path: str, at_most: int = 60) -> list[str]:
        """A file and the local ones that it leads to, nearest first."""
        found, looked_at = {path: None}, 0
        while looked_at < len(found) < at_most:
            now = list(found)[looked_at]
            found |= dict.fromkeys(other for other in self.imported_by(now) if other not in found)
            looked_at += 1
        return list(found)[:at_most]

    def _file_of(self, dotted: str, importer: str) -> str | None:
        """The file of a module: beside its importer, at the top, or in src."""
        inner = dotted.replace(".", "/")
        beside = PurePosixPath(importer).parent.as_posix()
        for root in dict.fromkeys((beside, ".", "src")):
            for end in (".py", "/__init__.py"):
                place = PurePosixPath(root, inner + end).as_posix()
                if place in self.known:
                    return place
        return None


def _walk(folder: Path, within: str, depth: int) -> Iterator[str]:
    """Files first, then folders, so that the cap on their number leaves out what lies deep."""
    try:
        with os.scandir(folder / within) as found:
            entries = sorted(found, key=lambda entry: entry.name)[:MAX_FILES]
    except OSError:
        return
    deeper = []
    for entry in entries:
        mode, path = entry.stat(follow_symlinks=False).st_mode, f"{within}{entry.name}"
        if plain(entry.name) != entry.name or len(path) > MAX_PATH:
            continue
        if stat.S_ISREG(mode):
            yield path
        elif stat.S_ISDIR(mode) and entry.name not in SKIPPED and depth:
            deeper.append(path)
    for path in deeper:
        yield from _walk(folder, f"{path}/", depth - 1)


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():  # an old escape in somebody's string is none of ours
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_deep(module: ast.Module) -> bool:
    level: list[ast.AST] = [module]
    for _ in range(MAX_NESTED):
        level = [inner for node in level for inner in ast.iter_child_nodes(node)]
        if not level:
            return False
    return True


def _imported(node: ast.AST, importer: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = PurePosixPath(importer).parent.parts
            parents = parents[: len(parents) - node.level + 1]
            base = ".".join((*parents, *([base] if base else [])))
        yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
        if base:
            yield base
