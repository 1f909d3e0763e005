"""Reads the parts of Weights & Biases' own run file (``run-ID.wandb``) that say what a run was and how it went. Pure.

The file is a LevelDB log (blocks of 32 KiB, records in pieces) of protocol buffers. Only the wire format is read, by
field numbers: wandb_internal.proto, as of 0.31; older versions write values as JSON where newer ones write their type.
A run that was killed leaves a torn end, and what stands before it counts.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

BLOCK, HEAD = 32_768, 7
MAGIC = b":W&B\xe1\xbe"
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAX_RECORD = 4 * 2**20
# Fields of Record, and of what is in it.
HISTORY, SUMMARY, CONFIG, RUN, EXIT = 2, 3, 5, 17, 18
RUN_CONFIG, RUN_NAME, RUN_NOTES = 4, 8, 9
KEY, NESTED_KEY, VALUE_JSON = 1, 2, 16
NONE, BOOLEAN, INTEGER, NUMBER, TEXT, JSON = 3, 4, 5, 6, 7, 8

Value = int | bytes
Fields = dict[int, list[Value]]


@dataclass
class Story:
    """What a run file tells: settings, the last and the extreme value of each number, how it ended."""

    name: str = ""
    notes: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)  # lowest, highest
    exit_code: int | None = None  # None: it was killed, or still runs
    num_records: int = 0


def story(body: bytes, told: Story | None = None) -> Story:
    """What a run file tells, after what an earlier one of the same run has ``told``. Raises ValueError for others."""
    if not body.startswith(MAGIC[:4]):
        raise ValueError("it is no run file of Weights & Biases: it does not begin with :W&B")
    told = told or Story()
    told.exit_code = None
    for record in _records(body):
        try:
            _take(told, fields_of(record))
        except (ValueError, struct.error):
            break  # torn: what follows cannot be trusted to begin where it should
        told.num_records += 1
    return told


def _records(body: bytes) -> Iterator[bytes]:
    """The records of the log, put together again; ends at the first piece that is torn."""
    at, held = HEAD, b""
    while at + HEAD <= len(body):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK  # the rest of a block is padding
            continue
        size, kind = struct.unpack_from("<HB", body, at + 4)
        piece = body[at + HEAD : at + HEAD + size]
        if kind not in (FULL, FIRST, MIDDLE, LAST) or len(piece) < size or len(held) > MAX_RECORD:
            return
        held = piece if kind in (FULL, FIRST) else held + piece
        if kind in (FULL, LAST):
            yield held
            held = b""
        at += HEAD + size


# --- protocol buffers -----------------------------------------------------------------------------


def fields_of(message: bytes) -> Fields:
    """Field number -> its values: whole numbers, or bytes. Raises ValueError where it is torn."""
    found: Fields = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _value(message, at, tag & 7)
        found.setdefault(tag >> 3, []).append(value)
    return found


def _value(message: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return _varint(message, at)
    size, at = {1: (8, at), 5: (4, at)}.get(kind) or (_varint(message, at) if kind == 2 else (len(message) + 1, at))
    if at + size > len(message):
        raise ValueError("a field reaches beyond its message")
    return message[at : at + size], at + size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a number reaches beyond its message")
        byte = message[at]
        value, at = value | (byte & 127) << shift, at + 1
        if byte < 128:
            return value, at
    raise ValueError("a number of more than ten bytes")


def _messages(given: Fields, number: int) -> Iterator[Fields]:
    return (fields_of(value) for value in given.get(number, ()) if isinstance(value, bytes))


def _text(given: Fields, number: int) -> str:
    last = given.get(number, [b""])[-1]
    return last.decode(errors="replace") if isinstance(last, bytes) else ""


# --- what the records say -------------------------------------------------------------------------


def _take(told: Story, record: Fields) -> None:
    for run in _messages(record, RUN):
        told.name, told.notes = _text(run, RUN_NAME) or told.name, _text(run, RUN_NOTES) or told.notes
        for config in _messages(run, RUN_CONFIG):
            _settings(told.config, config)
    for config in _messages(record, CONFIG):
        _settings(told.config, config)
    for summary in _messages(record, SUMMARY):
        for item in _messages(summary, 1):
            told.last[_key(item)] = _said(item)
    for history in _messages(record, HISTORY):
        for item in _messages(history, 1):
            _measured(told, _key(item), _said(item))
    for ended in _messages(record, EXIT):
        code = ended.get(1, [0])[-1]
        told.exit_code = code if isinstance(code, int) else None


def _settings(config: dict[str, Any], record: Fields) -> None:
    for item in _messages(record, 1):
        config[_key(item)] = _said(item)
    for item in _messages(record, 2):
        config.pop(_key(item), None)


def _measured(told: Story, key: str, value: Any) -> None:
    told.last[key] = value
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        low, high = told.extremes.get(key, (value, value))
        told.extremes[key] = (min(low, value), max(high, value))


def _key(item: Fields) -> str:
    nested = [value.decode(errors="replace") for value in item.get(NESTED_KEY, ()) if isinstance(value, bytes)]
    return _text(item, KEY) or ".".join(nested)


def _said(item: Fields) -> Any:
    """An item's value, as JSON or by its type."""
    if VALUE_JSON in item or JSON in item:
        return _json(_text(item, VALUE_JSON) or _text(item, JSON))
    if TEXT in item:
        return _text(item, TEXT)
    for number, read in ((NUMBER, _double), (INTEGER, _signed), (BOOLEAN, bool)):
        if number in item:
            return read(item[number][-1])
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _double(value: Value) -> float | None:
    return struct.unpack("<d", value)[0] if isinstance(value, bytes) and len(value) == 8 else None


def _signed(value: Value) -> int | None:
    """sint64: zigzag."""
    return (value >> 1) ^ -(value & 1) if isinstance(value, int) else None
