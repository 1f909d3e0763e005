"""The reports of a live run, and the order that answers each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gpu_runner.contract.wire import Fact, Line, StepCount, TokenCount, Wire, canonical_json

MAX_POINTS = 2_000
MAX_LOG_LINES = 400
MAX_LOG_CHARS = 2_000
MAX_METRICS = 64
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_/]{0,63}$")]


class Points(Wire):
    """Measurements as columns of one length. A metric that was not taken at a step is None."""

    step: list[StepCount] = Field(max_length=MAX_POINTS)
    tokens: list[TokenCount]
    elapsed_s: list[float]
    metrics: dict[MetricName, list[float | None]] = Field(max_length=MAX_METRICS)

    @model_validator(mode="after")
    def _one_length(self) -> Points:
        n = len(self.step)
        lengths = {"tokens": len(self.tokens), "elapsed_s": len(self.elapsed_s)}
        for name, length in (lengths | {name: len(column) for name, column in self.metrics.items()}).items():
            if length != n:
                raise ValueError(f"{name}: {length} values for {n} steps")
        return self


class LogLine(Wire):
    at_s: float  # since the training process started
    level: Literal["info", "eval", "warning", "error"]
    text: Annotated[Line, Field(max_length=MAX_LOG_CHARS)]


class Progress(Wire):
    """How far training is. ``num_steps`` is what the budget allows at the present rate."""

    fraction: float = Field(ge=0, le=1)
    eta_s: float | None
    step: TokenCount
    num_steps: TokenCount | None


Phase = Literal["leased", "training", "scoring"]


class Report(Wire):
    """A batch from a live run. ``seq`` counts up by one; a repeated seq changes nothing."""

    fence: int
    seq: int = Field(ge=1)
    phase: Phase
    points: Points | None = None
    log: list[LogLine] = Field(default=[], max_length=MAX_LOG_LINES)
    progress: Progress | None = None
    started: dict[Line, Fact] | None = None  # device, dtype, compile, attention, parameters, effective knobs

    @model_validator(mode="after")
    def _started_is_small(self) -> Report:
        if self.started is not None and len(canonical_json(self.started)) > 20_000:
            raise ValueError("started: more than 20,000 bytes")
        return self


class Beat(Wire):
    """A heartbeat: nothing new to report, but the worker still holds the lease."""

    fence: int


class Order(Wire):
    """The answer to a report: go on or stop, and the last seq that is safely stored."""

    order: Literal["continue", "stop"]
    reason: str = ""
    acked_seq: int
