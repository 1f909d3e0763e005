"""Reads llm.c's and modded-nanogpt's .bin: a header of 256 int32, then tokens.

The header begins with a magic number, a version and the number of tokens: 20240520, version 1, is
uint16 (GPT-2's ids); 20240801 is uint32 (Llama 3's). It does not name the tokenizer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpu_runner.data.sources.shards import open_shards
from gpu_runner.data.sources.source import TokenFile, TokenSource

SUFFIXES = (".bin",)
HEADER_BYTES = 256 * 4
UINT16, UINT32 = 20240520, 20240801  # the magic numbers
VERSIONS = {UINT16: (1,), UINT32: (1, 7)}  # llm.c writes 7 for Llama 3
STORED = {UINT16: "<u2", UINT32: "<u4"}


def has_header(path: Path) -> bool:
    with open(path, "rb") as file:
        return int.from_bytes(file.read(4), "little") in STORED


def unknown_magic(path: Path) -> int | None:
    """The magic number of a header that is laid out like these but is not known; None where there is no such header."""
    header = _header(path)
    if len(header) < 256 or header[3:].any() or header[2] < 1:
        return None
    widths = (2, 4, 8)
    counts = path.stat().st_size in {HEADER_BYTES + int(header[2]) * width for width in widths}
    return int(header[0]) if counts else None


def open_source(folder: Path) -> TokenSource:
    """ValueError that names the file whose header or length is wrong."""
    return open_shards(folder, "llmc", SUFFIXES, _open)


def _header(path: Path) -> npt.NDArray[np.int32]:
    """The first 256 int32; fewer where the file is shorter."""
    return np.fromfile(path, dtype="<i4", count=256)


def _open(path: Path) -> TokenFile:
    header = _header(path)
    if len(header) < 256 or int(header[0]) not in STORED:
        raise ValueError(
            f"{path}: does not begin with llm.c's header (256 int32: 20240520 or 20240801, a version, the number of"
            " tokens); without a header it is --format nanogpt"
        )
    magic, version, num_tokens = (int(number) for number in header[:3])
    if version not in VERSIONS[magic]:
        known = " or ".join(map(str, VERSIONS[magic]))
        raise ValueError(f"{path}: has llm.c's header in version {version}, but of {magic} only {known} is known")
    stored = STORED[magic]
    wanted = HEADER_BYTES + num_tokens * np.dtype(stored).itemsize
    if num_tokens < 0 or (found := path.stat().st_size) != wanted:
        raise ValueError(
            f"{path}: {found:,} bytes where {num_tokens:,} tokens with their header have {wanted:,}; fetch it again"
        )
    return TokenFile(path=path, offset=HEADER_BYTES, num_tokens=num_tokens, stored=stored)
