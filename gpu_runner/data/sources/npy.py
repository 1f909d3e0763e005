"""Reads numpy's .npy, as build-nanogpt writes its shards: a header with the type, then one flat array of tokens.

Nothing is unpickled. Files with that suffix but without the header, such as OLMo's, are for ``nanogpt``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as numpy_format

from gpu_runner.data.sources.shards import open_shards
from gpu_runner.data.sources.source import TokenFile, TokenSource

SUFFIXES = (".npy",)
KINDS = "iu"  # integers, with and without a sign


def has_header(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(numpy_format.MAGIC_PREFIX)) == numpy_format.MAGIC_PREFIX


def open_source(folder: Path) -> TokenSource:
    """ValueError names a file that is no array of integers, or shorter than its header says."""
    return open_shards(folder, "npy", SUFFIXES, _open)


def _open(path: Path) -> TokenFile:
    shape, is_fortran, dtype, offset = _header(path)
    if dtype.hasobject or dtype.kind not in KINDS:
        raise ValueError(f"{path}: holds {dtype}, no whole numbers; write its tokens as uint16 or uint32")
    if math.prod(shape) != max(shape, default=0):  # one row or one column lies as a flat array does
        raise ValueError(_why_not_flat(path, shape, is_fortran))
    wanted = offset + math.prod(shape) * dtype.itemsize
    if (found := path.stat().st_size) != wanted:
        raise ValueError(f"{path}: {found:,} bytes where its header tells of {wanted:,}; fetch it again")
    return TokenFile(path=path, offset=offset, num_tokens=math.prod(shape), stored=dtype.str)


def _header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, type, and the header's own length in bytes."""
    with open(path, "rb") as file:
        try:
            version = numpy_format.read_magic(file)
            read = numpy_format.read_array_header_1_0 if version == (1, 0) else numpy_format.read_array_header_2_0
            shape, is_fortran, dtype = read(file)
        except (ValueError, TypeError, SyntaxError) as error:
            raise ValueError(
                f"{path}: does not begin with numpy's header ({str(error).splitlines()[0]}); without one it is --format"
                " nanogpt"
            ) from error
        return shape, is_fortran, dtype, file.tell()


def _why_not_flat(path: Path, shape: tuple[int, ...], is_fortran: bool) -> str:
    said = " x ".join(f"{length:,}" for length in shape) or "no length"
    order = ", column after column" if is_fortran else ""
    return (
        f"{path}: is an array of {said}{order}, not one row of tokens: where its rows follow each other in the text,"
        " write array.reshape(-1) instead; where they are cut or filled up, write them end to end without the filling"
    )
