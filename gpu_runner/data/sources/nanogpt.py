"""Reads files of tokens without header: nanoGPT's train.bin and val.bin, OLMo's .npy, datatrove's .ds, under any name.

uint16 unless ``--dtype`` names another width; where the values look like another one, the person has to name one.
meta.pkl is never unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from gpu_runner.data.sources import llmc, npy, widths
from gpu_runner.data.sources.named import told
from gpu_runner.data.sources.shards import open_shards, whole
from gpu_runner.data.sources.source import TokenFile, TokenSource

SUFFIXES = (".bin", ".npy", ".ds")  # with and without a header
META = "meta.pkl"
PICKLE_IGNORED = "meta.pkl was not opened: a pickle runs what is in it. Name the --tokenizer to have bytes per token."
SAME = {"int32": "uint32"}  # of tokens, where the numbers are the same


def open_source(folder: Path, dtype: str | None = None) -> TokenSource:
    """ValueError when a file has a header, is no array of tokens, or looks like another width than it is read in."""
    opener = partial(_open, dtype=dtype)
    facts = {"dtype": dtype} if dtype else {}
    source = open_shards(folder, "nanogpt", SUFFIXES, opener, **facts)
    doubts = _doubts(source.files, dtype)
    notes = [*source.notes, *doubts, *([PICKLE_IGNORED] if any(folder.rglob(META)) else [])]
    return TokenSource(facts=source.facts, train=source.train, held_out=source.held_out, notes=tuple(notes))


def _open(path: Path, dtype: str | None) -> TokenFile:
    if llmc.has_header(path):
        raise ValueError(f"{path}: begins with llm.c's header; it is --format llmc")
    if (magic := llmc.unknown_magic(path)) is not None:
        raise ValueError(
            f"{path}: begins with 256 int32 as llm.c's files do, but with {magic}, which is not known; write its tokens"
            " without them (tail -c +1025), and name their --dtype"
        )
    if npy.has_header(path):
        raise ValueError(f"{path}: begins with numpy's header; it is --format npy, and its suffix .npy")
    if path.stat().st_size and dtype is None:
        _refuse_other_width(path)
    stored = widths.STORED[dtype or widths.USUAL]
    num_tokens = whole(path, int(stored[-1]), path.stat().st_size)
    _refuse_other_vocab(path, dtype or widths.USUAL)
    return TokenFile(path=path, offset=0, num_tokens=num_tokens, stored=stored)


def _refuse_other_width(path: Path) -> None:
    found = widths.found_in(path)
    if found.dtype is None:
        raise ValueError(f"{path}: holds no tokens: {found.because}")
    if found.dtype != widths.USUAL:
        raise ValueError(
            f"{path}: looks like {found.dtype}, not {widths.USUAL}: {found.because}. Name --dtype {found.dtype}, or"
            f" --dtype {widths.USUAL} where you know better"
        )


def _refuse_other_vocab(path: Path, dtype: str) -> None:
    """ValueError where tokens exceed the ``vocab_size`` of nanoGPT's meta.pkl beside the file."""
    vocab = widths.vocab_of_meta(path.with_name(META))
    if vocab is None or not path.stat().st_size or dtype in (fitting := widths.within(path, vocab)):
        return
    raise ValueError(
        f"{path}: has tokens beyond the {vocab:,} of which {META} beside it tells, when it is read as {dtype};"
        f" {other_widths(fitting)}"
    )


def other_widths(fitting: Iterable[str]) -> str:
    """The end of a sentence: which widths to try instead."""
    named = " or ".join(f"--dtype {name}" for name in fitting)
    return f"name {named}, in which none is" if named else "in no other --dtype it is any better"


def _doubts(files: Iterable[TokenFile], dtype: str | None) -> Iterable[str]:
    """Where a person named a width that a file does not look like: the file is read so, and everybody is told."""
    doubted: dict[widths.Width, list[str]] = {}
    for file in files if dtype else ():
        found = widths.found_in(file.path)
        if dtype and SAME.get(dtype, dtype) != SAME.get(found.dtype or "", found.dtype):
            doubted.setdefault(found, []).append(file.path.name)
    for found, names in doubted.items():
        looks = f"like {found.dtype}" if found.dtype else "like no tokens"
        yield told(f"CAREFUL: read as {dtype}", names, f"as --dtype says, though it looks {looks}: {found.because}")
