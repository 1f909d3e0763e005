"""Decodes text that may be encoded or packed, in every way that fits, within bounds."""

from __future__ import annotations

import base64
import binascii
import bz2
import codecs
import lzma
import re
import zlib
from collections.abc import Callable, Iterator

SHORTEST = 32  # characters; less cannot hold a stretch
MAX_BYTES = 4 << 20  # of one unpacked text, more than any allowance: what is cut off here is never passed over
MAX_DEPTH = 4  # encodings one in the other
LZMA_BYTES = 64 << 20  # of memory
_SPACE = re.compile(rb"\s+")


class Allowance:
    """How many bytes may be decoded of one source, however nested. ``is_spent``: not all was decoded."""

    def __init__(self, num_bytes: int) -> None:
        self.left = num_bytes
        self.is_spent = False

    def take(self, num_bytes: int) -> bool:
        if num_bytes > self.left:
            self.is_spent = True
            return False
        self.left -= num_bytes
        return True


def unpacked(blob: bytes, allowance: Allowance, depth: int = MAX_DEPTH) -> Iterator[bytes]:
    """Everything that ``blob`` decodes to, and everything that this decodes to."""
    if depth == 0 or len(blob) < SHORTEST:
        return
    for decode in (*_TEXTS, *_PACKED):
        decoded = decode(blob)
        if decoded is None or len(decoded) < SHORTEST or decoded == blob:
            continue
        if not allowance.take(len(decoded)):
            return
        yield decoded
        yield from unpacked(decoded, allowance, depth - 1)


def turned(text: str) -> Iterator[str]:
    """The text as it is, from behind, and by ROT13."""
    yield text
    yield text[::-1]
    yield codecs.encode(text, "rot13")


def _text(decode: Callable[[bytes], bytes], alphabet: bytes) -> Callable[[bytes], bytes | None]:
    foreign = re.compile(b"[^" + alphabet + b"]")

    def read(blob: bytes) -> bytes | None:
        bare = _SPACE.sub(b"", blob)
        if foreign.search(bare):
            return None
        try:
            return decode(bare)
        except (ValueError, binascii.Error):
            return None

    return read


def _padded(decode: Callable[[bytes], bytes], unit: int) -> Callable[[bytes], bytes]:
    """Decodes whole units and drops the rest at the end: of a text that was cut, the beginning still decodes."""

    def read(bare: bytes) -> bytes:
        bare = bare.rstrip(b"=")
        whole, rest = divmod(len(bare), unit)
        try:
            return decode(bare + b"=" * (unit - rest if rest else 0))
        except (ValueError, binascii.Error):
            return decode(bare[: whole * unit])

    return read


def _packed(
    open_one: Callable[[], zlib._Decompress | bz2.BZ2Decompressor | lzma.LZMADecompressor],
) -> Callable[[bytes], bytes | None]:
    def read(blob: bytes) -> bytes | None:
        try:
            return open_one().decompress(blob, MAX_BYTES) or None
        except (OSError, ValueError, EOFError, MemoryError, zlib.error, lzma.LZMAError):
            return None

    return read


_TEXTS = (
    _text(lambda bare: binascii.unhexlify(bare[: len(bare) // 2 * 2]), rb"0-9A-Fa-f"),
    _text(_padded(base64.b64decode, 4), rb"A-Za-z0-9+/="),
    _text(_padded(base64.urlsafe_b64decode, 4), rb"A-Za-z0-9_=\-"),
    _text(_padded(base64.b32decode, 8), rb"A-Z2-7="),
    _text(base64.b85decode, rb"!#-&(-+\-0-9;-@A-Z^-`a-~"),
    _text(base64.a85decode, rb"!-uz"),
)
_PACKED = (
    _packed(lambda: zlib.decompressobj(zlib.MAX_WBITS | 32)),
    _packed(lambda: zlib.decompressobj(-zlib.MAX_WBITS)),
    _packed(bz2.BZ2Decompressor),
    _packed(lambda: lzma.LZMADecompressor(memlimit=LZMA_BYTES)),
)
