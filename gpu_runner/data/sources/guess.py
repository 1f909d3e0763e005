"""Guesses a folder's format by the files in it. A file of an unknown format is an error, not text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources import llmc, megatron, nanochat, nanogpt, npy, strangers
from gpu_runner.data.sources.folder import files_below


def guess(folder: Path) -> str:
    """One of the FORMATS. ValueError for files of another format, or packed ones."""
    paths = files_below(folder, LeftOut()).paths
    if any(map(nanochat.is_parquet, paths)):
        return "nanochat"
    tokens = [path for path in paths if path.suffix.lower() in nanogpt.SUFFIXES]
    if tokens:
        return _form_of_tokens(tokens)
    for path in paths:
        if what := strangers.by_its_name(path):
            raise ValueError(f"{path}: {what}. Or take it out of the folder; --format says what the rest is")
    return "text"


def _form_of_tokens(paths: Sequence[Path]) -> str:
    """The format of the first file that is not empty."""
    first = next((path for path in paths if path.stat().st_size), paths[0])
    if megatron.has_index(first):
        return "megatron"
    if llmc.has_header(first):
        return "llmc"
    return "npy" if npy.has_header(first) else "nanogpt"
