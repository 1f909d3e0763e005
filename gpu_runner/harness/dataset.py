"""What a run may know of its dataset, and where its text comes from; nothing that its approval did not pin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_runner.data.manifest import Manifest, load_manifest, manifest_sha256
from gpu_runner.data.tokens import TokenBytes, read_token_bytes
from gpu_runner.harness.failures import DatasetMissing
from gpu_runner.harness.supply import Served, Shelf, Supply


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The open part of a dataset. ``token_bytes`` is [V] uint16, None where no tokenizer is known."""

    manifest: Manifest
    supply: Supply
    token_bytes: TokenBytes | None

    def num_tokens(self, split: str) -> int:
        return self.manifest.splits[split].num_tokens

    @property
    def vocab(self) -> int:
        return self.manifest.tokenizer.vocab

    @property
    def separator(self) -> int | None:
        """The token behind every document; None where they are not marked."""
        return self.manifest.tokenizer.separator

    @property
    def bytes_per_token(self) -> float | None:
        """Of the training text, on average; None where it is not known."""
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
