"""What a test asks of a dataset that was prepared, and of what was said on the way."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gpu_runner.data.manifest import HELD_OUT, SPLITS, load_manifest, shard_paths
from gpu_runner.data.prepare import Origin, prepare
from gpu_runner.data.progress import Lines
from gpu_runner.data.tokens import TokenArray


def read(home: Path, split: str) -> np.ndarray:
    manifest = load_manifest(home)
    text = TokenArray(shard_paths(home, manifest, split)[0].parent, manifest, split)
    return text.span(0, len(text))


class Heard(Lines):
    """Keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def one(self, beginning: str) -> str:
        """The one sentence that begins so."""
        (sentence,) = (said for said in self.said if said.startswith(beginning))
        return sentence


def made_of(folder: Path, name: str = "mine", **chosen: Any) -> tuple[Path, Heard]:
    """The dataset of ``folder``, as bytes unless a tokenizer is chosen, beside it; and what was said."""
    heard = Heard()
    return prepare(folder.parent / "root", name, Origin(path=folder, **chosen), heard), heard


def texts_in(home: Path, *splits: str) -> list[str]:
    """The documents of a dataset in bytes, sorted."""
    manifest = load_manifest(home)
    bodies = [path.read_bytes() for split in splits or SPLITS for path in shard_paths(home, manifest, split)]
    return sorted(text for body in bodies for text in body.decode().removesuffix("\0").split("\0"))


def held_out_texts(home: Path) -> list[str]:
    return texts_in(home, *HELD_OUT)


def source_of(home: Path) -> dict[str, str | int]:
    return load_manifest(home).source


def write_lines(path: Path, rows: Iterable[object], *more: str) -> Path:
    """JSON Lines, and behind them what may be no JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in (*map(json.dumps, rows), *more)))
    return path


def write_parquet(path: Path, texts: Any, column: str = "text") -> Path:
    """A row for each of ``texts``, a list or an array of pyarrow, behind a nested column: its leaves shift numbers."""
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    nested = pyarrow.struct({"url": pyarrow.string(), "score": pyarrow.int64()})
    about = pyarrow.array([{"url": "u", "score": 1}] * len(texts), nested)
    parquet.write_table(pyarrow.table({"about": about, column: texts}), path, row_group_size=64)
    return path
