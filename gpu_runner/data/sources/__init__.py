"""What a dataset can be made of: one module for each format, each with ``open_source``.

    stdlib     the Python standard library's own source text: at hand on every machine, about 12 MB
    packages   the source text of the Python packages that are installed: hundreds of MB on a GPU machine
    text       a folder of text files, one document a file; JSON: one document a line or item, in "text"
    nanochat   parquet files with a column "text"; what their names hold out, else the last file
    llmc       .bin with a header, of llm.c and modded-nanogpt; files with "val" in their name are held out
    nanogpt    .bin without header, uint16: train.bin and val.bin

The first four give documents of text, the last two tokens that somebody else made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources import llmc, nanochat, nanogpt, packages, stdlib, text
from gpu_runner.data.sources.folder import files_below
from gpu_runner.data.sources.source import TextSource, TokenSource

FORMATS = ("stdlib", "packages", "text", "llmc", "nanogpt", "nanochat")
WITH_COLUMNS: dict[str, Callable[[Path, str | None], TextSource]] = {
    "text": text.open_source,
    "nanochat": nanochat.open_source,
}
OPENERS: dict[str, Callable[[Path], TextSource | TokenSource]] = {
    "packages": packages.open_source,
    "llmc": llmc.open_source,
    "nanogpt": nanogpt.open_source,
}


def open_source(path: Path | None, kind: str | None, column: str | None = None) -> TextSource | TokenSource:
    """The source at ``path``, of the format that is named or that it looks like. ValueError says what is wrong."""
    if path is None:
        if kind == "packages":
            return packages.open_source(None)
        if kind not in (None, "stdlib"):
            raise ValueError(f"--from: the format {kind} is read from a folder; name it")
        return stdlib.open_source()
    if kind == "stdlib":
        raise ValueError("--from: the standard library is where Python says; leave --from out")
    if not path.is_dir():
        raise ValueError(f"--from: {path} is not a folder")
    chosen = kind or guess(path)
    if chosen in WITH_COLUMNS:
        return WITH_COLUMNS[chosen](path, column)
    if column is not None:
        raise ValueError(f"--column: {chosen} has no columns; parquet and JSON have")
    return OPENERS[chosen](path)


def guess(folder: Path) -> str:
    """The format that a folder looks like, by its files."""
    first = next(iter(sorted(folder.glob("*.bin"))), None)
    if first is None:
        return "nanochat" if any(map(nanochat.is_parquet, files_below(folder, LeftOut()).paths)) else "text"
    return "llmc" if llmc.has_header(first) else "nanogpt"
