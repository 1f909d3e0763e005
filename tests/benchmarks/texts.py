"""Tokens to measure speed on: made here, the same for everyone, nothing is downloaded.

Drawn by Zipf's law, as words are: tables are then looked up as unevenly as in real text, and the
loss falls from log V towards the entropy, which shows that a trainer really trains.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

LLMC_MAGIC, LLMC_VERSION = 20240520, 1  # of the .bin files of llm.c and modded-nanogpt

Tokens = npt.NDArray[np.uint16]


def zipf_tokens(num_tokens: int, vocab: int, seed: int = 1) -> Tokens:
    """[num_tokens] uint16 below ``vocab``."""
    rng = np.random.Generator(np.random.PCG64(seed))
    chances = 1 / np.arange(1, vocab + 1)
    drawn = np.searchsorted(np.cumsum(chances / chances.sum()), rng.random(num_tokens))
    return rng.permutation(vocab)[np.minimum(drawn, vocab - 1)].astype(np.uint16)


def write_llmc(path: Path, tokens: Tokens) -> None:
    """256 int32 of header (magic, version, number of tokens), then the tokens as uint16."""
    header = np.zeros(256, dtype=np.int32)
    header[:3] = LLMC_MAGIC, LLMC_VERSION, len(tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.tobytes() + tokens.tobytes())


def read_llmc(path: Path) -> Tokens:
    """The tokens of an llm.c file, [N] uint16, memory-mapped. Raises ValueError for another format."""
    header = np.fromfile(path, dtype=np.int32, count=3)
    if header.tolist()[:2] != [LLMC_MAGIC, LLMC_VERSION]:
        raise ValueError(f"{path}: is not an llm.c file of uint16 tokens (magic {LLMC_MAGIC}, version {LLMC_VERSION})")
    return np.memmap(path, dtype=np.uint16, mode="r", offset=256 * 4, shape=(int(header[2]),))
