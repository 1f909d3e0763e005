"""Who runs against whom on a GPU, and with what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.order import Order, Shape
from tests.gpu.machine import (
    DEVICE,
    IS_DRY_RUN,
)

# Modded-nanogpt's track 3 has neither value embeddings, smear nor x0: at equal shape ours goes without them.
NO_NGRAMS: dict[str, Any] = {"ngram_order": 1}  # nobody else has such tables
PLAIN: dict[str, Any] = NO_NGRAMS | {"value_embeddings": False, "smear": False, "x0_skip": False}


@dataclass(frozen=True, kw_only=True)
class Match:
    """A peer, the shape that both train, and what we mean to reach."""

    peer: str
    shape: Shape
    knobs: dict[str, Any]
    times: float
    mfu_percent: float | None = None


MATCHES = {
    "modded-nanogpt": Match(
        peer="modded-nanogpt",
        shape=Shape(depth=12, width=768, head_dim=128, vocab=50304, seq_len=1024, batch_rows=512, micro_rows=64),
        knobs=PLAIN,
        times=1.15,
    ),
    "nanochat-d12": Match(
        peer="nanochat",
        shape=Shape(depth=12, width=768, head_dim=128, vocab=32768, seq_len=2048, batch_rows=256, micro_rows=32),
        knobs=NO_NGRAMS,
        times=1.15,
        mfu_percent=46,
    ),
    "autoresearch-d8": Match(
        peer="autoresearch",
        shape=Shape(depth=8, width=512, head_dim=128, vocab=8192, seq_len=2048, batch_rows=256, micro_rows=128),
        knobs=NO_NGRAMS,
        times=1.10,
        mfu_percent=42,
    ),
}


def make_order(who: str, shape: Shape, folder: Path, dataset: Path, tokens: Path, **rest: Any) -> Order:
    """Compiled on a GPU, eager in a dry run."""
    return Order(
        who=who,
        shape=shape,
        folder=str(folder / who),
        dataset=str(dataset),
        token_file=str(tokens),
        device=DEVICE,
        compile=not IS_DRY_RUN,
        **rest,
    )
