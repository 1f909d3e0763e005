"""The dataset as a foreign trainer expects to find it: training text and the watch split, and never held-out text.

    ours      train/ as it is: shards of tokens and nothing else, manifest.json, token_bytes.bin
    nanogpt   train.bin and val.bin, uint16 and nothing else, and meta.pkl with the vocabulary's size
    llmc      PREFIXtrain_000001.bin, ... and PREFIXval_000000.bin: 256 int32, then uint16 (or, of larger vocabularies,
              uint32) tokens, as llm.c, build-nanogpt's successors and modded-nanogpt read them

val.bin is the *watch* split: the trainer's own number on it is its own word. What a verdict rests on is held out, and
nothing of that is here. Ours end a document with its separator, where llm.c begins it with one: between two documents
that is the same.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gpu_runner.contract import canonical_json, sha256
from gpu_runner.data.manifest import Manifest, load_manifest, manifest_sha256
from gpu_runner.data.tokens import TokenArray

CHUNK = 1 << 22  # tokens held at once
SHARD = 100_000_000  # tokens, as modded-nanogpt's
UINT16 = 1 << 16
MAGIC = {2: (20240520, 1), 4: (20240801, 7)}  # bytes of a token -> llm.c's magic number and version


def laid_out(dataset: Path, layout: str, prefix: str, kept: Path) -> Path:
    """The folder that is shown as {data}: made once for a dataset and layout, below ``kept``.

    Raises ValueError that names the layout where it cannot hold the dataset's tokens, OSError where the disk is full.
    """
    if layout == "ours":
        return dataset / "train"
    manifest = load_manifest(dataset)
    if layout == "nanogpt" and manifest.tokenizer.vocab > UINT16:
        raise ValueError(
            f"layout: nanogpt holds tokens of 16 bits, and the vocabulary of {manifest.name} has"
            f" {manifest.tokenizer.vocab:,}; choose llmc or ours"
        )
    folder = kept / sha256(canonical_json([manifest_sha256(dataset), layout, prefix, "1"]))[:32]
    if not folder.is_dir():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            fresh = Path(scratch) / "data"
            fresh.mkdir()
            _fill(fresh, dataset, manifest, layout, prefix)
            for path in fresh.iterdir():
                path.chmod(0o444)  # where there is no sandbox, a trainer that writes by mistake is told
            _take_place(fresh, folder)
    return folder


def _take_place(fresh: Path, folder: Path) -> None:
    try:
        os.rename(fresh, folder)
    except OSError:  # another worker of this machine was first: theirs is the same
        if not folder.is_dir():
            raise
        shutil.rmtree(fresh)


def _fill(folder: Path, dataset: Path, manifest: Manifest, layout: str, prefix: str) -> None:
    text, watched = (TokenArray(dataset / "train", manifest, split) for split in ("train", "watch"))
    if layout == "nanogpt":
        for name, tokens in (("train.bin", text), ("val.bin", watched)):
            _write(folder / name, tokens, 0, len(tokens), np.dtype("<u2"), b"")
        (folder / "meta.pkl").write_bytes(_meta(manifest))
        return
    width = np.dtype("<u2" if manifest.tokenizer.vocab <= UINT16 else "<u4")
    for number, start in enumerate(range(0, len(text), SHARD), start=1):
        stop = min(start + SHARD, len(text))
        _write(folder / f"{prefix}train_{number:06d}.bin", text, start, stop, width, _header(stop - start, width))
    _write(folder / f"{prefix}val_000000.bin", watched, 0, len(watched), width, _header(len(watched), width))


def _write(path: Path, tokens: TokenArray, start: int, stop: int, width: np.dtype[np.generic], head: bytes) -> None:
    with path.open("wb") as file:
        file.write(head)
        for first in range(start, stop, CHUNK):
            file.write(tokens.span(first, min(first + CHUNK, stop)).astype(width).tobytes())


def _header(num_tokens: int, width: np.dtype[np.generic]) -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = (*MAGIC[width.itemsize], num_tokens)
    return header.tobytes()


def _meta(manifest: Manifest) -> bytes:
    """nanoGPT's meta.pkl: plain numbers and texts. Of bytes also which is which, for its sample.py."""
    return pickle.dumps(dict(_known(manifest)), protocol=4)


def _known(manifest: Manifest) -> Iterator[tuple[str, object]]:
    yield "vocab_size", manifest.tokenizer.vocab
    if manifest.tokenizer.kind == "bytes":
        itos = {number: chr(number) for number in range(manifest.tokenizer.vocab)}
        yield from (("itos", itos), ("stoi", {character: number for number, character in itos.items()}))
