"""tiktoken's rank files: a line for each token, its bytes in base64, a space, its rank.

The pattern by which text is cut before its pieces are merged follows from the file's name (gpt2, r50k_base,
cl100k_base, o200k_base) or from FILE.toml beside it, with ``pattern`` (one of these names, or a
regular expression) and ``[special]`` (token = id).
"""

from __future__ import annotations

import base64
import os
import tomllib
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from gpu_runner.data import manifest
from gpu_runner.data.tokenizers.encoder import (
    WAY_OUT,
    Encoder,
    Table,
    empty_table,
    lengths_sha256,
    panics_told,
    refuse_long_blanks,
    separator_of,
)
from gpu_runner.data.tokens import Ids

# How text is cut before its pieces are merged, as the tokenizers' authors published it: GPT-2
# (openai/gpt-2, encoder.py), GPT-4 and GPT-4o (openai/tiktoken, openai_public.py).
CONTRACTED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = {
    "gpt2": GPT2,
    "r50k_base": GPT2,
    "cl100k_base": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k_base": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    + CONTRACTED
    + r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    + CONTRACTED
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
SPECIAL = {
    "gpt2": {"<|endoftext|>": 50256},
    "r50k_base": {"<|endoftext|>": 50256},
    "cl100k_base": {
        "<|endoftext|>": 100257,
        "<|fim_prefix|>": 100258,
        "<|fim_middle|>": 100259,
        "<|fim_suffix|>": 100260,
        "<|endofprompt|>": 100276,
    },
    "o200k_base": {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
}


def encoder(path: Path, body: bytes, separator: str | None) -> Encoder:
    ranks = read_ranks(body)
    pattern, special = _read_settings(path)
    table = table_of(ranks, special)
    return Encoder(
        about=manifest.Tokenizer(
            kind="tiktoken",
            sha256=sha256(body).hexdigest(),
            vocab=len(table),
            separator=separator_of(special, separator),
            token_bytes_sha256=lengths_sha256(table),
            pattern=pattern,
            special=special,
        ),
        table=table,
        file=body,
        encode=_LazyTiktoken(pattern, ranks, special),
    )


def read_ranks(body: bytes) -> dict[bytes, int]:
    """The tokens of a rank file. ValueError names the line."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(body.splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError as error:
            raise ValueError(f"--tokenizer: line {number} is not a token in base64, a space and its rank") from error
    missing = 256 - sum(bytes([i]) in ranks for i in range(256))
    if missing:
        raise ValueError(f"--tokenizer: {missing} of the 256 single bytes have no rank, so not every text has tokens")
    return ranks


def _read_settings(path: Path) -> tuple[str, dict[str, int]]:
    """Pattern and special tokens of a rank file: from the TOML beside it, or by its name."""
    beside = path.with_suffix(".toml")
    if not beside.exists():
        if path.stem in PATTERNS:
            return PATTERNS[path.stem], SPECIAL[path.stem]
        raise ValueError(
            f"--tokenizer: how {path.name} cuts text is not known: write {beside.name} beside it with pattern and"
            f" [special], or name the file {', '.join(PATTERNS)}.tiktoken if it is one of these"
        )
    try:
        said = tomllib.loads(beside.read_text())
        pattern, special = said["pattern"], said["special"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{beside}: must be TOML with pattern and [special]: {error}") from error
    if not isinstance(pattern, str) or not all(type(i) is int and i >= 0 for i in special.values()):
        raise ValueError(f"{beside}: pattern must be a text, and every special token a number")
    return PATTERNS.get(pattern, pattern), special


def table_of(ranks: dict[bytes, int], special: dict[str, int]) -> Table:
    if len(ids := {*ranks.values(), *special.values()}) != len(ranks) + len(special):
        raise ValueError("--tokenizer: two tokens have the same id")
    table = empty_table(max(ids))
    for token, rank in ranks.items():
        table[rank] = token
    return table


class _LazyTiktoken:
    """Imports tiktoken with the first text: it is needed to cut text, not to know lengths."""

    def __init__(self, pattern: str, ranks: dict[bytes, int], special: dict[str, int]) -> None:
        self._pattern, self._ranks, self._special = pattern, ranks, special
        self._encoding: Any = None

    def __call__(self, texts: Sequence[bytes]) -> list[Ids]:
        if self._encoding is None:
            self._encoding = self._open()
        decoded = [text.decode() for text in texts]
        refuse_long_blanks(decoded)
        with panics_told("tiktoken"):
            rows = self._encoding.encode_ordinary_batch(decoded, num_threads=os.cpu_count() or 1)
        return [np.array(row, np.uint32) for row in rows]

    def _open(self) -> Any:
        try:
            import tiktoken
        except ImportError as error:
            raise ValueError(f"--tokenizer: ranks need the package tiktoken; {WAY_OUT}") from error
        try:
            return tiktoken.Encoding(
                "countersign", pat_str=self._pattern, mergeable_ranks=self._ranks, special_tokens=self._special
            )
        except ValueError as error:
            raise ValueError(f"--tokenizer: pattern: {error}") from error
