"""How long a GPU waited is read from the trace; this needs none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.trace import Kernel, by_name, idle_percent, kernels


def test_gaps_between_kernels_are_idle_and_overlaps_are_not_counted_twice() -> None:
    run = [Kernel("matmul", 0, 40), Kernel("copy", 20, 30), Kernel("matmul", 60, 40)]  # 50 to 60: nothing ran
    assert idle_percent(run) == pytest.approx(10)
    assert idle_percent(reversed(run)) == pytest.approx(10)
    assert by_name(run) == [("matmul", 80, 2), ("copy", 30, 1)]


def test_a_long_kernel_covers_the_gaps_of_another_stream() -> None:
    assert idle_percent([Kernel("long", 0, 100), Kernel("a", 0, 10), Kernel("b", 50, 10)]) == 0


def test_only_what_ran_on_the_gpu_is_read_from_a_trace(tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": 5, "dur": 3, "tid": 7},
        {"ph": "X", "cat": "gpu_memcpy", "name": "HtoD", "ts": 1, "dur": 2, "tid": 20},
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 9, "tid": 1},
        {"ph": "M", "name": "process_name", "args": {"name": "python"}},
    ]
    (tmp_path / "trace.json").write_text(json.dumps({"traceEvents": events}))
    assert [kernel.name for kernel in kernels(tmp_path / "trace.json")] == ["HtoD", "gemm"]


def test_a_trace_without_kernels_measures_nothing() -> None:
    with pytest.raises(ValueError, match="holds no kernels"):
        idle_percent([])
