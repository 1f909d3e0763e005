"""The supply of a run's text: served batch by batch by the supervisor, or read from shards in a folder.

A campaign's run is Served: no shard is shown to it, and the supervisor hands out each batch (worker/ration.py), none
before the clock runs. Training by hand, on text and a recipe of one's own, reads the Shelf.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpu_runner.data.manifest import Manifest
from gpu_runner.data.order import even_starts, row_starts
from gpu_runner.data.tokens import Row, TokenArray
from gpu_runner.harness.failures import OverBudget, RecipeError

HEADER = struct.Struct("<?I")  # of every answer: whether it was granted, and how many bytes follow
Draw = Callable[[Row], None]  # fills [B, T + 1] with the next rows

CLOSED = "run.batches: no text before the clock: call run.begin first"


class Supply(Protocol):
    """Gives training text in the seed's order, and rows of the watch split."""

    def ready(self) -> None:
        """Say that the harness is up and none of the recipe has run."""

    def begin(self, batch_size: int, seq_len: int) -> None:
        """Start the clock; from now on batches of this shape may be drawn."""

    def draw_from(self, first: int, mine: slice) -> Draw:
        """A function that draws the next batch, beginning after ``first`` rows; of each batch the rows ``mine``."""

    def watch(self, num_rows: int, length: int) -> Row:
        """Evenly spaced rows of the watch split, [N, length]."""

    def done(self) -> None:
        """Say that the checkpoint is written; the supervisor may end this process."""


class Shelf:
    """Reads shards in a folder, for training by hand. Raises ValueError that names a missing shard."""

    def __init__(self, folder: Path, manifest: Manifest, seed: int) -> None:
        self.train, self.watched = (TokenArray(folder, manifest, split) for split in ("train", "watch"))
        self.seed = seed
        self.shape: tuple[int, int] | None = None

    def ready(self) -> None: ...

    def begin(self, batch_size: int, seq_len: int) -> None:
        self.shape = batch_size, seq_len

    def draw_from(self, first: int, mine: slice) -> Draw:
        if self.shape is None:
            raise RecipeError(CLOSED)
        batch_size, seq_len = self.shape
        starts = row_starts(len(self.train), seq_len, self.seed, first=first)

        def draw(out: Row) -> None:
            self.train.rows(list(islice(starts, batch_size))[mine], seq_len + 1, out=out)

        return draw

    def watch(self, num_rows: int, length: int) -> Row:
        return self.watched.rows(even_starts(len(self.watched), length, num_rows), length)

    def done(self) -> None: ...


class Served:
    """The run's side of a Ration: asks on a socket, one question at a time, from any thread."""

    def __init__(self, fd: int, manifest: Manifest) -> None:
        self.dtype = np.dtype(manifest.dtype).newbyteorder("<")
        self._socket = socket.socket(fileno=fd)
        self._lock = threading.Lock()
        self._is_open = False

    def ready(self) -> None:
        self._ask(ask="ready")

    def begin(self, batch_size: int, seq_len: int) -> None:
        self._ask(ask="begin", batch_size=batch_size, seq_len=seq_len)
        self._is_open = True

    def draw_from(self, first: int, mine: slice) -> Draw:
        """``first`` is not used: the supervisor hands out one row after another."""
        if not self._is_open:
            raise RecipeError(CLOSED)
        assert mine == slice(0, None, 1), "what is served is not shared by a team"

        def draw(out: Row) -> None:
            out[:] = self._rows(self._ask(ask="batch"), out.shape[1])

        return draw

    def watch(self, num_rows: int, length: int) -> Row:
        return self._rows(self._ask(ask="watch", num_rows=num_rows, length=length), length)

    def done(self) -> None:
        self._ask(ask="done")

    def _rows(self, body: bytearray, length: int) -> Row:
        return np.frombuffer(body, dtype=self.dtype).reshape(-1, length)

    def _ask(self, **question: Any) -> bytearray:
        with self._lock:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
            is_granted, length = HEADER.unpack(self._receive(HEADER.size))
            body = self._receive(length)
        if not is_granted:
            raise OverBudget(body.decode())
        return body

    def _receive(self, length: int) -> bytearray:
        body = bytearray(length)
        left = memoryview(body)
        while left:
            num_read = self._socket.recv_into(left)
            if not num_read:
                raise OverBudget("The supervisor hands out no more text.")
            left = left[num_read:]
        return body
