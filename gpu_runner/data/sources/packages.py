"""The source text of the Python packages that are installed: hundreds of MB where a model trains, and no download.

For measuring a machine. Two machines agree only where the manifest's hash does; it names every package and version.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from gpu_runner.data.sources.source import Document, TextSource

SUFFIXES = (".py", ".pyi")
SEEN = (
    "A sandbox shows runs the packages that are installed, so what is held out of them can be looked up from inside:"
    " measure machines with this text, and hold campaigns on other text."
)


def open_source(folder: Path | None) -> TextSource:
    """Every module of every package in ``folder``, or where this Python finds its own. ValueError when there is none.

    Sorted by package and path. A file that two packages name is one document; one with a 0 byte is no text.
    """
    found = {str(one.metadata["Name"]).lower(): one for one in _installed(folder)}
    packages = sorted(found.items())
    paths = list(dict.fromkeys(path for _, package in packages for path in _sources(package)))
    if not paths:
        raise ValueError(f"--from: no package with source text is installed in {folder or 'this Python'}")
    return TextSource(
        facts={
            "format": "packages",
            "python": platform.python_version(),
            "num_files": len(paths),
            "packages": ", ".join(f"{name} {package.version}" for name, package in packages),
        },
        num_bytes=sum(path.stat().st_size for path in paths),
        documents=lambda: _documents(paths),
        notes=(SEEN,),
    )


def _installed(folder: Path | None) -> Iterator[Distribution]:
    return iter(distributions() if folder is None else distributions(path=[str(folder)]))


def _sources(package: Distribution) -> list[Path]:
    """The package's own list, RECORD, says which files are its own; a folder would not."""
    listed = sorted(str(file) for file in package.files or () if file.suffix in SUFFIXES)
    paths = (Path(str(package.locate_file(name))) for name in listed)
    return [path for path in paths if path.is_file()]


def _documents(paths: list[Path]) -> Iterator[Document]:
    for path in paths:
        text = path.read_bytes()
        if text.strip() and b"\0" not in text:
            yield Document(name=str(path), text=text)
