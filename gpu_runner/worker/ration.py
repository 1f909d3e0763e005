"""Hands the training text out to one run, batch by batch, and measures from outside what the run uses.

The harness shares its process with proposed code, which could change its counts. So no shard is shown to a run: its
text comes from here through a socket, in the seed's order, only after the run has started its clock, and never more
than its budget. A run asks:

    ready       the harness is up and none of the recipe has run: the recipe's time begins
    begin       starts the clock; fixes the shape of all batches
    batch       the next rows, while the budget lasts
    watch       rows of the watch split, once
    done        the checkpoint is written; the supervisor ends the run

A question is one JSON line; an answer is a header (harness/supply.py) and bytes: rows in the shards' dtype, or the
sentence why there are none. A run that breaks the protocol gets no further answer.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from gpu_runner.contract import Budget, Spent
from gpu_runner.data.manifest import load_manifest
from gpu_runner.data.order import even_starts, row_starts
from gpu_runner.data.tokens import TokenArray
from gpu_runner.harness.supply import HEADER

log = logging.getLogger(__name__)

MAX_QUESTION_BYTES = 1_024
MAX_ROWS, MAX_BATCH_TOKENS = 65_536, 1 << 26  # of one batch: a run's numbers must not exhaust its supervisor
MAX_ROWS_OF_AN_EPOCH = 100_000_000  # which are shuffled in memory
MAX_WATCH_TOKENS = 1 << 20
LATE_S = 1.0  # how long after a budget in seconds a batch may still be asked for: the run's clock is not ours
UNREAD_S = 60.0  # how long the run may take to read an answer


class Refused(Exception):
    """A question that is answered with a sentence instead of rows; ``str()`` is that sentence."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One moment of a run: seconds by the clock, and processor seconds where these are counted."""

    at_s: float
    cpu_s: float | None


