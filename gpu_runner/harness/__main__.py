"""One training process: ``python -m gpu_runner.harness RUN_DIR --report-fd N [--text-fd N]``. Exits 0 only for ok.

Several GPUs: torchrun starts one of these for each, and the first one reports (``--report-to FIFO``).
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gpu_runner.harness.failures import (
    DeviceLost,
    RecipeError,
    RunFailed,
    Stopped,
    before_the_recipe,
    from_exception,
    told,
    wire,
)
from gpu_runner.harness.loading import load_recipe
from gpu_runner.harness.pipe import Pipe
from gpu_runner.harness.spec import HarnessSpec, effective_knobs, identity, load_spec

if TYPE_CHECKING:  # numpy and all: only after the cheap checks
    from gpu_runner.harness.supply import Supply

EX_TEMPFAIL = 75  # of sysexits.h: come back later
NEVER_STARTED: dict[str, Any] = dict.fromkeys(
    ("num_steps", "num_tokens", "train_s", "compile_s", "peak_memory_mib", "self_reported_bpb", "self_reported_loss")
)


class Ending(NamedTuple):
    """The failure, if there is one, the numbers of the last line, and where the text came from, as far as it got."""

    failure: RunFailed | None
    numbers: dict[str, Any]
    supply: Supply | None


def main(argv: list[str] | None = None) -> int:
    """Train, and report how it ended. Returns 0 only when a checkpoint was written, 75 when the run can be resumed."""
    parser = argparse.ArgumentParser(prog="python -m gpu_runner.harness", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="holds source/, spec.json and out/")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--report-fd", type=int, help="an inherited descriptor that JSON lines go to")
    where.add_argument(
        "--report-to", type=Path, help="a file or FIFO that they go to: torchrun passes no descriptors on"
    )
    parser.add_argument("--text-fd", type=int, help="an inherited socket that text is asked for on; else: shards")
    chosen = parser.parse_args(argv)
    pipe = Pipe(_reporting_to(chosen.report_fd, chosen.report_to))
    failure, numbers, supply = run_recipe(chosen.run_dir.resolve(), pipe, chosen.text_fd)
    sys.stdout.flush()
    stopped = isinstance(failure, Stopped)
    pipe.send(
        "ended",
        outcome="stopped" if stopped else "failed" if failure else "ok",
        failure=wire(failure) if failure else None,
        num_dropped_points=pipe.num_dropped,
        **numbers,
    )
    pipe.close()
    if supply is not None:
        supply.done()  # last of all: whoever serves the text ends this process, and what it may have started
    if failure and not stopped and _is_follower():
        print(told(failure, os.environ["RANK"]), file=sys.stderr)  # its reports go nowhere; who started it reads this
    return EX_TEMPFAIL if stopped else 1 if failure else 0


def run_recipe(run_dir: Path, pipe: Pipe, text_fd: int | None = None) -> Ending:
    """Load spec and recipe and train; what ended it is in the Ending. BrokenPipeError when nobody reads the reports."""
    source, run, explained = run_dir / "source", None, before_the_recipe
    try:
        spec = load_spec(run_dir)
        knobs = effective_knobs(source, spec.overrides)
        _keep_caches_inside(run_dir / "out")
        run, attention = _make_run(spec, knobs, pipe, run_dir, text_fd)
        run._supply.ready()  # up to here nobody but us has run: the supervisor counts from now
        explained = from_exception
        recipe = load_recipe(source)
        with attention, _stopping_at_sigterm(run, spec):
            recipe.train(run)
        if not run._saved:
            raise RecipeError("train(run) returned without run.save(model, config)")
        run.team.part()
    except BrokenPipeError:
        raise  # nobody listens any more: there is nobody to explain it to
    except BaseException as error:  # noqa: BLE001  # the recipe may raise anything, SystemExit included
        failure = explained(error, source)
        return Ending(failure, run._ended(), run._supply) if run else Ending(failure, NEVER_STARTED, None)
    return Ending(None, run._ended(), run._supply)


def _make_run(
    spec: HarnessSpec, knobs: dict[str, Any], pipe: Pipe, run_dir: Path, text_fd: int | None
) -> tuple[Any, Any]:
    with _uncollected():
        import numpy as np
        import torch  # a second or two: only after the cheap checks

        from gpu_runner.harness.machine import attention_kernels, detect
        from gpu_runner.harness.run import Run
        from gpu_runner.harness.team import join

    try:
        machine = detect(spec.device, spec.threads, spec.dtype)
    except ValueError as error:
        raise DeviceLost(str(error)) from error
    team = join(machine.device)
    torch.manual_seed(spec.seed)
    random.seed(spec.seed)
    np.random.seed(spec.seed)  # the global one, which recipes and their libraries may draw from
    of_run = identity(spec, knobs, run_dir / "source", team.size)
    run = Run(spec, knobs, machine, pipe, run_dir / "out", team=team, of_run=of_run, text_fd=text_fd)
    return run, attention_kernels(machine)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import without garbage collection, a quarter of torch's import, and keep what was imported out of later ones."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _stopping_at_sigterm(run: Any, spec: HarnessSpec) -> Iterator[None]:
    """Where snapshots are kept, SIGTERM asks for a snapshot and the end, both after the present step."""
    if spec.snapshot_every_s is None:
        yield
        return

    def note(*_: object) -> None:
        run._told_to_stop = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _reporting_to(fd: int | None, path: Path | None) -> int:
    if _is_follower():
        return os.open(os.devnull, os.O_WRONLY)  # one process reports for the team
    if fd is not None:
        return fd
    assert path is not None
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _is_follower() -> bool:
    return os.environ.get("RANK", "0") != "0"


def _keep_caches_inside(out: Path) -> None:
    """Compiled kernels are code that torch loads and runs: a run writes only its own (worker/compile_cache.py)."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ[name] = str(out / "compile-cache")


if __name__ == "__main__":
    sys.exit(main())
