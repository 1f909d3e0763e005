"""What a dataset can be made of: one module for each format, each with ``open_source``.

    stdlib     the Python standard library's own source text: at hand on every machine, about 12 MB
    packages   the source text of the Python packages that are installed: hundreds of MB on a GPU machine
    text       a folder of text files, one document a file; .jsonl: one document a line, in "text"
    nanochat   parquet files with a column "text"; the last file is held out
    llmc       .bin with a header, of llm.c and modded-nanogpt; files with "val" in their name are held out
    nanogpt    .bin without header, uint16: train.bin and val.bin

The first four give documents of text, the last two tokens that somebody else made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpu_runner.data.sources import llmc, nanochat, nanogpt, packages, stdlib, text
from gpu_runner.data.sources.source import TextSource, TokenSource

FORMATS = ("stdlib", "packages", "text", "llmc", "nanogpt", "nanochat")
OPENERS: dict[str, Callable[[Path], TextSource | TokenSource]] = {
    "packages": packages.open_source,
    "text": text.open_source,
    "llmc": llmc.open_source,
    "nanogpt": nanogpt.open_source,
    "nanochat": nanochat.open_source,
}


def open_source(path: Path | None, kind: str | None) -> TextSource | TokenSource:
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
    return OPENERS[kind or guess(path)](path)


def guess(folder: Path) -> str:
    """The format that a folder looks like, by its files."""
    if next(folder.glob("*.parquet"), None):
        return "nanochat"
    first = next(iter(sorted(folder.glob("*.bin"))), None)
    if first is None:
        return "text"
    return "llmc" if llmc.has_header(first) else "nanogpt"
