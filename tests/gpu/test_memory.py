"""A run that needs more memory than there is ends with what to do about it, and the next one has all of it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_runner.contract import RunEnd
from gpu_runner.worker.compile_cache import CompileCache
from tests.benchmarks.record import Record
from tests.gpu.machine import DRY, FILES, IS_DRY_RUN, gpu_memory_mib, mib
from tests.gpu.stages import steps
from tests.gpu.worker import Shift
from tests.worker.conftest import Bench
from tests.worker.world import processes_with

pytestmark = pytest.mark.gpu

SECONDS = 2.0 if IS_DRY_RUN else 6.0
SLACK_MIB = 64  # a driver's own bookkeeping
# 8 layers over 4,096 rows of 2,048 tokens keep more than 400 GiB for the way back: no GPU that is sold has it.
TOO_MUCH: dict[str, Any] = {"depth": 8, "aspect": 64, "head_dim": 128, "seq_len": 2048, "batch_size": 4096}
# Really filling this machine's memory would end what else runs on it: a dry run asks for 16 TiB at once.
STEP = "        x, y = next(batches)  # each [B, T] int64\n"
ASK_FOR_IT = ("        torch.empty(1 << 44, dtype=torch.uint8)\n" + STEP) if IS_DRY_RUN else STEP


def test_one_worker_runs_out_of_memory_and_goes_on_with_all_of_it(bench: Bench, corpus: Path) -> None:
    shift, rows = Shift(bench, corpus), []
    kernels = CompileCache(bench.folder / "home" / "compile-cache", lock_sha256="1" * 64)
    greedy: dict[str, Any] = {"patch": shift.patch(STEP, ASK_FOR_IT)} if IS_DRY_RUN else {"overrides": TOO_MUCH}
    before = gpu_memory_mib()
    ends: list[RunEnd] = []
    plan = [
        ("first", {}),
        ("second, right behind it", {}),
        ("out of memory", greedy),
        ("the next", {}),
        ("and one more", {}),
    ]
    with steps("memory", len(plan)) as bar:
        for name, how in plan:
            end = shift.run(SECONDS, kernels=kernels, **how)
            ends.append(end)
            after = gpu_memory_mib()
            rows.append((name, end.outcome, mib(end.peak_memory_mib), mib(after)))
            bar.done(f"{name}: {end.outcome}")
            assert not processes_with(str(bench.folder)), f"{name} left processes behind"
            if before is not None and after is not None:
                assert after <= before + SLACK_MIB, f"{name} left {after - before:.0f} MiB on the GPU"
    _judge(ends)
    Record(
        name=f"{FILES}-memory",
        title="Five runs on one worker; the third needs more memory than there is",
        columns=("run", "outcome", "its peak", "in use on the GPU afterwards"),
        rows=rows,
        notes=[
            f"In use before all of them: {mib(before)}; after each at most {SLACK_MIB} MiB more (asserted).",
            f"n = 1, {SECONDS:g} s of training each.{DRY}",
        ],
        raw={"before": before, "ends": [end.model_dump(mode="json") for end in ends]},
    ).publish()


def _judge(ends: list[RunEnd]) -> None:
    first, second, greedy, *later = ends
    for end in (first, second, *later):
        assert (end.outcome, end.failure) == ("finished", None), end.failure
        assert end.score is not None
        assert end.score.outcome == "ok", end.score.reasons
    assert greedy.outcome == "failed"
    assert greedy.failure is not None
    assert greedy.failure.kind == "out_of_memory", greedy.failure
    assert greedy.failure.todo == "Lower batch_size, seq_len, width or depth."
    assert greedy.score is None
