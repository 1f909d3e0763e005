"""The manifest of a dataset: frozen, hashed, and the same on every machine that prepared the same text.

An approval pins ``manifest_sha256``. It covers every shard, the tokenizer and the bytes of text that each token
stands for, so that two workers with one hash measure the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from gpu_runner.contract import Wire, canonical_json

SPLITS = ("train", "watch", "val", "sealed")
HELD_OUT = ("watch", "val", "sealed")
FOLDER = {"train": "train", "watch": "train", "val": "val", "sealed": "sealed"}
TOKENIZER_FILE = {"tiktoken": "tokenizer.tiktoken", "huggingface": "tokenizer.json"}
TOKEN_BYTES = "token_bytes.bin"  # noqa: S105  # a file in train/, no password
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"  # of a dataset
WIDTH = {"uint8": 1, "uint16": 2, "uint32": 4}  # bytes of one token in a shard

Dtype = Literal["uint8", "uint16", "uint32"]
Sha256 = str


class Shard(Wire):
    """One file of tokens and nothing else."""

    file: str = Field(pattern=r"^[a-z]+-[0-9]{5}\.bin$")
    num_tokens: int = Field(ge=1)
    sha256: Sha256


class Overlap(Wire):
    """How many of a held-out split's 13-grams also stand in the training text (overlap.py)."""

    unit: Literal["words", "tokens"]
    num: int  # that were looked for
    num_shared: int

    @property
    def share(self) -> float:
        return self.num_shared / self.num if self.num else 0.0


class Split(Wire):
    """A split's shards in order. What the source does not tell is None, never 0."""

    shards: tuple[Shard, ...] = Field(min_length=1)
    num_tokens: int
    num_bytes: int | None  # of text that the tokens stand for
    num_documents: int | None
    overlap: Overlap | None = None  # with train; None for train itself

    @model_validator(mode="after")
    def _adds_up(self) -> Split:
        if self.num_tokens != sum(shard.num_tokens for shard in self.shards):
            raise ValueError(f"num_tokens: {self.num_tokens} is not what its shards have together")
        return self


class Tokenizer(Wire):
    """The tokenizer of the tokens. ``unknown``: a file of tokens came without it."""

    kind: Literal["bytes", "tiktoken", "huggingface", "unknown"]
    sha256: Sha256 | None  # of TOKENIZER_FILE[kind]; None for bytes and unknown
    vocab: int = Field(ge=1)
    separator: int | None  # stands behind every document; None where documents are not marked
    token_bytes_sha256: Sha256 | None  # of train/token_bytes.bin, uint16 [vocab]; None for unknown
    pattern: str | None = None  # of tiktoken: how text is cut before merging
    special: dict[str, int] = {}  # of tiktoken: tokens that no text has


class Manifest(Wire):
    """The description of a dataset. It has no local path: the same text gives the same manifest anywhere."""

    name: str = Field(pattern=NAME)
    tokenizer: Tokenizer
    dtype: Dtype  # of one token in a shard, little-endian
    source: dict[str, str | int]
    splits: dict[str, Split]

    @model_validator(mode="after")
    def _has_every_split(self) -> Manifest:
        if tuple(sorted(self.splits)) != tuple(sorted(SPLITS)):
            raise ValueError(f"splits: must be {', '.join(SPLITS)}")
        return self


def load_manifest(home: Path) -> Manifest:
    """The manifest of the dataset in ``home``, or of the copy in its train/. ValueError when missing or malformed."""
    path = home / "manifest.json"
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: no dataset here; run `python -m gpu_runner data prepare`") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a manifest: {error}") from error


def manifest_sha256(home: Path) -> Sha256:
    """sha256 (hex) of the manifest's canonical JSON, by which a run pins its dataset."""
    return sha256(canonical_json(load_manifest(home).model_dump(mode="json"))).hexdigest()


def shard_paths(home: Path, manifest: Manifest, split: str) -> list[Path]:
    """The files of a split's tokens, in order."""
    return [home / FOLDER[split] / shard.file for shard in manifest.splits[split].shards]


def files(home: Path, manifest: Manifest) -> Iterator[tuple[Path, Sha256, int | None]]:
    """Every file that the manifest covers: path, sha256, and bytes where they are known."""
    for split, expected in manifest.splits.items():
        for path, shard in zip(shard_paths(home, manifest, split), expected.shards, strict=True):
            yield path, shard.sha256, shard.num_tokens * WIDTH[manifest.dtype]
    about = manifest.tokenizer
    if about.token_bytes_sha256:
        yield home / "train" / TOKEN_BYTES, about.token_bytes_sha256, 2 * about.vocab
    if about.sha256:
        yield home / TOKENIZER_FILE[about.kind], about.sha256, None


def file_sha256(path: Path) -> Sha256:
    """sha256 (hex) of a file of any size."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
