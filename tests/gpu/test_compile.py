"""What compiling costs the first run and those that follow; what a proposal compiled reaches nobody."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from gpu_runner.worker import parts
from gpu_runner.worker.compile_cache import CompileCache
from tests.benchmarks.record import Record
from tests.gpu.machine import DRY, FILES, IS_DRY_RUN, verdict
from tests.gpu.stages import steps
from tests.gpu.worker import Shift
from tests.worker.conftest import Bench

pytestmark = pytest.mark.gpu

SECONDS = 1.0 if IS_DRY_RUN else 3.0
WARM_S = 10.0  # target of a warm start, the warm-up's steps included
# On a CPU a few seconds would be trained eager: there the compiler is tried whatever the budget is.
EVEN_ON_A_CPU = """
import sys
from gpu_runner.harness import __main__, warm_up
warm_up.COMPILE_FROM_S = 0
sys.exit(__main__.main())
"""
HARNESS = (sys.executable, "-c", EVEN_ON_A_CPU) if IS_DRY_RUN else parts.HARNESS
TRAIN = "    k = run.knobs\n    config = model_config(run)\n"
PLANT = """    import os, pathlib
    pathlib.Path(os.environ["TORCHINDUCTOR_CACHE_DIR"], "planted").write_text("by charlie")
"""


def files(kernels: CompileCache) -> set[str]:
    return {path.relative_to(kernels.home).as_posix() for path in kernels.home.rglob("*") if path.is_file()}


def test_runs_start_with_what_the_shipped_recipe_compiled_and_with_nothing_else(bench: Bench, corpus: Path) -> None:
    shift, rows = Shift(bench, corpus), []
    kernels = CompileCache(bench.folder / "home" / "compile-cache", lock_sha256="1" * 64)
    plan: list[tuple[str, dict[str, Any]]] = [
        ("the shipped recipe, cold", {}),
        ("again", {}),
        ("a proposal's code, which plants a file", {"patch": shift.patch(TRAIN, PLANT + TRAIN)}),
        ("the shipped recipe, after it", {}),
    ]
    took: dict[str, float | None] = {}
    with steps("compile", len(plan)) as bar:
        for name, how in plan:
            before = files(kernels)
            end = shift.run(SECONDS, kernels=kernels, harness=HARNESS, **how)
            assert end.outcome == "finished", end.failure
            assert end.compile_s is not None
            took[name] = end.compile_s
            new = files(kernels) - before
            rows.append((name, f"{end.compile_s:.1f} s", f"{len(before):,}", f"{len(new):,}"))
            bar.done(f"{name}: {end.compile_s:.1f} s")
            assert not (how and new), f"what a proposal compiled was kept: {sorted(new)[:5]}"
    assert files(kernels), "nothing was kept of the shipped recipe"
    assert "planted" not in files(kernels)
    cold, warm = took["the shipped recipe, cold"], took["again"]
    assert cold is not None and warm is not None
    size = sum((kernels.home / name).stat().st_size for name in files(kernels))
    Record(
        name=f"{FILES}-compile",
        title="Compiling and warming up, in the sandbox, before the clock starts",
        columns=("run", "compile_s", "files found", "files kept"),
        rows=rows,
        notes=[
            f"Target: a warm start under {WARM_S:g} s: {verdict(-warm, -WARM_S)}. {warm / cold:.2f} of the cold one.",
            f"{len(files(kernels)):,} files, {size / 1e6:.1f} MB. n = 1.{DRY}",
        ],
        raw={"compile_s": took, "num_bytes": size},
    ).publish()
