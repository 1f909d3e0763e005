"""Token files as other projects write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]
VOCAB = 50_257


def zipf(num: int, seed: int = 0, vocab: int = VOCAB) -> Tokens:
    """As tokens of text are spread: the n-th most frequent one about 1/n as often, and merges have no order."""
    rng = np.random.default_rng(seed)
    ranks = np.minimum(rng.zipf(1.2, size=num), vocab - 1)
    return np.random.default_rng(1).permutation(vocab)[ranks]


def documents(num: int, *, separator: int, begins: bool, seed: int = 0, vocab: int = 250) -> Tokens:
    """``num`` documents of 40 to 80 tokens below ``vocab``, each with ``separator`` at its head or end."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(1, vocab, size=rng.integers(40, 80)) for _ in range(num)]
    return np.concatenate([[separator, *text] if begins else [*text, separator] for text in texts])


def write_nanogpt(folder: Path, dtype: str, **files: Tokens) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, tokens in files.items():
        tokens.astype(dtype).tofile(folder / f"{name}.bin")
    return folder
