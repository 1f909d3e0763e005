"""Reads TensorBoard's event files as they grow, without TensorBoard: scalars only, and every length is bounded.

A file is a row of records (TFRecord): length u64, checksum u32, body, checksum u32. A body is an Event of TensorFlow's
event.proto: 2 step (varint), 5 summary; of a summary 1 value; of a value 1 tag, 2 simple_value (float) or 8 tensor,
whose 5 is float_val and 6 double_val. Checksums are not looked at: a trainer that lies needs no wrong one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from gpu_runner.command.readers import Record
from gpu_runner.command.safely import listed, opened

PREFIX = "events.out.tfevents."
MAX_NAMES, MAX_FILES = 1_000, 16
MAX_BODY = 1 << 20  # of one record; a longer one (an image, a graph) is passed over
MAX_READ = 1 << 22  # bytes of one look
FAR = 1 << 40  # beyond any file: of one whose record says that it is so long, nothing more is read
_HEAD = struct.Struct("<QI")


class EventFiles:
    """The event files of one folder. ``look`` gives the records that were completed since the last look."""

    def __init__(self, folder: os.PathLike[str], path: str) -> None:
        self._folder, self._path = folder, path
        self._read_to: dict[str, int] = {}

    def look(self) -> Iterator[Record]:
        names = [name for name in listed(self._folder, self._path, MAX_NAMES) if name.startswith(PREFIX)]
        for name in names[:MAX_FILES]:
            if self._read_to.get(name, 0) < FAR and (fd := opened(self._folder, f"{self._path}/{name}")) is not None:
                with os.fdopen(fd, "rb") as file:
                    file.seek(self._read_to.get(name, 0))
                    block = file.read(MAX_READ)
                yield from self._events(name, block)

    def _events(self, name: str, block: bytes) -> Iterator[Record]:
        at = 0
        while len(block) - at >= _HEAD.size:
            length, _ = _HEAD.unpack_from(block, at)
            ends = at + _HEAD.size + length + 4
            if length <= MAX_BODY and ends > len(block):
                break  # not whole yet
            if length <= MAX_BODY:
                yield from records_of(block[at + _HEAD.size : ends - 4])
            at = min(ends, FAR)
        self._read_to[name] = self._read_to.get(name, 0) + at


def records_of(event: bytes) -> Iterator[Record]:
    """One record with "step" and every scalar of an Event; nothing where it holds none or makes no sense."""
    step, record = 0, Record()
    try:
        for field, value in _fields(event):
            if field == 2 and isinstance(value, int):
                step = value
            elif field == 5 and isinstance(value, bytes):
                record |= {tag: number for tag, number in map(_scalar, _values(value)) if number is not None}
    except (ValueError, struct.error):
        return
    if record:
        yield record | {"step": float(step)}


def _values(summary: bytes) -> Iterator[bytes]:
    yield from (value for field, value in _fields(summary) if field == 1 and isinstance(value, bytes))


def _scalar(value: bytes) -> tuple[str, float | None]:
    tag, number = "", None
    for field, part in _fields(value):
        if field == 1 and isinstance(part, bytes):
            tag = part[:200].decode(errors="replace")
        elif field == 2 and isinstance(part, float):
            number = part
        elif field == 8 and isinstance(part, bytes):
            number = _of_tensor(part)
    return tag, number


def _of_tensor(tensor: bytes) -> float | None:
    """The only number of a tensor: float_val or double_val, packed."""
    for field, part in _fields(tensor):
        if field in (5, 6) and isinstance(part, float):
            return part
        if field in (5, 6) and isinstance(part, bytes) and len(part) in (4, 8):
            return float(struct.unpack("<f" if len(part) == 4 else "<d", part)[0])
    return None


def _fields(body: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """(number, value) of each field of a protobuf message. Raises ValueError, struct.error where it makes no sense."""
    at = 0
    while at < len(body):
        key, at = _varint(body, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(body, at)
            yield number, value
        elif kind in (1, 5):
            width, form = (8, "<d") if kind == 1 else (4, "<f")
            yield number, float(struct.unpack_from(form, body, at)[0])
            at += width
        elif kind == 2:
            length, at = _varint(body, at)
            if at + length > len(body):
                raise ValueError("a field is longer than its message")
            yield number, body[at : at + length]
            at += length
        else:
            raise ValueError(f"no such kind of field: {kind}")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(body):
            raise ValueError("a number without its end")
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("a number of more than ten bytes")
