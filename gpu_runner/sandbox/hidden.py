"""The standard library's modules whose text may be held out, and their places on this machine, which no sandbox shows.

The default corpus is the standard library's own text, and a sandbox shows the interpreter's folders. Held-out text
that lay there could be learned by heart, or looked up while it is asked. So only these modules are held out
(``data/sources/stdlib.py``), and every Cell hides all of them, whatever it trains on, wherever they lie in what it
shows:

    the running interpreter's library   each of these modules, with its bytecode
    any other library (Debian's beside  the whole folder: nothing that trains needs it
    pyenv's, one bundled with a tool)
    a package that took one over        the file, by its name and a third of its lines, with its bytecode
    archives                            a zipped library by what is in it, a packed Python by its name

Conditions for a module in this list: nothing that trains, compiles or that the gate "code" lets edited code import
needs it (``tests/sandbox/test_hidden.py`` really does all that), no C module repeats its docstrings (as of _pyio,
_pydecimal), its text is not documentation (pydoc_data), and packages do not usually bring their own (distutils in
setuptools, tomllib, importlib, zipfile and typing as backports, lib2to3 in formatters). Smaller ones are not worth
their mount.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import cache
from pathlib import Path

from gpu_runner.sandbox import view

MODULES = frozenset(
    "aifc asynchat asyncore cgi cgitb ftplib idlelib imaplib mailbox modulefinder nntplib poplib pyclbr smtpd smtplib "
    "sunau symtable tabnanny telnetlib trace turtle turtledemo wsgiref xmlrpc".split()
)
A_LIBRARY_HAS = (frozenset({"ast.py", "os.py", "stat.py"}), frozenset({"ast.pyc", "os.pyc", "stat.pyc"}))
SUFFIXES, ZIPPED = (".py", ".pyc", ".pyo"), (".zip", ".whl", ".egg", ".pyz")
PACKED_PYTHON = re.compile(r"(lib)?python[-_]?[23]\S*\.(conda|deb|rpm|tgz|txz|tar(\.\w+)?)", re.IGNORECASE)
LONG_LINE = 20  # characters; shorter ones are the same everywhere
# Of 753 files of such a name on one machine the nearest that is no copy, torch/types.py, shares 11 lines of 60.
COPIED_SHARE, COPIED_LINES = 0.3, 20


@cache
def places() -> tuple[Path, ...]:
    """Files and folders to hide, by their real paths. Walks everything that is shown, once in a process."""
    needed = [os.path.realpath(path) for path in (*sys.path, str(library())) if path]
    found: set[str] = set()
    candidates: list[str] = []
    names = {path.name for path in own_files()} - {"__init__.py", "__main__.py"}
    for folder, files in _folders(found):
        if _is_library(files):
            is_needed = bool(below(folder, needed))
            found.update(_modules_in(folder) if is_needed else [folder])
        else:
            candidates += [f"{folder}/{name}" for name in files if name in names]
        found.update(path for name in files if _is_packed(path := f"{folder}/{name}", name) and path not in needed)
    found.update(_taken_over(path for path in candidates if os.path.dirname(path) not in found))
    return tuple(sorted(map(Path, found)))


def library() -> Path:
    """The running interpreter's standard library."""
    return Path(sysconfig.get_paths()["stdlib"]).resolve()


def below(tree: str, hidden: Sequence[str]) -> list[str]:
    """Those of ``hidden`` that lie in ``tree``; all are real paths."""
    return [place for place in hidden if place == tree or place.startswith(tree.rstrip("/") + "/")]


def _folders(found: Set[str]) -> Iterator[tuple[str, list[str]]]:
    """Every folder that is shown, and its files, links to files too; none that is ``found`` meanwhile."""
    trees = {os.path.realpath(tree) for tree in view.trees()}
    waiting = [tree for tree in trees if not any(tree.startswith(other + "/") for other in trees)]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # then nobody inside can look either
            continue
        yield folder, [entry.name for entry in entries if entry.is_file()]
        if folder not in found:
            waiting += [
                entry.path for entry in entries if entry.is_dir(follow_symlinks=False) and entry.path not in found
            ]


def _modules_in(folder: str) -> list[str]:
    packages = [os.path.realpath(path) for name in MODULES if os.path.isdir(path := f"{folder}/{name}")]
    return packages + [path for name in MODULES for path in _with_bytecode(folder, name)]


def _with_bytecode(folder: str, stem: str) -> Iterator[str]:
    paths = [f"{folder}/{stem}{suffix}" for suffix in SUFFIXES]
    if os.path.isdir(cache := f"{folder}/__pycache__"):
        paths += [f"{cache}/{name}" for name in _cached(cache) if name.startswith(f"{stem}.")]
    yield from (os.path.realpath(path) for path in paths if os.path.isfile(path))


@cache
def _cached(folder: str) -> list[str]:
    return os.listdir(folder)


# --- what others took over --------------------------------------------------------------------


def own_files() -> list[Path]:
    """The sources of MODULES in the running interpreter's library."""
    folder = library()
    paths = [path for name in MODULES for path in (folder / f"{name}.py", *(folder / name).rglob("*.py"))]
    return [path for path in paths if path.is_file()]


def _taken_over(candidates: Iterable[str]) -> Iterator[str]:
    known = {line for path in own_files() for line in _long_lines(str(path))}
    for path in candidates:
        lines = _long_lines(path)
        num_known = sum(line in known for line in lines)
        if num_known >= max(COPIED_LINES, COPIED_SHARE * len(lines)):
            yield from _with_bytecode(os.path.dirname(path), Path(path).stem)


def _long_lines(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return [line for part in file if len(line := part.strip()) >= LONG_LINE]
    except (FileNotFoundError, PermissionError):
        return []


def _is_library(files: Iterable[str]) -> bool:
    names = set(files)
    return any(landmarks <= names for landmarks in A_LIBRARY_HAS)


def _is_packed(path: str, name: str) -> bool:
    """Whether it is a zipped library, or the package of a Python that was not unpacked."""
    if not name.endswith(ZIPPED):
        return PACKED_PYTHON.fullmatch(name) is not None
    try:
        with zipfile.ZipFile(path) as archive:
            return _is_library(os.path.basename(member) for member in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
