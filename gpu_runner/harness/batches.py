"""The training text as batches, in an order that depends on nothing but seed and ``seq_len``.

Runs are compared in pairs of one seed, so the order may not depend on what a proposal can change: the model's
randomness, the batch size, the device, or over how many processes a batch is spread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Empty, Queue

import torch

from gpu_runner.data.manifest import WIDTH
from gpu_runner.harness.dataset import Dataset
from gpu_runner.harness.failures import BadOverride

NUM_AHEAD = 2  # batches gathered before they are asked for: one to copy from, one to fill


class Batches:
    """Iterator over (inputs, targets), each [B, T] int64 on the run's device; targets are one token further.

    ``batch_size`` rows are drawn for all ``world_size`` processes together; process ``rank`` gets every
    ``world_size``-th of them. For a GPU a thread gathers ahead into pinned memory; a CPU that trains has no core
    for that. ``ahead`` overrules this choice. Raises BadOverride when the rows cannot be shared evenly.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        seq_len: int,
        device: str,
        drawn: Callable[[int], None],
        rank: int = 0,
        world_size: int = 1,
        ahead: bool | None = None,
    ) -> None:
        if batch_size % world_size:
            raise BadOverride(f"batch_size: {batch_size} rows cannot be shared evenly by {world_size} processes")
        dataset.refuse_longer_rows(seq_len)
        self.supply, self.vocab = dataset.supply, dataset.vocab
        self.host_dtype = HOST_DTYPES[WIDTH[dataset.manifest.dtype]]
        self.batch_size, self.seq_len, self.device, self.drawn = batch_size, seq_len, device, drawn
        self.mine = slice(rank, None, world_size)
        self.num_mine = batch_size // world_size
        self.is_ahead = device == "cuda" if ahead is None else ahead
        self.num_rows = 0  # drawn so far, by all processes together
        self.wait_s = 0.0  # for which training has waited here
        self._gathered: _Ahead | Generator[torch.Tensor, None, None] | None = None

    def begin(self) -> None:
        """Start the clock of the supply: from now on text may be drawn."""
        self.supply.begin(self.batch_size, self.seq_len)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        began = time.monotonic()
        if self._gathered is None:
            rows = self._rows_from(self.num_rows)
            self._gathered = _Ahead(rows, self.device) if self.is_ahead else rows
        # Two or four bytes a token over the bus, one for bytes, and the host does not wait for it.
        drawn = next(self._gathered).to(self.device, non_blocking=True).long()
        self.num_rows += self.batch_size
        self.drawn(self.batch_size * self.seq_len)
        self.wait_s += time.monotonic() - began
        return drawn[:, :-1], drawn[:, 1:]

    def seek(self, num_rows: int) -> None:
        """Go on as if ``num_rows`` rows had been drawn, by all processes together."""
        self.close()
        self.num_rows = num_rows

    def close(self) -> None:
        """End the thread, if there is one. The next batch begins where the last one ended."""
        if self._gathered is not None:
            self._gathered.close()
            self._gathered = None

    def dummy(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch of random tokens, of the same shape and strides: for warming up before the clock starts."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randint(0, self.vocab, (self.num_mine, self.seq_len + 1), generator=generator).to(self.device)
        return rows[:, :-1], rows[:, 1:]

    def _rows_from(self, num_rows: int) -> Generator[torch.Tensor, None, None]:
        """This process's rows of each batch, [B, T + 1] on the host; in pinned memory where they go to a GPU."""
        draw = self.supply.draw_from(num_rows, self.mine)
        shape = self.num_mine, self.seq_len + 1
        while True:
            # torch keeps pinned blocks, and gives one out again when the copy from it has ended.
            rows = torch.empty(shape, dtype=self.host_dtype, pin_memory=self.device == "cuda")
            draw(rows.numpy())
            yield rows


# torch computes little with uint16 and uint32; an id of uint32 fits int32, since vocabularies end at 2**18.
HOST_DTYPES = {1: torch.uint8, 2: torch.int32, 4: torch.int32}


class _Ahead:
    """Runs a generator in a thread, NUM_AHEAD items ahead. What it raises is raised by ``__next__``."""

    def __init__(self, rows: Iterator[torch.Tensor], device: str) -> None:
        self._rows, self._ready = rows, Queue[torch.Tensor | BaseException](NUM_AHEAD)
        self._gpu = torch.cuda.current_device() if device == "cuda" else None
        self._closed = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._gather, name="batches", daemon=True)
        self._thread.start()

    def __next__(self) -> torch.Tensor:
        if self._failure is None:
            ready = self._ready.get()
            if isinstance(ready, torch.Tensor):
                return ready
            self._failure = ready
        raise self._failure

    def close(self) -> None:
        """End the thread and wait for it."""
        self._closed.set()
        with suppress(Empty):
            while True:
                self._ready.get_nowait()  # makes room, where the thread waits for it
        self._thread.join()

    def _gather(self) -> None:
        try:
            if self._gpu is not None:
                torch.cuda.set_device(self._gpu)  # each thread begins at GPU 0
            for rows in self._rows:
                self._ready.put(rows)
                if self._closed.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  # training has to hear of it
            self._ready.put(error)
