"""One training process: ``python -m gpu_runner.harness RUN_DIR --report-fd N``. Exits 0 only for ok."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path
from typing import Any

from gpu_runner.harness.failures import RecipeError, RunFailed, SpecError, from_exception, wire
from gpu_runner.harness.loading import load_recipe
from gpu_runner.harness.pipe import Pipe
from gpu_runner.harness.spec import HarnessSpec, effective_knobs, load_spec

NEVER_STARTED: dict[str, Any] = dict.fromkeys(
    ("num_steps", "num_tokens", "train_s", "compile_s", "peak_memory_mib", "self_reported_bpb")
)


def main(argv: list[str] | None = None) -> int:
    """Train, and say how it ended. 0 only when a checkpoint was written."""
    parser = argparse.ArgumentParser(prog="python -m gpu_runner.harness", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="holds source/, spec.json and out/")
    parser.add_argument("--report-fd", type=int, required=True, help="where JSON lines go")
    chosen = parser.parse_args(argv)
    pipe = Pipe(chosen.report_fd)
    failure, numbers = run_recipe(chosen.run_dir.resolve(), pipe)
    sys.stdout.flush()
    pipe.send(
        "ended",
        outcome="failed" if failure else "ok",
        failure=wire(failure) if failure else None,
        num_dropped_points=pipe.num_dropped,
        **numbers,
    )
    pipe.close()
    return 1 if failure else 0


def run_recipe(run_dir: Path, pipe: Pipe) -> tuple[RunFailed | None, dict[str, Any]]:
    """Everything between the first and the last line. Returns why it failed, if it did, and the numbers."""
    source, run = run_dir / "source", None
    try:
        spec = load_spec(run_dir)
        knobs = effective_knobs(source, spec.overrides)
        _keep_caches_inside(run_dir / "out")
        run, attention = _make_run(spec, knobs, pipe, run_dir / "out")
        recipe = load_recipe(source)
        with attention:
            recipe.train(run)
        if not run._saved:
            raise RecipeError("train(run) returned without run.save(model, config)")
    except BrokenPipeError:
        raise  # nobody listens any more: there is nobody to explain it to
    except BaseException as error:  # noqa: BLE001  # the recipe may raise anything, SystemExit included
        return from_exception(error, source), run._ended() if run else NEVER_STARTED
    return None, run._ended()


def _make_run(spec: HarnessSpec, knobs: dict[str, Any], pipe: Pipe, out: Path) -> tuple[Any, Any]:
    import torch  # two seconds: only after the cheap checks

    from gpu_runner.harness.machine import attention_kernels, detect
    from gpu_runner.harness.run import Run

    try:
        machine = detect(spec.device, spec.threads)
    except ValueError as error:
        raise SpecError(str(error)) from error
    torch.manual_seed(spec.seed)
    random.seed(spec.seed)
    return Run(spec, knobs, machine, pipe, out), attention_kernels(machine)


def _keep_caches_inside(out: Path) -> None:
    """Compiled kernels are code that torch loads and runs: never share them between proposals."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ[name] = str(out / "compile-cache")


if __name__ == "__main__":
    sys.exit(main())
