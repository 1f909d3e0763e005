"""Checks, before anything is read, that a new dataset's name is free or belongs to a damaged dataset.

A finished dataset takes its name by a rename, which removes what stood there.
"""

from __future__ import annotations

import re
from pathlib import Path

from gpu_runner.data.manifest import NAME, TOKENIZER_FILE, load_manifest

OWN = {"manifest.json", "train", "val", "sealed", *TOKENIZER_FILE.values()}


def refuse_name(name: str) -> None:
    """ValueError for a name that no dataset may have."""
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"--name: {name!r} cannot be a dataset's name; take at most 64 letters of ASCII, digits, dots, - and _,"
            " with a letter or digit first"
        )


def refuse_taken(home: Path, source: Path | None) -> None:
    """ValueError where ``home`` and its source lie in one another, or something that is no dataset has the name."""
    if source is not None:
        _refuse_source(home.resolve(), source.resolve())
    if home.parent.exists() and not home.parent.is_dir():
        raise ValueError(f"--root: {home.parent} is a file; name a folder")
    if not home.exists():
        return
    if not home.is_dir():
        raise ValueError(f"--name: {home} is a file; give another name, or move it")
    found = {path.name for path in home.iterdir()}
    if found and not _was_made_here(home):
        raise ValueError(f"--name: {home} is there, and no dataset; give another name, or move it")
    if foreign := sorted(found - OWN):
        raise ValueError(
            f"--name: {home} is a damaged dataset with something else in it, {foreign[0]}; move that out, or give"
            " another name"
        )


def _refuse_source(home: Path, source: Path) -> None:
    if source.is_relative_to(home):
        raise ValueError(f"--name: {home} holds what it would be made of; give another name, or another --root")
    if home.is_relative_to(source):
        raise ValueError(
            f"--root: {home} would lie in {source}, of which it is made: the next reading would take it for text of"
            " its own; name a folder elsewhere"
        )


def _was_made_here(home: Path) -> bool:
    """Whether either copy of a dataset's manifest is there."""
    for folder in (home, home / "train"):
        try:
            load_manifest(folder)
        except ValueError:
            continue
        return True
    return False
