"""The source text of the installed Python packages: hundreds of MB where a model trains, and no download.

A sandbox shows the installed packages, so nothing is held out of them: val and sealed come from the standard library's
modules that every sandbox hides, and its other modules are trained on as well. Two machines have the same dataset only
where the manifest's hash agrees; the manifest names every package and version.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources import stdlib
from gpu_runner.data.sources.source import Document, TextSource
from gpu_runner.data.splits import watched_or_trained
from gpu_runner.sandbox import hidden

SUFFIXES = (".py", ".pyi")


def open_source(folder: Path | None) -> TextSource:
    """Every module of every package in ``folder`` (or where this Python finds its own), and of the standard library.

    Sorted by package and path. A file that two packages name is one document; files with a 0 byte, and those that a
    sandbox hides, are left out. ValueError when there is no package, or too little can be held out.
    """
    left_out = LeftOut()
    found = {str(one.metadata["Name"]).lower(): one for one in _installed(folder)}
    packages = sorted(found.items())
    paths = list(dict.fromkeys(path for _, package in packages for path in _sources(package, left_out)))
    if not paths:
        raise ValueError(f"--from: no package with source text is installed in {folder or 'this Python'}")
    library = stdlib.open_source()
    return TextSource(
        facts=library.facts
        | {
            "format": "packages",
            "text": "Python packages, and the standard library",
            "python": platform.python_version(),
            "num_files": len(paths) + int(library.facts["num_files"]),
            "packages": ", ".join(f"{name} {package.version}" for name, package in packages),
        },
        num_bytes=sum(path.stat().st_size for path in paths) + library.num_bytes,
        documents=lambda: _documents(paths, library, left_out),
        left_out=left_out,
    )


def _installed(folder: Path | None) -> Iterator[Distribution]:
    return iter(distributions() if folder is None else distributions(path=[str(folder)]))


def _sources(package: Distribution, left_out: LeftOut) -> list[Path]:
    """The files that the package's own RECORD lists; its folder may have others."""
    if package.files is None:
        left_out.file("package(s) without a list of files", package.metadata["Name"])
    listed = sorted(str(file) for file in package.files or () if file.suffix in SUFFIXES)
    paths = [Path(str(package.locate_file(name))) for name in listed]
    for path in paths:
        if not path.is_file():
            left_out.file("module(s) listed and not there", path)
    return [path for path in paths if path.is_file()]


def _documents(paths: list[Path], library: TextSource, left_out: LeftOut) -> Iterator[Document]:
    copies = set(hidden.places())
    for path in paths:
        text = path.read_bytes()
        if why := _why_not(path, text, copies):
            left_out.file(why, path)
        else:
            yield Document(name=str(path), text=text, split=watched_or_trained(text))
    yield from library.documents()


def _why_not(path: Path, text: bytes, copies: set[Path]) -> str | None:
    if not text.strip():
        return "empty module(s)"
    if b"\0" in text:
        return "module(s) with a 0 byte"
    return "module(s) that every sandbox hides" if path.resolve() in copies else None
