"""Finds every file of a source's folder, linked ones too, each once; what is left out is told."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.manifest import load_manifest
from gpu_runner.sandbox.view import shown_by

Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class Files:
    """Files in the order of their paths, and sentences about how they were found."""

    paths: list[Path]
    notes: tuple[str, ...]


def files_below(folder: Path, left_out: LeftOut) -> Files:
    """Every regular file below ``folder`` but hidden ones, sorted by its path in there.

    Links are followed wherever they lead: the Hub's cache is made of links, and so are folders that span disks. A
    file or folder with two paths is taken once, by the path without a link. ValueError for a folder
    that cannot be read, for a link into what every sandbox shows, and for a dataset of our own.
    """
    walk = _Walk(folder, left_out)
    walk.through(folder)
    while walk.links:
        walk.follow(walk.links.pop(0))
    paths = sorted(walk.files, key=Path.as_posix)
    for path in paths:
        if path.name == "manifest.json":
            _refuse_our_own(path.parent)
    return Files(paths, _told(walk.leading_out))


def _refuse_our_own(folder: Path) -> None:
    try:
        made = load_manifest(folder)
    except ValueError:
        return
    raise ValueError(
        f"--from: {folder} is the prepared dataset {made.name!r} already: use it as it is, name what it was made of, or"
        " move it out of the folder"
    )


def _told(leading_out: list[Path]) -> tuple[str, ...]:
    if not leading_out:
        return ()
    first, num = leading_out[0], len(leading_out)
    more = f" and {num - 1:,} more" if num > 1 else ""
    return (f"Followed out of the folder: {num:,} link{'s' * (num > 1)} ({first} to {first.resolve()}{more}).",)


class _Walk:
    """Walks the folder itself first, and then what its links lead to, in the order of their names."""

    def __init__(self, folder: Path, left_out: LeftOut) -> None:
        self.home, self.left_out = folder.resolve(), left_out
        self.files: list[Path] = []
        self.links: list[Path] = []
        self.entered = [self.home]  # real folders that were gone into
        self.leading_out: list[Path] = []  # links that were followed out of the source
        self.seen: set[Identity] = set()

    def through(self, top: Path) -> None:
        """Take all files of ``top``; links are kept for later."""
        self.is_new(os.stat(top))
        folders = [top]
        while folders:
            for entry in _entries(folders.pop()):
                path = Path(entry.path)
                if entry.name.startswith("."):
                    kind = "hidden folder(s)" if entry.is_dir(follow_symlinks=False) else "hidden file(s)"
                    self.left_out.file(kind, path)
                elif entry.is_symlink():
                    self.links.append(path)
                elif entry.is_dir():
                    if self.is_new(entry.stat()):
                        folders.append(path)
                    else:
                        self.left_out.file("folder(s) taken already", path)
                else:
                    self.take(path, entry.stat())

    def follow(self, link: Path) -> None:
        """Take what ``link`` leads to, unless it is broken, taken already, or a folder above one that was entered."""
        try:
            target, status = link.resolve(strict=True), link.stat()
        except (OSError, RuntimeError):  # RuntimeError: a loop, in Python 3.11 and 3.12
            self.left_out.file("broken link(s)", link)
            return
        if tree := shown_by(target):
            raise ValueError(
                f"--from: {link}: leads into {tree}, which every sandbox shows to proposed code: it could read what is"
                " held out; put a copy in its place"
            )
        num_before = len(self.files)
        self.go_to(link, target, status)
        if len(self.files) > num_before and not target.is_relative_to(self.home):
            self.leading_out.append(link)

    def go_to(self, link: Path, target: Path, status: os.stat_result) -> None:
        if not stat.S_ISDIR(status.st_mode):
            self.take(link, status)
        elif any(entered.is_relative_to(target) for entered in self.entered):
            self.left_out.file("link(s) back to a folder above", link)
        elif (status.st_dev, status.st_ino) in self.seen:
            self.left_out.file("link(s) to what is taken anyway", link)
        else:
            self.entered.append(target)
            self.through(link)

    def take(self, path: Path, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            self.left_out.file("special file(s) such as a device or a pipe", path)
        elif self.is_new(status):
            self.files.append(path)
        else:
            self.left_out.file("link(s) to what is taken anyway", path)

    def is_new(self, status: os.stat_result) -> bool:
        identity = (status.st_dev, status.st_ino)
        is_new = identity not in self.seen
        self.seen.add(identity)
        return is_new


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"--from: {folder}: cannot be read: {error.strerror}; make it readable, or move it") from error
