"""A corpus that is large enough for a GPU, without a download: the text of the packages that are installed here."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from gpu_runner.data.manifest import HELD_OUT, load_manifest, manifest_sha256
from tests.benchmarks.record import Record
from tests.gpu.machine import DRY, FILES

pytestmark = pytest.mark.gpu


def test_the_packages_that_are_installed_become_a_corpus(request: pytest.FixtureRequest) -> None:
    began = time.monotonic()
    home: Path = request.getfixturevalue("packages")
    seconds, made = time.monotonic() - began, load_manifest(home)
    splits = made.splits
    num_bytes = sum(split.num_bytes or 0 for split in splits.values())
    named = str(made.source["packages"]).split(", ")
    assert len(named) > 10
    assert num_bytes > 50e6, "torch alone has more"
    Record(
        name=f"{FILES}-corpus",
        title=f"Source text of {len(named)} packages: {num_bytes / 1e6:,.0f} MB in {seconds:.1f} s",
        columns=("split", "tokens", "documents", "also in the training text"),
        rows=[
            (
                name,
                f"{split.num_tokens:,}",
                f"{split.num_documents:,}",
                f"{split.overlap.share:.1%}" if split.overlap else "",
            )
            for name, split in splits.items()
        ],
        notes=[
            f"{num_bytes / 1e6 / seconds:.0f} MB/s, reading, hashing and comparing the splits; n = 1.",
            f"Manifest {manifest_sha256(home)[:16]}; it names the packages: {', '.join(named[:4])}, ...{DRY}",
        ],
        raw={"seconds": seconds, "num_bytes": num_bytes, "source": made.source, "held_out": HELD_OUT},
    ).publish()
