"""Checks that a dataset is what its manifest says, and that no sandbox shows its held-out text."""

from __future__ import annotations

from pathlib import Path

from gpu_runner.data.manifest import Manifest, file_sha256, files, load_manifest
from gpu_runner.data.progress import Silent
from gpu_runner.data.sources import stdlib
from gpu_runner.sandbox.view import shown_by


def verify(home: Path, progress: Silent = Silent()) -> Manifest:  # noqa: B008  # it is immutable
    """Hash every file again. Raises ValueError that names the first wrong one."""
    manifest = load_manifest(home)
    if problem := problem_with(home, manifest):
        raise ValueError(problem)
    refuse_open(home)
    sizes = [path.stat().st_size for path, _, _ in files(home, manifest)]
    with progress.stage("Hashing", sum(sizes)):
        for (path, expected, _), size in zip(files(home, manifest), sizes, strict=True):
            if file_sha256(path) != expected:
                raise ValueError(f"{path}: is not what the manifest says; remove the folder and prepare it again")
            progress.advance(size)
    return manifest


def problem_with(home: Path, manifest: Manifest) -> str | None:
    """What is missing, of another length, or no copy, checked without hashing; None when all is right."""
    for path, _, expected in files(home, manifest):
        if not path.is_file():
            return f"{path}: missing; run `python -m gpu_runner data prepare`"
        if expected is not None and (found := path.stat().st_size) != expected:
            return (
                f"{path}: {found:,} bytes where the manifest says {expected:,}; remove the folder and prepare it again"
            )
    copy = home / "train" / "manifest.json"
    if not copy.is_file() or copy.read_bytes() != (home / "manifest.json").read_bytes():
        return f"{copy}: is not a copy of the manifest; run `python -m gpu_runner data prepare`"
    return None


def refuse_open(home: Path) -> Manifest:
    """The manifest of a dataset. Raises ValueError, with the way out, when a sandbox would show its held-out text.

    Judged by the manifest and the folder; nothing is hashed. Called before proposed code runs on a dataset.
    """
    manifest = load_manifest(home)
    if modules := stdlib.lies_open(manifest.source):
        raise ValueError(
            f"{home}: holds out text of {modules}, which no sandbox hides: a model could look its answers up in the"
            " interpreter's folder. Run `python -m gpu_runner data prepare`, and start new campaigns on what it makes"
        )
    refuse_shown(str(home), home)
    return manifest


def refuse_shown(what: str, path: Path) -> None:
    """Raises ValueError when ``path`` lies in a folder that every sandbox shows."""
    if tree := shown_by(path):
        raise ValueError(
            f"{what}: lies under {tree}, which every sandbox shows to proposed code: it could read what is held out;"
            " move it elsewhere"
        )


def is_there(home: Path) -> bool:
    """Whether every file is there in its length, and no sandbox shows held-out text."""
    try:
        return problem_with(home, refuse_open(home)) is None
    except ValueError:
        return False


def is_whole(home: Path) -> bool:
    """Whether every file has its hash, and no sandbox shows held-out text."""
    try:
        verify(home)
    except ValueError:
        return False
    return True
