"""The end of a run: its outcome, how it failed, and whose fault each kind of failure is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from gpu_runner.contract.run import Spent
from gpu_runner.contract.score import Score
from gpu_runner.contract.wire import Line, Lines, StepCount, TokenCount, Wire

FailureKind = Literal[
    "out_of_memory",
    "over_budget",
    "over_limit",
    "device_lost",
    "no_compiler",
    "snapshot_unfit",
    "not_finite",
    "bad_override",
    "bad_patch",
    "digest_mismatch",
    "held_out_text",
    "recipe_error",
    "deadline",
    "dataset_missing",
    "no_checkpoint",
    "no_metric",
    "scorer_failed",
    "sandbox_missing",
    "killed",
    "machine_failed",
    "lost_contact",
    "worker_stopped",
    "unexplained",
    "worker_error",
]

# Whose fault each kind is. This table alone decides what follows, on both sides.
#   proposal   the proposal is judged by it, at once
#   machine    nothing is known against the proposal: the run is given back and tried again within its attempts, under
#              the same seed and spec; after the last one its proposal is inconclusive
#   operator   a person has to set something right first: no further attempt, the proposal is inconclusive
#   nobody     not known: no further attempt, the proposal is inconclusive
Fault = Literal["proposal", "machine", "operator", "nobody"]
FAULT_OF: Mapping[FailureKind, Fault] = {
    "out_of_memory": "proposal",
    "over_budget": "proposal",
    "over_limit": "proposal",
    "not_finite": "proposal",
    "bad_override": "proposal",
    "bad_patch": "proposal",
    "held_out_text": "proposal",
    "recipe_error": "proposal",
    "deadline": "proposal",
    "no_checkpoint": "proposal",
    "no_metric": "proposal",
    "scorer_failed": "proposal",
    "device_lost": "machine",
    "killed": "machine",
    "machine_failed": "machine",
    "lost_contact": "machine",
    "worker_stopped": "machine",
    "no_compiler": "operator",
    "snapshot_unfit": "operator",
    "digest_mismatch": "operator",
    "dataset_missing": "operator",
    "sandbox_missing": "operator",
    "worker_error": "operator",
    "unexplained": "nobody",  # given back more often than its incumbent's own runs: the machine, or its own doing
}


class Failure(Wire):
    """Why a run ended without a score: one sentence, and what to do about it."""

    kind: FailureKind
    message: Annotated[Lines, Field(max_length=4_000)]
    todo: Annotated[Line, Field(max_length=1_000)] = ""


class RunEnd(Wire):
    """The end of a lease. ``lost`` gives the run back unharmed, for another attempt."""

    fence: int
    outcome: Literal["finished", "failed", "timed_out", "cancelled", "lost"]
    failure: Failure | None = None
    score: Score | None = None
    device_s: float = Field(ge=0)  # wall-clock seconds for which the device was held
    train_s: float | None = None  # inside the training clock
    compile_s: float | None = None
    peak_memory_mib: float | None = None
    num_steps: StepCount | None = None
    num_tokens: TokenCount | None = None
    spent: Spent | None = None  # None: it never came so far as to train

    @model_validator(mode="after")
    def _whole(self) -> RunEnd:
        if self.outcome == "finished" and self.score is None:
            raise ValueError("score: a finished run has one")
        if self.outcome in ("failed", "timed_out") and self.failure is None:
            raise ValueError(f"failure: a {self.outcome} run says why")
        return self
