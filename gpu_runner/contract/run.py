"""The run: its spec, the messages by which a worker gets it, and what it spent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gpu_runner.contract.approval import Approval, Seed
from gpu_runner.contract.dataset import MAX_SUMMARIES, DatasetName, DatasetSummary
from gpu_runner.contract.score import Effort
from gpu_runner.contract.wire import Facts, HardwareClass, SandboxLevel, Sha256, StepCount, TokenCount, Wire

MOST_TIMES = 3.0


class Spent(Wire):
    """What a run used, measured by its supervisor from outside; nothing in it is the run's own word.

    Seconds by the clock, and processor seconds of all the run's processes together; None where they are not counted:
    on a GPU, and where there is no /proc.
    """

    before_s: float = Field(ge=0)  # from the first line of the recipe to the first text
    before_cpu_s: float | None = Field(default=None, ge=0)
    train_s: float = Field(ge=0)  # from there until the budget was spent
    train_cpu_s: float | None = Field(default=None, ge=0)
    after_s: float = Field(ge=0)  # from there until the checkpoint stood
    after_cpu_s: float | None = Field(default=None, ge=0)
    num_tokens: TokenCount  # handed out to train on
    num_batches: StepCount
    num_watch_tokens: TokenCount = 0  # handed out for the watch curve

    def times(self, other: Spent) -> float | None:
        """How many times as long a token took as ``other``'s did; None where either has fewer than two batches.

        Also None where ``other`` took no time at all. In processor seconds where both were counted, else by the clock.
        ``train_s`` ends when the last batch is handed out, so it is scaled up by that one batch.
        """
        counted = self.train_cpu_s is not None and other.train_cpu_s is not None
        mine, theirs = (
            ((of.train_cpu_s or 0.0) if counted else of.train_s) / max(of.num_batches - 1, 1) * of.num_batches
            for of in (self, other)
        )
        if min(self.num_batches, other.num_batches) < 2 or not theirs:
            return None
        return (mine / self.num_tokens) / (theirs / other.num_tokens)

    def as_heavy_as(self, shown: Spent | None) -> Spent:
        """What the incumbent's run would use with steps as heavy as those of ``shown``, a smoke run; None: as it is."""
        if shown is None:
            return self
        known = min(self.num_batches, shown.num_batches)
        batch = shown.num_tokens / shown.num_batches / (self.num_tokens / self.num_batches) if known else None
        return self.heavier(shown.times(self), batch)

    def heavier(self, times: float | None, batch_times: float | None = None) -> Spent:
        """What a run would use whose tokens take ``times`` as long, in ``batch_times`` as large batches; never less.

        Building, watching and saving a model grow with it, and so do the dummy steps before the clock and the last
        step, which ends after it. But no run may gain much by that, so these grow up to MOST_TIMES.
        """
        all_of_it = max(times or 1.0, 1.0)
        some_of_it = min(all_of_it * max(batch_times or 1.0, 1.0), MOST_TIMES)
        grown = {
            name: seconds * (all_of_it if name.startswith("train") else some_of_it)
            for name in ("before_s", "before_cpu_s", "train_s", "train_cpu_s", "after_s", "after_cpu_s")
            if (seconds := getattr(self, name)) is not None
        }
        return self.model_copy(update=grown)


Purpose = Literal["smoke", "baseline", "candidate"]


class RunSpec(Wire):
    """All that a worker is sent for one run, but for the source, a git bundle of ``base_commit``."""

    run_id: int
    fence: int
    attempt: int
    next_seq: int
    purpose: Purpose
    title: str
    seed: Seed
    approval: Approval
    digest: str
    dataset: str
    max_steps: int | None  # smoke runs stop after so many steps, whatever the budget
    score_tokens: int = Field(gt=0)
    splits: tuple[Literal["val", "sealed"], ...] = ("val",)  # what the scorer reads; sealed at a promotion only
    deadline_s: float = Field(gt=0)  # wall clock of the training process, compile included
    usual: Spent | None = None  # the most that the incumbent's own runs used; None where none was measured yet
    usual_effort: Effort | None = None  # what scoring the incumbent takes on such a machine, where that is known


class Claim(Wire):
    """A worker's request for a run, with the conditions that it meets."""

    hardware_class: HardwareClass
    sandbox_level: SandboxLevel
    lock_sha256: Sha256
    environments: list[Sha256] = Field(default=[], max_length=20)  # of the packages of each that is declared here


class Lease(Wire):
    """The answer to a claim: the run's spec, and the run token of this lease."""

    spec: RunSpec
    token: str


class Hello(Wire):
    """A worker's introduction when it starts."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    hardware_class: HardwareClass
    hardware: Facts
    sandbox_level: SandboxLevel
    lock_sha256: Sha256
    datasets: Annotated[dict[DatasetName, Sha256], Field(max_length=200)] = {}  # name -> hash of its manifest
    environments: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")], Sha256] = Field(
        default={}, max_length=20
    )  # declared by its operator: name -> sha256 of its packages
    summaries: list[DatasetSummary] = Field(default=[], max_length=MAX_SUMMARIES)  # of datasets not described before

    @model_validator(mode="after")
    def _describes_its_own(self) -> Hello:
        for one in self.summaries:
            if self.datasets.get(one.name) != one.sha256:
                raise ValueError(f"summaries: {one.name} {one.sha256[:12]} is not in datasets")
        return self
