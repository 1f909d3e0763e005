"""The part of a dataset that a run may know, checked against what its approval pinned, and the supply of its text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_runner.data.manifest import SPLITS, Manifest, load_manifest, manifest_sha256
from gpu_runner.data.splits import ROW_TOKENS, fewest_tokens
from gpu_runner.data.tokens import TokenBytes, read_token_bytes
from gpu_runner.harness.failures import BadOverride, DatasetMissing
from gpu_runner.harness.supply import Served, Shelf, Supply


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset without its text. ``token_bytes`` is [V] uint16, None where no tokenizer is known."""

    manifest: Manifest
    supply: Supply
    token_bytes: TokenBytes | None

    def num_tokens(self, split: str) -> int:
        return self.manifest.splits[split].num_tokens

    def refuse_longer_rows(self, seq_len: int) -> None:
        """Check before the first step that train, watch, val and sealed all have a row of this length.

        BadOverride where rows of the usual length would fit, so that the length is to blame; else DatasetMissing.
        """
        for split in SPLITS:
            num_tokens, wanted = self.num_tokens(split), fewest_tokens(split, seq_len)
            if num_tokens < wanted:
                said = (
                    f"seq_len: rows of {seq_len} need {wanted:,} tokens, and {split} of this dataset has {num_tokens:,}"
                )
                if num_tokens >= fewest_tokens(split, ROW_TOKENS):
                    raise BadOverride(f"{said}; choose shorter rows, or a dataset with more text in {split}")
                raise DatasetMissing(f"{said}: it is too small to be measured on; prepare it again of more text")

    @property
    def vocab(self) -> int:
        return self.manifest.tokenizer.vocab

    @property
    def separator(self) -> int | None:
        """The token behind every document; None where they are not marked."""
        return self.manifest.tokenizer.separator

    @property
    def bytes_per_token(self) -> float | None:
        """Mean of the training text; None where it is not known."""
        train = self.manifest.splits["train"]
        return None if train.num_bytes is None else train.num_bytes / train.num_tokens


def open_dataset(folder: Path, pinned_sha256: str, *, seed: int, text_fd: int | None = None) -> Dataset:
    """The dataset whose train/ is ``folder``; its text comes through ``text_fd``, else from the shards there.

    Raises DatasetMissing: another manifest, a shard missing or short.
    """
    try:
        manifest = load_manifest(folder)
        if (found := manifest_sha256(folder)) != pinned_sha256:
            raise DatasetMissing(f"{folder}: holds dataset {found[:12]}, but {pinned_sha256[:12]} was approved")
        return Dataset(
            manifest=manifest,
            supply=Shelf(folder, manifest, seed) if text_fd is None else Served(text_fd, manifest),
            token_bytes=read_token_bytes(folder, manifest),
        )
    except ValueError as error:
        raise DatasetMissing(str(error)) from error
