"""Where a step on a GPU goes, and how long the GPU waits for Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.measuring import contest
from tests.benchmarks.record import FOLDER, Record
from tests.benchmarks.trace import by_name, idle_percent, kernels
from tests.gpu.conftest import TokenFiles
from tests.gpu.machine import FILES, IS_DRY_RUN, LENGTH, shape_here, verdict
from tests.gpu.matches import MATCHES, make_order

pytestmark = pytest.mark.gpu

TOP, NUM_STEPS = 20, 4
MOST_IDLE_PERCENT = 1.0


@pytest.mark.parametrize("name", ["nanochat-d12", "autoresearch-d8"])
def test_where_a_step_goes(name: str, dataset: Path, token_files: TokenFiles, tmp_path: Path) -> None:
    shape = shape_here(MATCHES[name].shape)
    FOLDER.mkdir(exist_ok=True)
    trace = FOLDER / f"{FILES}-profile-{name}-trace.json"
    order = make_order("ours", shape, tmp_path, dataset, token_files[shape.vocab], knobs=MATCHES[name].knobs)
    with contest({"ours": order}, warm_up_s=LENGTH.warm_up_s) as (ours,):
        plain = ours.round(seconds=0, num_steps=NUM_STEPS)
        profiled = ours.round(seconds=0, num_steps=NUM_STEPS, profile=str(trace))
    if IS_DRY_RUN:
        assert profiled["ops"] and trace.stat().st_size
        return  # a CPU's trace holds no kernels
    run = kernels(trace)
    idle, busy_us = idle_percent(run), sum(kernel.us for kernel in run)
    Record(
        name=f"{FILES}-profile-{name}",
        title=f"Ours, shape of {name}: {1e3 * plain['seconds'] / NUM_STEPS:.1f} ms a step; by time on the GPU",
        columns=("kernel", "% of the step", "ms a step", "launches a step"),
        rows=[
            (kernel[:80], f"{100 * us / busy_us:.1f}", f"{us / 1e3 / NUM_STEPS:.2f}", f"{launches / NUM_STEPS:.1f}")
            for kernel, us, launches in by_name(run)[:TOP]
        ],
        notes=[
            f"Without a kernel: {idle:.2f} % of the time; target: under {MOST_IDLE_PERCENT:g} %:"
            f" {verdict(-idle, -MOST_IDLE_PERCENT)}.",
            f"{NUM_STEPS} steps after warming up; under the profiler they took {profiled['seconds']:.2f} s instead of"
            f" {plain['seconds']:.2f} s. The whole trace, for ui.perfetto.dev: {trace.name}",
        ],
        raw={"plain": plain, "profiled": profiled, "idle_percent": idle},
    ).publish()
