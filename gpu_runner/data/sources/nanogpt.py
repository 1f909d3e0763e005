"""nanoGPT's train.bin and val.bin: tokens as uint16 and nothing else. meta.pkl is never opened."""

from __future__ import annotations

from pathlib import Path

from gpu_runner.data.sources import llmc
from gpu_runner.data.sources.source import TokenFile, TokenSource

PICKLE_IGNORED = "meta.pkl was not read: a pickle runs what is in it. Name the --tokenizer to have bytes per token."


def open_source(folder: Path) -> TokenSource:
    """ValueError when train.bin is missing or a file is no row of 16-bit numbers."""
    train, val = folder / "train.bin", folder / "val.bin"
    if not train.is_file():
        raise ValueError(f"--from: {folder} holds no train.bin")
    held_out = (_open(val),) if val.is_file() else ()
    return TokenSource(
        facts={"format": "nanogpt", "num_files": 1 + len(held_out)},
        dtype="uint16",
        train=(_open(train),),
        held_out=held_out,
        notes=(PICKLE_IGNORED,) if (folder / "meta.pkl").exists() else (),
    )


def _open(path: Path) -> TokenFile:
    if llmc.has_header(path):
        raise ValueError(f"{path}: begins with llm.c's header; it is --format llmc")
    num_bytes = path.stat().st_size
    if num_bytes % 2 or not num_bytes:
        raise ValueError(f"{path}: {num_bytes:,} bytes are no whole number of 16-bit tokens")
    return TokenFile(path=path, offset=0, num_tokens=num_bytes // 2)
