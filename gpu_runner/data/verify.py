"""Whether a dataset still is what its manifest says."""

from __future__ import annotations

from pathlib import Path

from gpu_runner.data.manifest import Manifest, file_sha256, files, load_manifest
from gpu_runner.data.progress import Silent


def verify(home: Path, progress: Silent = Silent()) -> Manifest:  # noqa: B008  # it is immutable
    """Hash every file again. Raises ValueError that names the first wrong one."""
    manifest = load_manifest(home)
    if problem := problem_with(home, manifest):
        raise ValueError(problem)
    sizes = [path.stat().st_size for path, _, _ in files(home, manifest)]
    with progress.stage("Hashing", sum(sizes)):
        for (path, expected, _), size in zip(files(home, manifest), sizes, strict=True):
            if file_sha256(path) != expected:
                raise ValueError(f"{path}: is not what the manifest says; remove the folder and prepare it again")
            progress.advance(size)
    return manifest


def problem_with(home: Path, manifest: Manifest) -> str | None:
    """What is missing, of another length, or no copy: seen at once, without hashing. None when nothing is."""
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


def is_there(home: Path) -> bool:
    """Whether every file is there in its length."""
    try:
        return problem_with(home, load_manifest(home)) is None
    except ValueError:
        return False


def is_whole(home: Path) -> bool:
    """Whether every file has its hash."""
    try:
        verify(home)
    except ValueError:
        return False
    return True
