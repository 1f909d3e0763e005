"""Where a dataset may stand: in nobody's way.

A finished dataset takes its name by a rename, and what stood there before goes. So the name is looked at before
anything is read: it has to be free, or a damaged dataset and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

from gpu_runner.data.manifest import NAME, TOKENIZER_FILE, load_manifest

OWN = {"manifest.json", "train", "val", "sealed", *TOKENIZER_FILE.values()}


def refuse_name(name: str) -> None:
    """ValueError for what no dataset can be called."""
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"--name: {name!r} cannot be a dataset's name; take at most 64 letters of ASCII, digits, dots, - and _,"
            " with a letter or digit first"
        )


def refuse_taken(home: Path, source: Path | None) -> None:
    """ValueError where ``home`` lies in its own source or around it, or is something that is no dataset."""
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
    """By either copy of its manifest."""
    for folder in (home, home / "train"):
        try:
            load_manifest(folder)
        except ValueError:
            continue
        return True
    return False
