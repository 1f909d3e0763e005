"""What a process that takes part in a comparison is told, as one line of JSON. Does not import torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.texts import Tokens, read_llmc

WATCHED = 2_000_000  # tokens that a held-out loss may be taken from


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What two trainers must have in common to be compared by tokens per second."""

    depth: int
    width: int
    head_dim: int
    vocab: int
    seq_len: int
    batch_rows: int  # of one optimizer step
    micro_rows: int  # of one forward and backward pass

    @property
    def tokens_per_step(self) -> int:
        return self.batch_rows * self.seq_len


@dataclass(frozen=True, kw_only=True)
class Order:
    who: str  # "ours", or a peer's name
    shape: Shape
    folder: str  # its own, empty
    dataset: str  # ours: a prepared dataset
    token_file: str | None = None  # an llm.c file, which is read instead of it
    val_file: str | None = None  # the same, held out: for budget_s
    peers: str = ""  # the folder that holds the peers' checkouts
    device: str = "cpu"
    compile: bool = True
    threads: int | None = None  # ours, on a CPU; None: one for each core
    budget_s: float | None = None  # train so long at one go instead of by rounds
    knobs: dict[str, Any] = field(default_factory=dict)  # ours: overrides beside those that the shape makes

    def texts(self) -> tuple[Tokens, Tokens]:
        """Tokens to train on, and held-out ones. Raises ValueError when a file is not in llm.c's format."""
        assert self.token_file is not None
        train = read_llmc(Path(self.token_file))
        return train, (train if self.val_file is None else read_llmc(Path(self.val_file)))[:WATCHED]

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, line: str) -> Order:
        fields = json.loads(line)
        return cls(**fields | {"shape": Shape(**fields["shape"])})
