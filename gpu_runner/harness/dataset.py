"""What a run may read: train and watch text, and nothing that its approval did not pin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_runner.data.manifest import Manifest, load_manifest, manifest_sha256
from gpu_runner.data.tokens import TokenArray, TokenBytes, read_token_bytes
from gpu_runner.harness.failures import DatasetMissing


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The open part of a dataset. ``token_bytes`` is [V] uint16, None where no tokenizer is known."""

    manifest: Manifest
    train: TokenArray
    watch: TokenArray
    token_bytes: TokenBytes | None

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


def open_dataset(folder: Path, pinned_sha256: str) -> Dataset:
    """The dataset whose train/ is ``folder``. Raises DatasetMissing: another manifest, a shard missing or short."""
    try:
        manifest = load_manifest(folder)
        if (found := manifest_sha256(folder)) != pinned_sha256:
            raise DatasetMissing(f"{folder}: holds dataset {found[:12]}, but {pinned_sha256[:12]} was approved")
        return Dataset(
            manifest=manifest,
            train=TokenArray(folder, manifest, "train"),
            watch=TokenArray(folder, manifest, "watch"),
            token_bytes=read_token_bytes(folder, manifest),
        )
    except ValueError as error:
        raise DatasetMissing(str(error)) from error
