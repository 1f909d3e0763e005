"""Reads Megatron-LM's indexed dataset: PREFIX.bin holds tokens and nothing else, PREFIX.idx their type and sequences.

Of the index only the type and the number of tokens are used. The ends of documents are found by the separator that
``--append-eod`` wrote behind each, as for all tokens (megatron/core/datasets/indexed_dataset.py).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from gpu_runner.data.sources.shards import open_shards
from gpu_runner.data.sources.source import TokenFile, TokenSource

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")  # magic, version, code of the type, number of sequences and of documents
STORED = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}


def index_of(path: Path) -> Path:
    return path.with_suffix(".idx")


def has_index(path: Path) -> bool:
    """Whether an .idx lies beside the file of tokens."""
    try:
        with open(index_of(path), "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def open_source(folder: Path) -> TokenSource:
    """ValueError names a file without an index, or with another number of tokens than its index says."""
    return open_shards(folder, "megatron", (".bin",), _open, beside=".idx")


def _open(path: Path) -> TokenFile:
    if not has_index(path):
        raise ValueError(f"{path}: has no {index_of(path).name} beside it; without an index it is --format nanogpt")
    with open(index_of(path), "rb") as file:
        head = file.read(HEADER.size)
        if len(head) < HEADER.size:
            raise ValueError(f"{index_of(path)}: breaks off within its header; fetch it again")
        _, version, code, num_sequences, _ = HEADER.unpack(head)
        if version != 1 or code not in STORED:
            raise ValueError(f"{index_of(path)}: is of version {version} with numbers of type {code}, no known tokens")
        lengths = np.fromfile(file, "<i4", count=num_sequences)
    stored, found = STORED[code], path.stat().st_size
    num_tokens = int(lengths.sum(dtype=np.int64))
    if len(lengths) != num_sequences or num_tokens * np.dtype(stored).itemsize != found:
        raise ValueError(
            f"{path}: {found:,} bytes where its index tells of {num_tokens:,} tokens of {np.dtype(stored).itemsize}"
            " bytes; fetch both again"
        )
    return TokenFile(path=path, offset=0, num_tokens=num_tokens, stored=stored)
