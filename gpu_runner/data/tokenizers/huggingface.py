"""Hugging Face's tokenizer.json, where it gives every byte of a text to exactly one token.

That is byte-level BPE without normalizer. All else is refused: where a tokenizer changes or drops
text, the bytes behind a token are not known, and bits per byte would be a guess.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from itertools import count
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
    separator_of,
)
from gpu_runner.data.tokens import Ids


def encoder(body: bytes, separator: str | None) -> Encoder:
    config = parse(body)
    table, special = table_of(config)
    return Encoder(
        about=manifest.Tokenizer(
            kind="huggingface",
            sha256=sha256(body).hexdigest(),
            vocab=len(table),
            separator=separator_of(special, separator),
            token_bytes_sha256=lengths_sha256(table),
        ),
        table=table,
        file=body,
        encode=_LazyHuggingFace(body),
    )


def parse(body: bytes) -> dict[str, Any]:
    """A tokenizer.json whose bytes are exact. ValueError otherwise."""
    try:
        config = json.loads(body)
        problem = _inexact(config)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("--tokenizer: not a tokenizer.json of Hugging Face's tokenizers") from error
    if problem:
        raise ValueError(
            f"--tokenizer: {problem}, so a token's bytes of text are not exact and nothing could be measured in bits"
            " per byte; use a byte-level BPE tokenizer without normalizer, ranks of tiktoken, or bytes"
        )
    return dict(config)


def _inexact(config: dict[str, Any]) -> str | None:
    """Why a tokenizer.json does not give every byte of a text to exactly one token; None where it does."""
    model = config["model"]
    if model.get("type") != "BPE":
        return f"its model is {model.get('type')}, not BPE"
    if config.get("normalizer"):
        return f"its normalizer {config['normalizer'].get('type')} changes the text"
    for field in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "dropout"):
        if model.get(field):
            return f"its model has {field}"
    return _inexact_cut(config.get("pre_tokenizer")) or _inexact_added(config.get("added_tokens") or [])


def _inexact_cut(cut: dict[str, Any] | None) -> str | None:
    steps = [] if cut is None else cut["pretokenizers"] if cut["type"] == "Sequence" else [cut]
    kinds = {step["type"] for step in steps}
    if "ByteLevel" not in kinds:
        return "its pre-tokenizer is not byte-level"
    if other := kinds - {"ByteLevel", "Split", "Digits", "Punctuation"}:
        return f"its pre-tokenizer {', '.join(sorted(other))} may drop text"
    if any(step.get("behavior") == "Removed" for step in steps):
        return "its pre-tokenizer drops what it splits at"
    return "its pre-tokenizer adds a space" if any(step.get("add_prefix_space") for step in steps) else None


def _inexact_added(added: list[dict[str, Any]]) -> str | None:
    """Why an added token is inexact, such as one that takes the spaces around it.

    Special ones are never looked for in text.
    """
    greedy = [t["content"] for t in added if not t["special"] and (t.get("lstrip") or t.get("rstrip"))]
    return f"its token {greedy[0]!r} swallows the spaces beside it" if greedy else None


def table_of(config: dict[str, Any]) -> tuple[Table, dict[str, int]]:
    """What each id stands for, and the special tokens. ValueError for tokens outside of the byte alphabet."""
    vocab, added = config["model"]["vocab"], config.get("added_tokens") or []
    special = {token["content"]: token["id"] for token in added if token["special"]}
    own = {content: i for content, i in vocab.items() if content not in special}
    missing = [letter for letter in byte_alphabet() if letter not in own]
    if missing:
        raise ValueError(f"--tokenizer: {len(missing)} of the 256 bytes have no token, so text would be dropped")
    table = empty_table(max([*vocab.values(), *(token["id"] for token in added)]))
    plain = {token["id"]: token["content"].encode() for token in added if not token["special"]}
    for content, i in own.items():
        table[i] = plain.get(i) or _letters_to_bytes(content)
    for i, content in plain.items():
        table[i] = content
    return table, special


@cache
def byte_alphabet() -> dict[str, int]:
    """Letter -> byte of byte-level BPE (GPT-2): printable bytes are themselves, the others U+0100 and on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    following = count(256)
    return {chr(byte if byte in printable else next(following)): byte for byte in range(256)}


def _letters_to_bytes(content: str) -> bytes:
    try:
        return bytes(byte_alphabet()[letter] for letter in content)
    except KeyError as error:
        raise ValueError(f"--tokenizer: the token {content!r} is not of the byte-level alphabet") from error


class _LazyHuggingFace:
    """Imports tokenizers with the first text."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._opened: Any = None

    def __call__(self, texts: Sequence[bytes]) -> list[Ids]:
        if self._opened is None:
            self._opened = self._open()
        decoded = [text.decode() for text in texts]
        with panics_told("tokenizers"):
            rows = self._opened.encode_batch_fast(decoded, add_special_tokens=False)
        return [np.array(row.ids, np.uint32) for row in rows]

    def _open(self) -> Any:
        try:
            import tokenizers
        except ImportError as error:
            raise ValueError(f"--tokenizer: tokenizer.json needs the package tokenizers; {WAY_OUT}") from error
        try:
            opened = tokenizers.Tokenizer.from_buffer(self._body)
        except Exception as error:  # it raises nothing narrower
            raise ValueError(f"--tokenizer: tokenizers cannot read it: {error}") from error
        opened.no_truncation()
        opened.no_padding()
        opened.encode_special_tokens = True  # "<|endoftext|>" in a text is text, thirteen bytes
        return opened
