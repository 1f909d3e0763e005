"""llm.c's and modded-nanogpt's .bin: a header of 256 int32, then tokens.

The header begins with a magic number, a version and the number of tokens: 20240520, version 1, is
uint16 (GPT-2's ids); 20240801 is uint32 (Llama 3's). Which tokenizer made the ids is not in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from gpu_runner.data.sources.source import TokenFile, TokenSource

HEADER_BYTES = 256 * 4
UINT16, UINT32 = 20240520, 20240801  # the magic numbers
VERSIONS = {UINT16: (1,), UINT32: (1, 7)}  # llm.c writes 7 for Llama 3
Dtype = Literal["uint16", "uint32"]
DTYPES: dict[int, Dtype] = {UINT16: "uint16", UINT32: "uint32"}


def has_header(path: Path) -> bool:
    with open(path, "rb") as file:
        return int.from_bytes(file.read(4), "little") in DTYPES


def open_source(folder: Path) -> TokenSource:
    """ValueError that names the file whose header or length is wrong."""
    paths = sorted(folder.glob("*.bin"))
    if not paths:
        raise ValueError(f"--from: {folder} holds no .bin file")
    opened = [(path, *_open(path)) for path in paths]
    dtypes = {dtype for _, dtype, _ in opened}
    if len(dtypes) > 1:
        raise ValueError(f"--from: {folder} holds tokens of 16 and of 32 bits; give the files of one tokenizer")
    return TokenSource(
        facts={"format": "llmc", "num_files": len(paths)},
        dtype=dtypes.pop(),
        train=tuple(file for path, _, file in opened if "val" not in path.name),
        held_out=tuple(file for path, _, file in opened if "val" in path.name),
    )


def _open(path: Path) -> tuple[Dtype, TokenFile]:
    with open(path, "rb") as file:
        header = np.frombuffer(file.read(HEADER_BYTES), dtype="<i4")
    if len(header) < 256 or int(header[0]) not in DTYPES or int(header[1]) not in VERSIONS[int(header[0])]:
        raise ValueError(
            f"{path}: does not begin with llm.c's header (256 int32: 20240520 or 20240801, a version, the number of"
            " tokens); without a header it is --format nanogpt"
        )
    dtype, num_tokens = DTYPES[int(header[0])], int(header[2])
    wanted = HEADER_BYTES + num_tokens * np.dtype(dtype).itemsize
    if (found := path.stat().st_size) != wanted:
        raise ValueError(
            f"{path}: {found:,} bytes where {num_tokens:,} tokens with their header have {wanted:,}; fetch it again"
        )
    return dtype, TokenFile(path=path, offset=HEADER_BYTES, num_tokens=num_tokens)
