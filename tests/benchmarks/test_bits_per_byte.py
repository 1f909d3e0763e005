"""What a newcomer's minute of training is worth: the trusted score beside what compressors make of the same text."""

from __future__ import annotations

import bz2
import lzma
import zlib
from pathlib import Path

import pytest

from gpu_runner.data.manifest import load_manifest, shard_paths
from gpu_runner.scorer.score import score
from tests.benchmarks.record import Record
from tests.gpu_runner.training import RECIPE, listen, make_run_dir

pytestmark = pytest.mark.benchmark

TRAIN_S = 60.0


def compressed_bpb(text: bytes) -> dict[str, float]:
    """Bits per byte of ``text`` under the standard library's compressors, at their best settings."""
    sizes = {
        "zlib -9": len(zlib.compress(text, 9)),
        "bz2 -9": len(bz2.compress(text, 9)),
        "lzma -9e": len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)),
    }
    return {name: 8 * size / len(text) for name, size in sizes.items()}


def test_a_minute_of_training_beside_compressors(dataset: Path, tmp_path: Path) -> None:
    folder = make_run_dir(
        tmp_path / "run",
        dataset,
        budget={"kind": "seconds", "amount": TRAIN_S},
        overrides={},
        max_steps=None,
        threads=None,
    )
    heard = listen(folder)
    assert heard.ended["outcome"] == "ok", heard.stderr
    text = b"".join(path.read_bytes() for path in shard_paths(dataset, load_manifest(dataset), "val"))
    scored = score(RECIPE, folder / "out" / "checkpoint", dataset, num_tokens=len(text), level="none")
    assert scored.outcome == "ok", scored.reasons
    assert scored.val_bpb is not None and 0.5 < scored.val_bpb < 8  # 8: knows nothing
    _publish(heard.ended, heard.of("started")[0], scored.val_bpb, compressed_bpb(text), len(text))


def _publish(
    ended: dict[str, float], started: dict[str, object], val_bpb: float, others: dict[str, float], num_bytes: int
) -> None:
    ours = f"ours after {ended['train_s']:.0f} s"
    by_bpb = sorted((others | {ours: val_bpb}).items(), key=lambda pair: -pair[1])
    Record(
        name="bits-per-byte",
        title=f"Bits per byte of {num_bytes:,} held-out bytes of the standard library",
        columns=("model", "bits per byte"),
        rows=[(name, f"{bpb:.3f}") for name, bpb in by_bpb],
        notes=[
            f"Ours: defaults of recipe.toml, seed 1, n = 1, {ended['num_tokens']:,} tokens in"
            f" {ended['num_steps']:,} steps ({ended['num_tokens'] / ended['train_s']:,.0f} tokens/s),"
            " scored by gpu_runner.scorer.",
            f"{started['num_params']:,} parameters, {started['dtype']}, {started['threads']} threads;"
            " compressors see nothing but the held-out text itself.",
        ],
        raw={"ended": ended, "started": started, "val_bpb": val_bpb, "compressors": others},
    ).publish()
