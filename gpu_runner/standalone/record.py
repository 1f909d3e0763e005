"""Writes a run's record into its folder: points, log and ending."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Literal

from gpu_runner.contract import Failure, LogLine, Progress, Score
from gpu_runner.machine import hardware
from gpu_runner.standalone.folder import has_snapshot, write_whole
from gpu_runner.standalone.plan import Plan
from gpu_runner.worker.reporter import Point
from gpu_runner.worker.testimony import Ended

Outcome = Literal["ok", "failed", "stopped"]


class Record:
    """Writes points.jsonl and log.txt; a Testimony's Listener. ``with Record(folder) as record: ...``"""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {}
        self.mfu_percent: list[float] = []
        self.log_file = open(folder / "log.txt", "a", encoding="utf-8", buffering=1)  # noqa: SIM115  closed in __exit__
        self.points_file = open(folder / "points.jsonl", "a", encoding="utf-8", buffering=1)  # noqa: SIM115  the same

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.log_file.close()
        self.points_file.close()

    def started(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self._forget_after(facts.get("resumed_at_step"))

    def point(self, point: Point) -> None:
        self.points_file.write(json.dumps(point._asdict(), allow_nan=False) + "\n")
        if (mfu := point.metrics.get("mfu_percent")) is not None:
            self.mfu_percent.append(mfu)

    def log(self, line: LogLine) -> None:
        self.log_file.write(f"{line.at_s:9.2f} s  {line.level:<7}  {line.text}\n")

    def progress(self, progress: Progress) -> None:
        """Nothing to write: it follows from the points."""

    def _forget_after(self, step: object) -> None:
        """Drop points beyond the snapshot that the run resumes from: their steps are trained again."""
        path = self.folder / "points.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if isinstance(step, int) and line.endswith("\n") and _step(line) <= step]
        if len(kept) == len(lines):
            return
        self.points_file.close()
        write_whole(path, "".join(kept))
        self.points_file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  closed in __exit__


def _step(line: str) -> int:
    step: int = json.loads(line)["step"]
    return step


@dataclass(kw_only=True)
class Ending:
    """How a run ended. ``failure`` is set exactly when the outcome is failed."""

    outcome: Outcome
    failure: Failure | None = None
    ended: Ended | None = None
    total_s: float
    score: Score | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    mfu_percent: list[float] = field(default_factory=list)

    def numbers(self) -> dict[str, float | None]:
        """All that was measured, by name; null for what this run never reached. ``total_s`` is this process's."""
        said = dict(self.ended.numbers) if self.ended else {}
        train_s, num_tokens = said.get("train_s"), said.get("num_tokens")
        return {
            "watch_bpb": said.pop("self_reported_bpb", None),
            "watch_loss": said.pop("self_reported_loss", None),
            "val_bpb": self.score.val_bpb if self.score else None,
            "num_steps": None,
            "num_tokens": None,
            "train_s": None,
            "compile_s": None,
            "total_s": self.total_s,
            "tokens_per_s": num_tokens / train_s if num_tokens is not None and train_s else None,
            "mfu_percent": median(self.mfu_percent) if self.mfu_percent else None,
            "peak_memory_mib": None,
        } | said

    def as_json(self, plan: Plan, folder: Path) -> dict[str, Any]:
        """The content of ended.json."""
        checkpoint = folder / "out" / "checkpoint"
        return {
            "outcome": self.outcome,
            "failure": self.failure.model_dump() if self.failure else None,
            "ended_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "name": plan.name,
            "recipe": plan.spec.recipe,
            "dataset": plan.dataset_name,
            "dataset_sha256": plan.dataset_sha256,
            "seed": plan.spec.seed,
            "budget": plan.spec.budget.as_budget.model_dump(),
            "overrides": plan.spec.overrides,
            "sandbox_level": plan.sandbox_level,
            "numbers": self.numbers(),
            "started": self.facts,
            "machine": hardware.facts() | {"lock_sha256": hardware.lock_sha256()},
            "checkpoint": str(checkpoint) if self.outcome == "ok" else None,
            "can_resume": self.outcome == "stopped" or (self.outcome == "failed" and has_snapshot(folder)),
            "score": self.score.model_dump() if self.score else None,
        }


def write_ending(ending: Ending, plan: Plan, folder: Path) -> dict[str, Any]:
    """Write ended.json and return what it holds."""
    body = ending.as_json(plan, folder)
    write_whole(folder / "ended.json", json.dumps(body, indent=2, allow_nan=False) + "\n")
    return body