class Ration:
    """One run's text. ``with ration: start a child with ration.fd; ration.follow(...); ...``; any thread may read."""

    def __init__(
        self, dataset: Path, *, seed: int, budget: Budget, max_steps: int | None, counts_processors: bool
    ) -> None:
        """``dataset`` is its folder. Raises ValueError that names the missing shard."""
        manifest = load_manifest(dataset)
        self.text, self.watched = (TokenArray(dataset / "train", manifest, split) for split in ("train", "watch"))
        self.seed, self.budget, self.max_steps = seed, budget, max_steps
        self.counts_processors = counts_processors
        self.num_tokens = self.num_batches = self.num_watch_tokens = 0
        self.is_done = False
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(None)
        self.fd = theirs.detach()  # the child's, and closed by whoever starts it
        self._cpu_s: Callable[[], float | None] = lambda: None
        self._lock = threading.Lock()
        self._ready: Mark | None = None
        self._begun: Mark | None = None
        self._over: Mark | None = None  # when the budget was spent
        self._last: Mark | None = None
        self._shape = (0, 0)
        self._starts: Iterator[int] = iter(())
        self._thread = threading.Thread(target=self._serve, name="ration", daemon=True)

    def __enter__(self) -> Ration:
        return self

    def __exit__(self, *_: object) -> None:
        self._hang_up()  # macOS raises an error where the run hung up first
        if self._thread.ident is not None:
            self._thread.join(UNREAD_S)
        self._ours.close()

    def follow(self, cpu_s: Callable[[], float | None]) -> None:
        """Start to serve a process tree; ``cpu_s``, called from any thread, gives the processor seconds it has used."""
        self._cpu_s = cpu_s
        self._thread.start()

    @property
    def recipe_ran(self) -> bool:
        """Whether any of the recipe has run. Until then all that the process says is the harness's own."""
        return self._ready is not None or self._begun is not None

    def spent(self) -> Spent:
        """What was used until now, or until the run was done."""
        with self._lock:
            now = self._look()
            ready, begun, over = self._ready or now, self._begun or now, self._over or now
        before, train, after = (_between(*part) for part in ((ready, begun), (begun, over), (over, now)))
        return Spent(
            before_s=before.at_s,
            before_cpu_s=before.cpu_s,
            train_s=train.at_s,
            train_cpu_s=train.cpu_s,
            after_s=after.at_s,
            after_cpu_s=after.cpu_s,
            num_tokens=self.num_tokens,
            num_batches=self.num_batches,
            num_watch_tokens=self.num_watch_tokens,
        )

    # --- the clock ------------------------------------------------------------------------------

    def _look(self) -> Mark:
        """The present moment; once the run is done, the moment when it was. Notes when a budget in seconds is spent."""
        if self.is_done and self._last is not None:
            return self._last
        cpu_s = self._cpu_s()  # called on a GPU, too, since it also measures the run's memory
        self._last = Mark(at_s=time.monotonic(), cpu_s=cpu_s if self.counts_processors else None)
        if self._over is None and self._is_out_of_time(self._last.at_s):
            self._over = self._last
        return self._last

    def _is_out_of_time(self, now_s: float, late_s: float = 0.0) -> bool:
        if self._begun is None or self.budget.kind != "seconds" or self.max_steps is not None:
            return False
        return now_s - self._begun.at_s > self.budget.amount + late_s

    # --- the questions --------------------------------------------------------------------------

    def _serve(self) -> None:
        """Answer until the run hangs up or breaks the protocol."""
        try:
            with self._ours.makefile("rb") as questions:
                while line := questions.readline(MAX_QUESTION_BYTES):
                    self._answer(line)
        except (OSError, ValueError, RecursionError) as error:  # the last: of JSON that is nested too deeply
            log.info("a run's text ends: %s", error)
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        try:
            self._ours.shutdown(socket.SHUT_RDWR)
        except OSError as error:  # the run did so first
            log.debug("a run's text: %s", error)

    def _answer(self, line: bytes) -> None:
        """Answer one question. Raises ValueError for a malformed one, OSError when the answer is not taken."""
        question = json.loads(line)
        if not isinstance(question, dict):
            raise ValueError("a question is a JSON object")
        known: dict[str, Callable[..., bytes]] = {
            "ready": self._on_ready,
            "begin": self._on_begin,
            "batch": self._on_batch,
            "watch": self._on_watch,
            "done": self._on_done,
        }
        heard = known.get(str(question.pop("ask", "")))
        if heard is None:
            raise ValueError("there is no such question")
        try:
            is_granted, body = True, heard(**_whole_numbers(question))
        except (Refused, TypeError) as refusal:
            is_granted, body = False, str(refusal).encode()
        self._ours.settimeout(UNREAD_S)
        self._ours.sendall(HEADER.pack(is_granted, len(body)) + body)
        self._ours.settimeout(None)

    def _on_ready(self) -> bytes:
        with self._lock:
            self._ready = self._ready or self._look()
        return b""

    def _on_begin(self, batch_size: int, seq_len: int) -> bytes:
        if self._begun is not None:
            raise Refused("run.begin: may be called once")
        if not 1 <= batch_size <= MAX_ROWS or not 1 <= seq_len <= MAX_BATCH_TOKENS // batch_size:
            raise Refused(f"run.batches: no batch may have more than {MAX_ROWS:,} rows or {MAX_BATCH_TOKENS:,} tokens")
        if len(self.text) // seq_len > MAX_ROWS_OF_AN_EPOCH:
            raise Refused(f"seq_len: {seq_len} is too short for {len(self.text):,} tokens of training text")
        if len(self.text) < 2 * seq_len + 1:
            raise Refused(f"seq_len: {seq_len} is too long for {len(self.text):,} tokens of training text")
        starts = row_starts(len(self.text), seq_len, self.seed)
        self._starts = chain([next(starts)], starts)  # shuffles an epoch, which takes its time, before the clock runs
        self._shape = batch_size, seq_len
        with self._lock:
            self._begun = self._look()
        return b""

    def _on_batch(self) -> bytes:
        batch_size, seq_len = self._shape
        with self._lock:
            self._refuse_what_is_spent(batch_size * seq_len, time.monotonic())
            self.num_tokens += batch_size * seq_len
            self.num_batches += 1
            if self._is_last(batch_size * seq_len):
                self._over = self._look()  # half a millisecond: not for every batch
        return _as_bytes(self.text.rows(list(islice(self._starts, batch_size)), seq_len + 1))

    def _refuse_what_is_spent(self, num_tokens: int, now_s: float) -> None:
        if self._begun is None:
            raise Refused("run.batches: no text before the clock: call run.begin first")
        if self._is_out_of_time(now_s, LATE_S):
            raise Refused(f"Over budget: its {self.budget.amount:g} s are spent, there is no more text.")
        if self._left() < num_tokens:
            raise Refused(
                f"Over budget: {self.num_tokens:,} tokens were handed out, another batch is more than signed."
            )

    def _is_last(self, num_tokens: int) -> bool:
        return self._left() < num_tokens

    def _left(self) -> float:
        """Tokens that the run may still have: by the number of steps of a smoke run, else by the budget."""
        if self.max_steps is not None:
            return float((self.max_steps - self.num_batches) * self._shape[0] * self._shape[1])
        return self.budget.amount - self.num_tokens if self.budget.kind == "tokens" else float("inf")

    def _on_watch(self, num_rows: int, length: int) -> bytes:
        if self._begun is None:
            raise Refused("run.begin: no text before the clock runs")
        if self.num_watch_tokens or num_rows * length > MAX_WATCH_TOKENS or not 1 <= length <= len(self.watched):
            raise Refused(f"The watch text is handed out once, {MAX_WATCH_TOKENS:,} tokens of it at most.")
        rows = self.watched.rows(even_starts(len(self.watched), length, num_rows), length)
        self.num_watch_tokens = rows.size
        return _as_bytes(rows)

    def _on_done(self) -> bytes:
        with self._lock:
            self._look()
            self.is_done = True
        return b""


def _between(first: Mark, then: Mark) -> Mark:
    counted = first.cpu_s is not None and then.cpu_s is not None
    return Mark(
        at_s=max(then.at_s - first.at_s, 0.0),
        cpu_s=max((then.cpu_s or 0.0) - (first.cpu_s or 0.0), 0.0) if counted else None,
    )


def _whole_numbers(question: dict[str, Any]) -> dict[str, int]:
    if not all(type(value) is int for value in question.values()):
        raise ValueError("a question has whole numbers")
    return question


def _as_bytes(rows: np.ndarray[Any, Any]) -> bytes:
    return rows.tobytes()
