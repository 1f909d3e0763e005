"""The frames between the scorer and the model's process: fixed layouts, no pickle, no torch.

    ready    model -> scorer   "CSRD", 0 u32: Python and torch are loaded, and no proposed code has run
    hello    model -> scorer   "CSHI", length u32, JSON {"torch", "device", "vocab_size", "num_params"}
    request  scorer -> model   "CSRQ", rows u32, tokens u32, wanted u32, then the first wanted position of each row u32,
                               then rows x tokens int32
    answer   model -> scorer   "CSLG", rows u32, wanted u32, vocab u32, then rows x wanted x vocab float32
    holds    scorer -> model   "CSFP", 0 u32, 0 u32, 0 u32: what are your parameters and buffers?
    held     model -> scorer   "CSFP", length u32, sha256 in hexadecimal
    error    model -> scorer   "CSER", length u32, text

All little-endian. The model's side is hostile: the scorer checks every header against what it
asked for before it reads a byte more.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_runner.contract.plain import shortened

READY, HELLO, REQUEST, ANSWER, HOLDS, ERROR = b"CSRD", b"CSHI", b"CSRQ", b"CSLG", b"CSFP", b"CSER"
HEAD = struct.Struct("<4sI")  # magic, and a length or a number of rows
ASKED = struct.Struct("<4sIII")  # magic, rows, tokens, wanted
MAX_TEXT = 16_384  # bytes of a hello or an error

Tokens = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]


def ready() -> bytes:
    return HEAD.pack(READY, 0)


def hello(about: dict[str, Any]) -> bytes:
    return _text(HELLO, json.dumps(about))


def error(message: str) -> bytes:
    return _text(ERROR, shortened(message, 4_000))


def _text(magic: bytes, text: str) -> bytes:
    body = text.encode(errors="replace")[:MAX_TEXT]
    return HEAD.pack(magic, len(body)) + body


def request(tokens: Tokens, first: npt.NDArray[np.int64], wanted: int) -> bytes:
    """A request with tokens [B, T] for the logits of ``wanted`` positions of each row, from first [B] on."""
    rows, length = tokens.shape
    head = ASKED.pack(REQUEST, rows, length, wanted)
    return head + first.astype("<i4").tobytes() + tokens.astype("<i4").tobytes()


def holds() -> bytes:
    """The question for parameters and buffers; as long as the head of a request, so that one read takes either."""
    return ASKED.pack(HOLDS, 0, 0, 0)


def held(sha256: str) -> bytes:
    return _text(HOLDS, sha256)


def answer_head(rows: int, wanted: int, vocab: int) -> bytes:
    """The bytes before the logits [B, W, V]; the scorer expects exactly these."""
    return ASKED.pack(ANSWER, rows, wanted, vocab)
