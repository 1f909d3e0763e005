"""Bytes as tokens: one token is one byte; a 0 stands behind every document and counts as one byte like all others."""

from __future__ import annotations

from hashlib import sha256

import numpy as np

from gpu_runner.data import manifest
from gpu_runner.data.tokenizers.encoder import Encoder

SEPARATOR = 0


def encoder() -> Encoder:
    return Encoder(
        about=manifest.Tokenizer(
            kind="bytes",
            sha256=None,
            vocab=256,
            separator=SEPARATOR,
            token_bytes_sha256=sha256(np.ones(256, "<u2").tobytes()).hexdigest(),
        ),
        table=[bytes([i]) for i in range(256)],
        file=None,
        encode=lambda texts: [np.frombuffer(text, np.uint8) for text in texts],
    )
