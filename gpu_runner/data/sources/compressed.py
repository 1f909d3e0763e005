"""Opens files as streams of bytes, packed or not, unpacked piece by piece."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os.path import splitext
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpu_runner.data.tokenizers.encoder import WAY_OUT

TIMES_SMALLER = 4  # about, for text: what the progress bar and the share that is held out go by


def _open_zst(path: Path) -> BinaryIO:
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError(f"{path}: zstandard needs the package pyarrow; {WAY_OUT}, or unpack it (zstd -d)") from error
    return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))


def _open_plain(path: Path) -> BinaryIO:
    return open(path, "rb")


OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zst}


def is_packed(path: Path) -> bool:
    return path.suffix.lower() in OPENERS


def kind_of(path: Path) -> str:
    """The suffix in lower case, without that of the packing: ``.jsonl`` of a.JSONL.gz; "" where there is none."""
    stem, suffix = splitext(path.name.lower())  # of many files, so without a Path for each
    return splitext(stem)[1] if suffix in OPENERS else suffix


def num_bytes_of(path: Path) -> int:
    """Size of the unpacked file, about."""
    return path.stat().st_size * (TIMES_SMALLER if is_packed(path) else 1)


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes. ValueError that names it where it is cut off or not what its suffix says."""
    opener = OPENERS.get(path.suffix.lower(), _open_plain)
    with opener(path) as file:
        if opener is _open_plain:
            yield file
            return
        try:
            yield file
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.strerror:  # of the disk, not of what is on it
                raise
            long = " (zstd -d --long=31)" if path.suffix.lower() == ".zst" else ""
            raise ValueError(
                f"{path}: cannot be unpacked ({error}); fetch it again, or unpack it yourself{long}"
            ) from error
