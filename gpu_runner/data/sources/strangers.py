"""Recognises files of formats that are not read here, and says what they are and what to do.

A file is known by its format's first bytes or, where the format has none, by its suffix.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path, PurePath
from typing import BinaryIO

TO_NPY = "write each of its rows of tokens with numpy.save to a .npy file, one flat array of integers"
UNPACK = "unpack it first"
PICKLED = (
    "is what torch.save or pickle wrote, and opening such a file runs what is in it; where you trust it, " + TO_NPY
)

ZIP = "is a zip archive (.npz, and what torch.save writes, are such); " + TO_NPY
ARROW = "is an Arrow file (datasets.save_to_disk writes such); write its column as .parquet"
HDF5 = "is HDF5; " + TO_NPY
POINTER = b"version https://git-lfs"
NOT_FETCHED = "is a pointer of Git LFS and not the file itself; run git lfs pull, or download it"
HEAD_BYTES = len(POINTER)
# Long enough that no first tokens of a file without a header look like them: at least four bytes.
HEADS = {
    POINTER: NOT_FETCHED,
    rb"PK\x03\x04": ZIP,
    rb"\x80\x02\x8a\x0a": PICKLED,
    rb"\x80[\x04\x05]\x95.{4}\0{4}": PICKLED,
    rb"\x1f\x8b\x08[\0\x08].{4}[\0\x02\x04][\0\x03\x0b\xff]": f"is packed by gzip; {UNPACK} (gunzip)",
    rb"\x28\xb5\x2f\xfd": f"is packed by zstandard; {UNPACK} (zstd -d)",
    rb"\xfd7zXZ\0": f"is packed by xz; {UNPACK} (unxz)",
    rb"BZh[1-9]1AY&SY": f"is packed by bzip2; {UNPACK} (bunzip2)",
    rb"\x89HDF\r\n\x1a\n": HDF5,
    rb"ARROW1\0\0": ARROW,
    rb"PAR1": "is parquet under another suffix; name it .parquet",
    rb"LITPKDS": "is a chunk of lit-gpt's PackedDataset; " + TO_NPY,
    rb"GGUF": "holds a model's weights (GGUF), no tokens; take it out of the folder",
    rb"MMIDIDX\0\0": "is the index of a Megatron-LM file; name it .idx, and the tokens beside it .bin",
}
# llm.c's other .bin files begin as its tokens do, with a number (int32) that says what they are.
LLMC = {
    20240326: "a model's weights",
    20240327: "a model's activations",
    20240328: "a tokenizer",
    20240522: "questions for an evaluation",
}
HEADS |= {
    re.escape(magic.to_bytes(4, "little")): f"holds {what} of llm.c, no text; take it out of the folder"
    for magic, what in LLMC.items()
}
SUFFIXES = {
    ".npz": ZIP,
    ".pt": PICKLED,
    ".pth": PICKLED,
    ".pkl": PICKLED,
    ".pickle": PICKLED,
    ".safetensors": "holds tensors (safetensors); " + TO_NPY,
    ".arrow": ARROW,
    ".feather": ARROW,
    ".mds": "is a shard of MosaicML's streaming; " + TO_NPY,
    ".tar": f"is an archive; {UNPACK} (tar -xf)",
    ".tgz": f"is an archive; {UNPACK} (tar -xf)",
    ".zip": f"is an archive; {UNPACK}",
    ".h5": HDF5,
    ".hdf5": HDF5,
    ".tfrecord": "is a TFRecord; " + TO_NPY,
    ".pbin": "is a packed file of Modalities, whose index is a pickle; " + TO_NPY,
    ".array_record": "is an ArrayRecord; " + TO_NPY,
}
LITDATA = "is a chunk of litdata, which index.json beside it describes; " + TO_NPY
PACKED = (".gz", ".zst", ".xz", ".bz2")


def by_its_head(path: Path) -> str | None:
    """``is a zip archive ...; ...`` when the file begins as another format does; None when it may hold tokens."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        if _is_litdata(head, file):
            return LITDATA
    return next((what for mark, what in HEADS.items() if re.match(mark, head, re.DOTALL)), None)


def _is_litdata(head: bytes, file: BinaryIO) -> bool:
    """Whether the file is laid out as a chunk of litdata (litdata/streaming/writer.py).

    uint32: the number of items, then where each begins and the last ends. The first begins behind these numbers, and
    the last ends with the file.
    """
    if len(head) < 8:
        return False
    num, first = struct.unpack("<II", head[:8])
    if num < 1 or first != 4 + 4 * (num + 1):
        return False
    file.seek(4 + 4 * num)
    return file.read(4) == (file.seek(0, 2)).to_bytes(8, "little")[:4]


def refuse_pointer(path: Path) -> None:
    """ValueError for a pointer of Git LFS, which a clone without LFS has in a file's place and which is text."""
    with open(path, "rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise ValueError(f"{path}: {NOT_FETCHED}")


def by_its_name(path: PurePath) -> str | None:
    """As ``by_its_head``, by the suffix; None for an unknown one."""
    if path.suffix.lower() in PACKED and PurePath(path.stem).suffix.lower() in (".bin", ".npy", ".ds", ".tar"):
        return f"is packed; {UNPACK}"
    return SUFFIXES.get(path.suffix.lower())
