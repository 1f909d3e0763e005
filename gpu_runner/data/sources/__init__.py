"""What a dataset can be made of: one module for each format, each with ``open_source``.

    stdlib     the Python standard library's own source text: at hand on every machine, about 12 MB
    packages   the source text of the Python packages that are installed: hundreds of MB on a GPU machine
    text       a folder of text files, one document a file; JSON: one document a line or item, in "text"
    nanochat   parquet files with a column "text"; held out are the files whose names say so, else the last one
    llmc       .bin with a header, of llm.c and modded-nanogpt
    npy        numpy's .npy, as build-nanogpt writes them
    nanogpt    .bin (or OLMo's .npy, datatrove's .ds) without header: uint16, or what --dtype says
    megatron   .bin with an .idx beside it, of Megatron-LM

The first four give documents of text, the others tokens that somebody else made. Token files are held out where their
names say so, by whole words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpu_runner.data.sources import llmc, megatron, nanochat, nanogpt, npy, packages, stdlib, text
from gpu_runner.data.sources.guess import guess
from gpu_runner.data.sources.source import TextSource, TokenSource

FORMATS = ("stdlib", "packages", "text", "nanochat", "llmc", "npy", "nanogpt", "megatron")
WITH_COLUMNS: dict[str, Callable[[Path, str | None], TextSource]] = {
    "text": text.open_source,
    "nanochat": nanochat.open_source,
}
OPENERS: dict[str, Callable[[Path], TextSource | TokenSource]] = {
    "packages": packages.open_source,
    "llmc": llmc.open_source,
    "npy": npy.open_source,
    "megatron": megatron.open_source,
}


def open_source(
    path: Path | None, kind: str | None, *, column: str | None = None, dtype: str | None = None
) -> TextSource | TokenSource:
    """The source at ``path``, of the format ``kind`` or the one that it looks like. ValueError says what is wrong."""
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
    if dtype is not None and chosen != "nanogpt":
        raise ValueError(f"--dtype: {chosen} says itself how wide its tokens are, or has none; leave --dtype out")
    if chosen in WITH_COLUMNS:
        return WITH_COLUMNS[chosen](path, column)
    if column is not None:
        raise ValueError(f"--column: {chosen} has no columns; parquet and JSON have")
    return nanogpt.open_source(path, dtype) if chosen == "nanogpt" else OPENERS[chosen](path)
