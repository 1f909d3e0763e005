"""A loop's git branch, made with git itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "loop"), ("EMAIL", "loop@lab.example"))
}


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, **WHO, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout.strip()


def begin(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--template=", "--initial-branch=autoresearch/nov1", ".")
    return folder


def commit(folder: Path, message: str, **files: str | bytes) -> str:
    """Commit these files (``train_py`` is train.py): the short name of the commit."""
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_bytes(text if isinstance(text, bytes) else text.encode())
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "--short=7", "HEAD")
