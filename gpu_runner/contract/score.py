"""The score: what the trusted scorer measured, with its evidence and its effort."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gpu_runner.contract.wire import MAX_STEPS, Facts, Line, Lines, Wire

MAX_PLACES = 20
HeldOutSplit = Literal["watch", "val", "sealed"]
Where = Annotated[int, Field(ge=0, le=MAX_STEPS)]


class Place(Wire):
    """A position at which a challenge's answer differed from the committed one. Numbers only, never the text."""

    row: Where
    position: Where
    cut: Where | None  # from where on other text stood; None: only the company was another
    first_nats: float
    again_nats: float
    nats: float = Field(ge=0)  # the difference


class Evidence(Wire):
    """What the challenges found: how many of the prefixes differed by more than the tolerance, and the worst places."""

    num_asked: int = Field(ge=0, le=MAX_STEPS)
    num_apart: int = Field(ge=0, le=MAX_STEPS)
    tolerance_nats: float = Field(ge=0)
    largest_nats: float = Field(ge=0)
    split: HeldOutSplit = "val"
    places: list[Place] = Field(max_length=MAX_PLACES)

    @model_validator(mode="after")
    def _no_more_than_there_are(self) -> Evidence:
        if not len(self.places) <= self.num_apart <= self.num_asked:
            raise ValueError(f"places: {len(self.places)} of {self.num_apart} of {self.num_asked} prefixes")
        return self


Seconds = Annotated[float, Field(ge=0)]
Mebibytes = Annotated[float, Field(ge=0)]
Clock = Literal["processor", "wall"]  # of all processors together; or of the wall, where a GPU's time is not counted
Bound = Literal["start", "later", "memory", "checkpoint"]


class Effort(Wire):
    """What a model's processes spent while they were scored, counted from outside. Seconds are of ``clock``.

    Of several processes: the start that is furthest above what is allowed, and the dearest later answers.
    """

    clock: Clock
    num_processes: int = Field(ge=1, le=MAX_STEPS)
    ready_s: Seconds  # Python and torch, before any proposed code
    load_s: Seconds  # train.py imported, the model built, the checkpoint in it
    first_s: Seconds  # from there until the first answer was out
    later_s: Seconds | None  # one further answer, on average; None: there was none
    num_later: int = Field(ge=0, le=MAX_STEPS)
    total_s: Seconds
    peak_memory_mib: Mebibytes  # of main memory, beyond what Python and torch hold
    num_threads: int = Field(ge=0, le=MAX_STEPS)
    checkpoint_mib: Mebibytes
    other_mib: Mebibytes  # of the checkpoint, what is no floating-point number
    over: list[Bound] = Field(default=[], max_length=4)  # what was more than is believed to be answering


class SelfReported(Wire):
    """What a foreign trainer says of itself. Nobody measured it, and it is no val_bpb."""

    metric: str = Field(pattern=r"^[a-z][a-z0-9_/]{0,63}$")
    unit: Annotated[Line, Field(max_length=40)] = ""
    direction: Literal["lower", "higher"]
    value: float | None  # the last that it said; None: a smoke run ended before it said any
    step: Where | None = None  # as it says
    num_values: int = Field(default=0, ge=0, le=MAX_STEPS)  # how often it said one

    @model_validator(mode="after")
    def _is_not_ours(self) -> SelfReported:
        if self.metric == "val_bpb":
            raise ValueError("metric: val_bpb is what the trusted scorer measures")
        return self


class Score(Wire):
    """What the trusted scorer measured, with the hashes that make it comparable.

    Of a foreign trainer whose model nobody can open the outcome is *self_reported*: there is no val_bpb then, and
    ``self_reported`` holds the trainer's own word.
    """

    val_bpb: float | None
    outcome: Literal["ok", "disputed", "quarantined", "failed", "self_reported"]
    reasons: list[Lines] = Field(max_length=20)
    provenance: Facts
    seconds: float
    self_reported_bpb: float | None = None
    evidence: Evidence | None = None  # None: nothing was challenged
    effort: Effort | None = None  # None: no process came to its end, or an older scorer
    sealed_bpb: float | None = None  # None: the sealed split was not read, as for every run but a promotion's
    self_reported: SelfReported | None = None  # beside a measured number it counts for nothing

    @model_validator(mode="after")
    def _ok_has_a_number(self) -> Score:
        if self.outcome == "ok" and self.val_bpb is None:
            raise ValueError("val_bpb: missing though the outcome is ok")
        return self

    @model_validator(mode="after")
    def _keeps_the_two_apart(self) -> Score:
        if self.outcome != "self_reported":
            return self
        if self.self_reported is None:
            raise ValueError("self_reported: missing though the outcome is self_reported")
        if self.val_bpb is not None or self.sealed_bpb is not None:
            raise ValueError("val_bpb: a self-reported number is none that the scorer measured")
        return self
