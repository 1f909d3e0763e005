"""A folder of text: every file is a document, every line of a .jsonl file is one, in its field "text"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gpu_runner.data.sources.source import Document, TextSource


def open_source(folder: Path) -> TextSource:
    """All files below ``folder`` but hidden ones, sorted by path. ValueError when there are none."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder))]
    paths.sort(key=lambda path: path.relative_to(folder).as_posix())
    if not paths:
        raise ValueError(f"--from: {folder} holds no file")
    return TextSource(
        facts={"format": "text", "num_files": len(paths)},
        num_bytes=sum(path.stat().st_size for path in paths),
        documents=lambda: (document for path in paths for document in _documents(path)),
    )


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _documents(path: Path) -> Iterator[Document]:
    if path.suffix == ".jsonl":
        yield from _lines(path)
        return
    text = path.read_bytes()
    if b"\0" in text:
        raise ValueError(f"{path}: holds a 0 byte, so it is not text; take it out of the folder")
    yield Document(name=str(path), text=text)


def _lines(path: Path) -> Iterator[Document]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = json.loads(line)["text"].encode()
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f'{path}: line {number} is not a JSON object with a "text"') from error
            yield Document(name=f"{path}, line {number}", text=text)
