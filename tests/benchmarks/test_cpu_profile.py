"""Where an eager step on a CPU goes, operation by operation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.measuring import contest
from tests.benchmarks.order import Order, Shape
from tests.benchmarks.record import FOLDER, Record
from tests.benchmarks.shapes import BYTES

pytestmark = pytest.mark.benchmark

TOP, NUM_STEPS = 15, 20
SHAPES = {
    "T128-B8": Shape(**BYTES, seq_len=128, batch_rows=8, micro_rows=8),
    "T256-B16": Shape(**BYTES, seq_len=256, batch_rows=16, micro_rows=16),
}


@pytest.mark.parametrize("name", SHAPES)
def test_where_an_eager_step_goes(name: str, dataset: Path, tmp_path: Path) -> None:
    order = Order(who="ours", shape=SHAPES[name], folder=str(tmp_path / "ours"), dataset=str(dataset), compile=False)
    FOLDER.mkdir(exist_ok=True)
    trace = FOLDER / f"cpu-profile-{name}-trace.json"
    with contest({"ours": order}, warm_up_s=1.0) as (ours,):
        plain = ours.round(seconds=0, num_steps=NUM_STEPS)
        profiled = ours.round(seconds=0, num_steps=NUM_STEPS, profile=str(trace))
    total_us = sum(op["self_cpu_us"] for op in profiled["ops"])
    Record(
        name=f"cpu-profile-{name}",
        title=f"Ours eager, {name}: {1e3 * plain['seconds'] / NUM_STEPS:.1f} ms a step; by self CPU time",
        columns=("operation", "% of the step", "ms a step", "calls a step", "us a call"),
        rows=[_row(op, total_us) for op in profiled["ops"][:TOP]],
        notes=[
            f"Over {NUM_STEPS} steps after warming up; under the profiler a step took"
            f" {1e3 * profiled['seconds'] / NUM_STEPS:.1f} ms. Time of the main thread: where it waits for its"
            " OpenMP threads it counts as the operation that it waits in.",
            f"The whole trace, for chrome://tracing or ui.perfetto.dev: {trace.name}",
        ],
        raw={"plain": plain, "profiled": profiled},
    ).publish()
    assert total_us > 0


def _row(op: dict[str, float | str], total_us: float) -> tuple[str, ...]:
    us, calls = float(op["self_cpu_us"]), float(op["num_calls"])
    return (
        str(op["op"]),
        f"{100 * us / total_us:.1f}",
        f"{us / 1e3 / NUM_STEPS:.2f}",
        f"{calls / NUM_STEPS:.1f}",
        f"{us / calls:.0f}",
    )
