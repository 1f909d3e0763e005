"""The files of a recipe before a campaign takes them: what is refused, each in a sentence, and how they are copied."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from django.conf import settings

from gpu_runner import contract
from research.record import git
from research.record.git import Entry

MAX_FILES = 20_000
RECIPE = "recipe.toml"
SKIPPED = frozenset({"__pycache__", ".git"})
POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = range(100, 400)  # how long a pointer can be
Read = Callable[[str], bytes]


def scanned(folder: Path) -> list[Entry]:
    """Every file of a folder, sorted by path. Raises ValueError at the first thing that no recipe holds."""
    entries: list[Entry] = []
    total = 0
    for entry in _files(folder, folder):
        entries.append(entry)
        total += entry.size or 0
        _refuse_size(len(entries), total)
    return sorted(entries, key=lambda entry: entry.path)


def _files(folder: Path, top: Path) -> Iterator[Entry]:
    try:
        inside = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError as error:
        raise ValueError(f"recipe: {folder} cannot be read: {error.strerror}") from error
    for each in inside:
        path = Path(each.path).relative_to(top).as_posix()
        mode = each.stat(follow_symlinks=False).st_mode
        if each.name in SKIPPED:
            continue
        if stat.S_ISDIR(mode):
            yield from _files(Path(each.path), top)
        elif stat.S_ISREG(mode):
            executable = git.EXECUTABLE if mode & stat.S_IXUSR else "100644"
            yield Entry(executable, "", each.stat(follow_symlinks=False).st_size, path)
        else:
            raise ValueError(f"recipe: {path} {_LINK if stat.S_ISLNK(mode) else _SPECIAL}")


_LINK = "is a link; a recipe has plain files only: put the file itself there, or leave it out"
_SPECIAL = "is a special file; a recipe has plain files only: leave it out"
_SUBMODULE = "is a submodule, which no worker fetches: copy its files into the recipe and commit them"
_ABSENT = "is not in the repository (a partial clone?): fetch it whole"
_POINTER = "is a Git LFS pointer, not the file: run `git lfs pull` and commit the file itself, or leave it out"


def checked(entries: list[Entry], read: Read, name: str) -> tuple[contract.Recipe, str]:
    """The parsed recipe and its text. Raises ValueError in one sentence that says what to do."""
    for entry in entries:
        _refuse_entry(entry)
    _refuse_size(len(entries), sum(entry.size or 0 for entry in entries))
    paths = {entry.path for entry in entries}
    if RECIPE not in paths:
        raise _without(name)
    text = _text(RECIPE, read(RECIPE))
    try:
        recipe = contract.parse_recipe(text)
    except ValueError as error:
        raise ValueError(f"recipe: {error}") from error
    _refuse_entry_point(recipe, paths, name)
    for name in (*recipe.editable, *recipe.shown):
        if name not in paths:
            table = "editable" if name in recipe.editable else "shown"
            raise ValueError(f"recipe: recipe.toml: {table} names {name!r}, and there is no such file")
        _text(name, read(name))
    return recipe, text


def refuse_foreign(folder: Path, name: str) -> None:
    """Raises ValueError for a folder without a recipe.toml: the names of what lies in it are nobody's business then."""
    if not (folder / RECIPE).is_file():
        raise _without(name)


def _without(name: str) -> ValueError:
    return ValueError(
        f"recipe: there is no recipe.toml at the top of {name}; `manage.py recipe new PATH` writes a first one"
    )


def _refuse_entry(entry: Entry) -> None:
    if entry.mode == git.SUBMODULE:
        raise ValueError(f"recipe: {entry.path} {_SUBMODULE}")
    if entry.mode == git.LINK:
        raise ValueError(f"recipe: {entry.path} {_LINK}")
    if entry.size is None:
        raise ValueError(f"recipe: {entry.path} {_ABSENT}")
    if not contract.is_safe_path(entry.path) or not entry.path.isprintable():
        raise ValueError(f"recipe: the file name {entry.path!r} has characters that no recipe's may have; rename it")


def _refuse_size(num_files: int, num_bytes: int) -> None:
    if num_bytes > settings.RECIPE_MB * 10**6:
        raise ValueError(
            f"recipe: its files are larger than {settings.RECIPE_MB} MB together (COUNTERSIGN_RECIPE_MB); data and"
            " checkpoints belong into a dataset, not into the recipe"
        )
    if num_files > MAX_FILES:
        raise ValueError(f"recipe: it has more than {MAX_FILES:,} files; leave out what the training does not read")


def _refuse_entry_point(recipe: contract.Recipe, paths: set[str], name: str) -> None:
    if recipe.kind == "harness" and "train.py" not in paths:
        raise ValueError(
            f"recipe: there is no train.py at the top of {name}, with a function train(run), which the harness calls;"
            ' an unmodified trainer says kind = "command" in recipe.toml'
        )
    if recipe.command is None:
        return
    words = [word for word in recipe.command.run if word.endswith((".py", ".sh")) and "{" not in word]
    for word in words[:1]:
        if word.removeprefix("./") not in paths:
            raise ValueError(f"recipe: recipe.toml: run in [command] starts {word}, and there is no such file")


def _text(path: str, body: bytes) -> str:
    """Decode without changing line ends, since patches are made for the file's bytes."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"recipe: {path} is not UTF-8 from byte {error.start:,} on; save it as UTF-8") from error


def body_of(folder: Path, path: str) -> bytes:
    """What is in a file; a link that came into its place since ``scanned`` is not followed."""
    try:
        with open(os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"recipe: {path} cannot be read: {error.strerror}") from error


def refuse_pointers(entries: list[Entry], read: Callable[[list[Entry]], Iterable[bytes]]) -> None:
    """Raise ValueError for a file that is a pointer of Git LFS."""
    small = [entry for entry in entries if entry.size in POINTER_BYTES and entry.mode not in (git.LINK, git.SUBMODULE)]
    for entry, body in zip(small, read(small), strict=True):
        if body.startswith(POINTER):
            raise ValueError(f"recipe: {entry.path} {_POINTER}")


def imported(bare: Path, folder: Path, entries: list[Entry], message: str) -> str:
    """Commit the files to ``main`` of ``bare``, in one process: git-fast-import(1), a file at a time."""
    head = f"commit refs/heads/main\nmark :1\ncommitter {git.NAME} <{git.EMAIL}> now\n"
    with tempfile.TemporaryFile(dir=bare) as stream:
        stream.write(head.encode() + git.counted(message.encode()))
        for entry in entries:
            body = body_of(folder, entry.path)
            stream.write(b"M %b inline %b\n" % (entry.mode.encode(), git.quoted(entry.path)) + git.counted(body))
        stream.write(b"get-mark :1\n")
        stream.seek(0)
        return git.fast_import(bare, stream)
