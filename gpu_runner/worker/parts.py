"""The parts of one leased run: the machine, the spec with its connections, and what is known of the run so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gpu_runner import contract
from gpu_runner.command.environments import Environment
from gpu_runner.contract import Failure, RunEnd, RunSpec, Score, Spent
from gpu_runner.worker.client import RunLine
from gpu_runner.worker.compile_cache import CompileCache
from gpu_runner.worker.endings import GivenBack, early_end
from gpu_runner.worker.reporter import Reporter
from gpu_runner.worker.testimony import Ended

HARNESS = (sys.executable, "-m", "gpu_runner.harness")
SCORER = (sys.executable, "-m", "gpu_runner.scorer")
LEAST_TRAINING = 0.5  # of the time that a run has text; the rest may be its watch curve


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this worker is, and where it keeps runs, datasets and kernels."""

    runs: Path
    datasets: Path
    hardware_class: str
    sandbox_level: str
    lock_sha256: str
    num_kept: int = 0  # run folders that stay behind, for debugging
    kernels: CompileCache | None = None  # of earlier runs; None: every run compiles for itself
    environments: Mapping[str, Environment] = field(default_factory=dict)  # declared by the operator
    harness: tuple[str, ...] = HARNESS
    scorer: tuple[str, ...] = SCORER
    beat_s: float = contract.HEARTBEAT_S
    gives_up_s: float = contract.WORKER_GIVES_UP_S

    @property
    def device(self) -> str:
        """The device that its hardware class names: when a GPU is gone, its runs must fail and not train on the CPU."""
        return "cpu" if self.hardware_class.startswith("cpu-") else "cuda"


@dataclass(kw_only=True)
class Tally:
    """What is known of a run so far, for its RunEnd."""

    device_since: float | None = None  # monotonic
    ended: Ended | None = None
    spent: Spent | None = None
    score: Score | None = None
    train_s: float | None = None  # of a foreign trainer, from outside: its whole process
    num_steps: int | None = None  # as a foreign trainer says
    peak_memory_mib: float | None = None  # of a foreign trainer, from outside

    def end(self, fence: int, outcome: str, failure: Failure | None = None) -> RunEnd:
        ended, spent = self.ended, self.spent
        return RunEnd.model_validate(
            {
                "fence": fence,
                "outcome": outcome,
                "failure": failure,
                "score": self.score,
                "device_s": 0.0 if self.device_since is None else time.monotonic() - self.device_since,
                "train_s": _training_s(ended, spent) if ended else self.train_s,
                "compile_s": ended.compile_s if ended else None,
                "peak_memory_mib": ended.peak_memory_mib if ended else self.peak_memory_mib,
                "num_steps": ended.num_steps if ended else self.num_steps,
                "num_tokens": spent.num_tokens
                if spent and self.train_s is None
                else None,  # a foreign one's: not known
                "spent": spent,
            }
        )


def _training_s(ended: Ended | None, spent: Spent | None) -> float | None:
    """Seconds of training steps alone, within bounds, since only the run says how long its watch curve took."""
    if ended is None or ended.train_s is None or spent is None:
        return None
    return min(max(ended.train_s, spent.train_s * LEAST_TRAINING), spent.train_s + spent.after_s)


@dataclass(kw_only=True)
class Launch:
    """One run with all that carrying it out needs."""

    spec: RunSpec
    machine: Machine
    line: RunLine
    reporter: Reporter
    folder: Path
    is_leaving: Callable[[], bool]
    tally: Tally = field(default_factory=Tally)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def check(self) -> None:
        """Raises the EarlyEnd that is due, if one is."""
        if self.is_leaving():
            raise GivenBack("worker_stopped", "The worker was stopped while it had this run.")
        if (stop := self.reporter.stop) is not None:
            raise early_end(stop)
