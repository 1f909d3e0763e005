"""The interface of all tokenizers: texts to ids, and the bytes of text behind each id.

FOOT-GUN: lengths are taken from the tokens' own bytes. ``decode([id])`` of a token that is part of a
character gives U+FFFD, three bytes whatever the token has; that alone moved other people's bits per
byte by 4 %.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np

from gpu_runner.data import manifest
from gpu_runner.data.tokens import Ids, TokenBytes

Table = list[bytes]
"""What every id stands for; empty for special tokens and for ids that no text has."""

MAX_VOCAB = 1 << 18
# The first that a tokenizer has ends a document of text; in tokens of others it is looked for (data/separators.py).
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>", "<|eos|>")
BEGIN_OF_TEXT = ("<|bos|>", "<|begin_of_text|>", "<s>", "<bos>", "<｜begin▁of▁sentence｜>", "<|startoftext|>")
# Of tiktoken's patterns the blanks keep a place on a stack for each character of a run, and the stack has a million
# places: beyond them the library ends in a panic of Rust, which is no Exception.
MAX_BLANKS = 900_000
WAY_OUT = "install it with `python3 webapp/house/install.py .venv data`, in the checkout"


class Unencodable(ValueError):
    """A text that the tokenizer's library cannot encode: the ``index``-th of those given, None where not known."""

    def __init__(self, why: str, index: int | None = None) -> None:
        super().__init__(f"{why}; split such runs, or use another tokenizer, such as --tokenizer bytes")
        self.index = index


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A tokenizer that is at hand. ``encode`` gives every text's ids, without separator.

    It raises UnicodeDecodeError where a text has to be UTF-8 and is not, Unencodable where the library fails.
    """

    about: manifest.Tokenizer
    table: Table
    file: bytes | None  # what is kept beside the shards
    encode: Callable[[Sequence[bytes]], list[Ids]]

    @cached_property
    def token_bytes(self) -> TokenBytes:
        """Bytes of text behind each id, [V] uint16."""
        return np.array([len(token) for token in self.table], dtype="<u2")


def refuse_long_blanks(texts: Sequence[str]) -> None:
    """Unencodable for a text with more blanks in a row than tiktoken's patterns can split."""
    for index, text in enumerate(texts):
        if len(text) <= MAX_BLANKS:
            continue
        longest = max((len(found[0]) for found in re.finditer(r"\s+", text)), default=0)
        if longest > MAX_BLANKS:
            raise Unencodable(f"holds {longest:,} blanks in a row, and tiktoken cuts at most {MAX_BLANKS:,}", index)


@contextmanager
def panics_told(library: str) -> Iterator[None]:
    """Turns a panic of Rust, which comes as a BaseException, into Unencodable. KeyboardInterrupt passes."""
    try:
        yield
    except BaseException as error:
        kind = type(error)
        if (kind.__module__, kind.__name__) != ("pyo3_runtime", "PanicException"):
            raise
        said = str(error).splitlines()[0] if str(error) else "without a word"
        raise Unencodable(f"{library} gave up on a text, as it does on very long runs of one kind ({said})") from error


def separator_of(special: dict[str, int], wanted: str | None) -> int:
    """The id of the token that ends a document."""
    if wanted is not None and wanted.isdecimal() and int(wanted) in special.values():
        return int(wanted)
    names = (wanted,) if wanted is not None else END_OF_TEXT + BEGIN_OF_TEXT
    found = next((special[name] for name in names if name in special), None)
    if found is None:
        known = ", ".join(list(special)[:8]) or "none"
        raise ValueError(f"--separator: the tokenizer has no special token {' or '.join(names)}; it has {known}")
    return found


def empty_table(largest: int) -> Table:
    """A table for ids up to ``largest``. ValueError when these are more than can be scored."""
    if largest >= MAX_VOCAB:
        raise ValueError(f"--tokenizer: has the id {largest:,}; at most {MAX_VOCAB:,} tokens can be trained and scored")
    return [b""] * (largest + 1)


def lengths_sha256(table: Table) -> str:
    """sha256 of token_bytes.bin. ValueError for a token that is too long for it."""
    longest = max(map(len, table))
    if longest >= 1 << 16:
        raise ValueError(f"--tokenizer: a token stands for {longest:,} bytes; at most 65,535 can be counted")
    return sha256(np.array([len(token) for token in table], "<u2").tobytes()).hexdigest()
