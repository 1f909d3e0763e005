"""Finds a dataset of this machine by its name."""

from __future__ import annotations

import os
from pathlib import Path

from gpu_runner.contract.closest import closest
from gpu_runner.data.prepare import prepare
from gpu_runner.data.verify import refuse_open

DEFAULT_DATASET = "stdlib"


def default_root() -> Path:
    """The folder of all datasets, unless another one is given."""
    home = Path(os.environ.get("COUNTERSIGN_HOME") or ".countersign")
    return Path(os.environ.get("COUNTERSIGN_DATASETS") or home / "datasets")


def find_dataset(wanted: str, beside: Path, root: Path) -> Path:
    """The folder of a prepared dataset; "stdlib" is made when it is missing. ValueError, OSError."""
    for folder in (root / wanted, beside / wanted):
        if (folder / "manifest.json").is_file():
            refuse_open(folder)
            return folder.resolve()
    if wanted == DEFAULT_DATASET:
        return prepare(root, wanted).resolve()
    prepared = sorted(path.parent.name for path in root.glob("*/manifest.json"))
    raise ValueError(
        f"dataset: neither {root / wanted} nor {beside / wanted} holds one;"
        f" {closest(wanted, prepared or [DEFAULT_DATASET])} Make new ones with `python -m gpu_runner data prepare`."
    )
