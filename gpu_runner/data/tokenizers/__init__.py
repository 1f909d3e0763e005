"""Text to tokens, and how many bytes of text each token stands for: one module for each kind.

    bytes            raw_bytes.py
    FILE.tiktoken    ranks.py
    FILE.json        huggingface.py

A pickled tokenizer is never opened: a pickle runs whatever its author liked.
"""

from __future__ import annotations

from pathlib import Path

from gpu_runner.data import manifest
from gpu_runner.data.tokenizers import huggingface, ranks, raw_bytes
from gpu_runner.data.tokenizers.encoder import Encoder, Table
from gpu_runner.data.tokens import Ids

SENTENCEPIECE = b"\n"  # the first field of its message, which has 0 bytes as no text has
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")


def open_tokenizer(chosen: str, separator: str | None = None) -> Encoder:
    """``bytes`` or a file, as the head of this module lists them. ValueError says what is wrong with it."""
    if chosen == "bytes":
        if separator not in (None, str(raw_bytes.SEPARATOR)):
            raise ValueError("--separator: with bytes a 0 ends a document; leave it out, or name a --tokenizer")
        return raw_bytes.encoder()
    path = Path(chosen)
    if path.suffix in PICKLES:
        raise ValueError(
            f"--tokenizer: {path.name} is a pickle, and opening one runs what is in it; where you trust it, write its"
            " ranks as text (docs/data.md has the five lines) and name that file"
        )
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ValueError(f"--tokenizer: {chosen} cannot be read: {error.strerror}; name a file, or bytes") from error
    if body.startswith(SENTENCEPIECE) and b"\0" in body:
        raise ValueError(
            f"--tokenizer: {path.name} is a model of SentencePiece, which changes spaces, so a token's bytes of text"
            " are not exact; use a byte-level tokenizer.json, ranks of tiktoken, or bytes"
        )
    return huggingface.encoder(body, separator) if path.suffix == ".json" else ranks.encoder(path, body, separator)


def special_tokens(encoder: Encoder) -> dict[str, int]:
    """Name -> id of the tokens that no text has."""
    if encoder.about.kind == "huggingface":
        assert encoder.file is not None
        return huggingface.table_of(huggingface.parse(encoder.file))[1]
    return dict(encoder.about.special)


def stored_table(home: Path, about: manifest.Tokenizer) -> Table | None:
    """The bytes behind each id of a prepared dataset; None where they are not known.

    ValueError when the file is missing.
    """
    if about.kind == "unknown":
        return None
    if about.kind == "bytes":
        return raw_bytes.encoder().table
    path = home / manifest.TOKENIZER_FILE[about.kind]
    try:
        body = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: missing ({error.strerror}); prepare the dataset again") from error
    if about.kind == "tiktoken":
        return ranks.table_of(ranks.read_ranks(body), about.special)
    return huggingface.table_of(huggingface.parse(body))[0]


def decode(table: Table, ids: Ids) -> str:
    """The ids as text for people; bytes that are not UTF-8 become U+FFFD."""
    return b"".join(table[int(i)] for i in ids).decode(errors="replace")
