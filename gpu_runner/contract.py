"""What crosses the border between the web side and a GPU machine.

This is the only module of ``gpu_runner`` that ``webapp`` and ``research`` may import, so it
imports neither torch nor celery nor Django. Everything here is frozen and parsed strictly:
an unknown field, a wrong type, NaN or Infinity is refused with the field's name
(``pydantic.ValidationError``, a ``ValueError``).

Reading order: recipe (what may be changed) -> approval (what was countersigned) ->
run spec (what is sent) -> report and end (what comes back) -> order (what the worker must do).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gpu_runner.plain import is_hidden as is_hidden  # one rule of what hides, on both sides
from gpu_runner.plain import plain
from gpu_runner.retry_after import retry_after_s as retry_after_s  # one reading of what a server asks for

SCORER_VERSION = "6"
GATE_VERSION = "4"

HEARTBEAT_S = 10.0  # a worker that has nothing to report still reports this often
LEASE_S = 60.0  # without a report for so long, the run is somebody else's
WORKER_GIVES_UP_S = 45.0  # the worker kills its own run first: two copies never overlap

KnobValue = int | float | bool | str
Knobs = dict[str, KnobValue]


class Wire(BaseModel):
    """Base of all that crosses: immutable, no unknown fields, no coercion, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


W = TypeVar("W", bound=Wire)


def canonical_json(value: object) -> bytes:
    """One byte string per value: sorted keys, no spaces, UTF-8, no NaN. What digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()


# --- the recipe: what a proposal may change ------------------------------------------------


class Knob(Wire):
    """One declared override: its type, bounds and default, as ``recipe.toml`` states them."""

    key: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    type: Literal["int", "float", "bool", "choice"]
    default: KnobValue
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    multiple_of: int | None = None

    def problem_with(self, value: object) -> str | None:
        """Why ``value`` may not be used, as a sentence naming the key and the way out; None if it may."""
        if self.type == "bool":
            return None if isinstance(value, bool) else f"{self.key}: must be true or false, not {value!r}"
        if self.type == "choice":
            if value in self.choices:
                return None
            return f"{self.key}: {value!r} is not one of {', '.join(self.choices)}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{self.key}: must be a number, not {value!r}"
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            return f"{self.key}: is larger than any number here"
        if not math.isfinite(value):
            return f"{self.key}: must be finite, not {value!r}"
        if self.type == "int" and value != int(value):
            return f"{self.key}: must be a whole number, not {value!r}"
        if self.low is not None and value < self.low:
            return f"{self.key}: {value:g} is below its lower bound {self.low:g}"
        if self.high is not None and value > self.high:
            return f"{self.key}: {value:g} is above its upper bound {self.high:g}"
        if self.multiple_of is not None and value % self.multiple_of:
            return f"{self.key}: {value:g} is not a multiple of {self.multiple_of}"
        return None


class Recipe(Wire):
    """A parsed ``recipe.toml``: name, what it is, which files may be edited, its knobs."""

    name: str
    about: str
    editable: tuple[str, ...]
    knobs: tuple[Knob, ...]

    def knob(self, key: str) -> Knob | None:
        return next((k for k in self.knobs if k.key == key), None)

    def problems_with(self, overrides: Knobs) -> list[str]:
        """Every reason why ``overrides`` may not be used; empty when they may."""
        problems: list[str] = []
        for key, value in overrides.items():
            knob = self.knob(key)
            if knob is None:
                problems.append(
                    f"{key}: not declared in recipe.toml; declared are {', '.join(k.key for k in self.knobs)}"
                )
            elif (problem := knob.problem_with(value)) is not None:
                problems.append(problem)
        return problems

    def effective(self, overrides: Knobs) -> Knobs:
        """Defaults with ``overrides`` on top. Raises ValueError on the first bad one: never clamps."""
        if problems := self.problems_with(overrides):
            raise ValueError(problems[0])
        values: Knobs = {k.key: k.default for k in self.knobs} | overrides
        return {k.key: _as_type(k, values[k.key]) for k in self.knobs}


def _as_type(knob: Knob, value: KnobValue) -> KnobValue:
    if knob.type == "int":
        return int(value)
    return float(value) if knob.type == "float" else value


def parse_recipe(text: str) -> Recipe:
    """Parse ``recipe.toml``. Raises ValueError that names the table and the field."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"recipe.toml: {error}") from error
    head, bodies = (_table(table, name) for name in ("recipe", "knobs"))
    knobs = []
    for key, body in bodies.items():
        if not isinstance(body, dict):
            raise ValueError(f"recipe.toml: [knobs.{key}] must be a table")
        fields = body | {"key": key}
        if isinstance(fields.get("choices"), list):
            fields["choices"] = tuple(fields["choices"])
        knob = Knob(**fields)
        if (problem := knob.problem_with(knob.default)) is not None:
            raise ValueError(f"recipe.toml: the default of {problem}")
        knobs.append(knob)
    editable = head.get("editable", [])
    if not isinstance(editable, list):
        raise ValueError("recipe.toml: editable in [recipe] must be a list of files")
    return Recipe(
        name=head.get("name", ""),
        about=head.get("about", ""),
        editable=tuple(editable),
        knobs=tuple(knobs),
    )


def _table(of: dict[str, Any], name: str) -> dict[str, Any]:
    found = of.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"recipe.toml: [{name}] must be a table")
    return found


_DEFAULT_LINE = re.compile(r"^default\s*=.*$", re.M)


def with_defaults(text: str, overrides: Knobs) -> str:
    """``recipe.toml`` with the defaults of ``overrides`` replaced in place: comments and order stay."""
    for key, value in overrides.items():
        start = text.index(f"[knobs.{key}]")
        end = text.find("\n[", start)
        end = len(text) if end == -1 else end
        body, count = _DEFAULT_LINE.subn(f"default = {json.dumps(value)}", text[start:end], count=1)
        if count != 1:
            raise ValueError(f"recipe.toml: [knobs.{key}] has no line that starts with 'default ='")
        text = text[:start] + body + text[end:]
    return text


def is_safe_path(path: str) -> bool:
    """True for a relative POSIX path that stays inside its folder."""
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and "\0" not in path


# --- the approval: what a person countersigned ---------------------------------------------


class Budget(Wire):
    """How long a run trains. Tokens and FLOPs compare learning; seconds compare systems."""

    kind: Literal["seconds", "tokens", "flops"]
    amount: float = Field(gt=0)

    @property
    def longest_s(self) -> float | None:
        """Wall clock from "started" to the last word that an honest run may take; None where seconds are not counted.

        The harness keeps its clock in the process of the proposed code, which could turn it back; the supervisor
        allows half as much again for the watch curve, and a minute for the checkpoint.
        """
        return 1.5 * self.amount + 60 if self.kind == "seconds" else None


# torch's generator on a CPU reads 32 bits of a seed: 2**32 + 1 gives the weights of 1, bit for bit. A seed above, and
# one below 0, which Python reads as its opposite, would be another's under a number of its own.
MAX_SEED = 2**32 - 1
SEEDS_OF_AN_INCUMBENT = 1_000  # the last is the sealed pair's
MAX_PAIRS = SEEDS_OF_AN_INCUMBENT - 2
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class SeedPolicy(Wire):
    """How many pairs of seeds may be spent, and when to stop looking."""

    min_pairs: int = Field(ge=1)
    max_pairs: int = Field(ge=1, le=MAX_PAIRS)
    alpha: float = Field(gt=0, lt=1)
    min_effect_bpb: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> SeedPolicy:
        if self.max_pairs < self.min_pairs:
            raise ValueError(f"max_pairs {self.max_pairs} is below min_pairs {self.min_pairs}")
        return self


def _as_any_database_keeps_it(overrides: Knobs) -> Knobs:
    """PostgreSQL's JSON has no -0.0 and writes 1e16 in digits: read back, they would be signed by another digest."""
    return {key: _kept(value) if isinstance(value, float) else value for key, value in overrides.items()}


def _kept(value: float) -> KnobValue:
    return int(value) if "e+" in repr(value) else value + 0.0  # -0.0 + 0.0 is 0.0


class Approval(Wire):
    """Everything that changes what a run means. Its digest is what a person signs (design §4)."""

    base_commit: str = Field(pattern=r"^[0-9a-f]{40}$")
    patch: str
    overrides: Annotated[Knobs, AfterValidator(_as_any_database_keeps_it)]
    budget: Budget
    seeds: SeedPolicy
    dataset_sha256: str
    scorer_version: str
    lock_sha256: str
    sandbox_level: str
    gate_version: str

    def of_the_incumbent(self) -> Approval:
        """The same conditions without the change: what a candidate is compared with."""
        return self.model_copy(update={"patch": "", "overrides": {}})

    def digest(self) -> str:
        """sha256 (hex) over the canonical JSON of every field."""
        return sha256(canonical_json(self.model_dump(mode="json")))


# --- what a run uses up -------------------------------------------------------------------------

MAX_STEPS = 2**31 - 1  # what the record's columns hold: a hostile process may say any number
MAX_TOKENS = 2**53  # and what a browser's JSON reader keeps exact
StepCount = Annotated[int, Field(ge=0, le=MAX_STEPS)]
TokenCount = Annotated[int, Field(ge=0, le=MAX_TOKENS)]


MOST_TIMES = 3.0


class Spent(Wire):
    """What a run used, as its supervisor measured it from outside: nothing in it is the run's own word.

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
        """How many times as much each token took as ``other``'s did; None where one of them is too short to tell.

        In processor seconds where both were counted, else by the clock. While the last batch is worked on, the time
        with text is over.
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
        """What is to be expected of a run that showed so much in its smoke run; None: it showed nothing."""
        if shown is None:
            return self
        known = min(self.num_batches, shown.num_batches)
        batch = shown.num_tokens / shown.num_batches / (self.num_tokens / self.num_batches) if known else None
        return self.heavier(shown.times(self), batch)

    def heavier(self, times: float | None, batch_times: float | None = None) -> Spent:
        """What is to be expected of a run whose tokens take ``times`` as much, and come in so much larger batches.
        Never less than this.

        Building, looking at and saving a model grow with it, too, and so do the dummy steps before the clock and the
        last step, which ends after it; but nobody may make much of that: up to MOST_TIMES.
        """
        all_of_it = max(times or 1.0, 1.0)
        some_of_it = min(all_of_it * max(batch_times or 1.0, 1.0), MOST_TIMES)
        grown = {
            name: seconds * (all_of_it if name.startswith("train") else some_of_it)
            for name in ("before_s", "before_cpu_s", "train_s", "train_cpu_s", "after_s", "after_cpu_s")
            if (seconds := getattr(self, name)) is not None
        }
        return self.model_copy(update=grown)


# --- the run: what is sent ------------------------------------------------------------------

Purpose = Literal["smoke", "baseline", "candidate"]


class RunSpec(Wire):
    """What a worker is given for one run. The source comes apart, as a git bundle of ``base_commit``."""

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


# What a worker says in words. A hostile one speaks the wire itself, so nothing that hides gets past the parser.
Line = Annotated[str, AfterValidator(plain)]
Lines = Annotated[str, AfterValidator(lambda text: plain(text, keep="\n"))]
HardwareClass = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")]
SandboxLevel = Annotated[str, Field(pattern=r"^[a-z]{1,20}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]  # empty where there is no such file
Whole = Annotated[int, Field(ge=-MAX_TOKENS, le=MAX_TOKENS)]
Scalar = bool | Whole | float | Line | None
Fact = Scalar | list[Scalar] | dict[Line, Scalar]
Facts = Annotated[dict[Line, Scalar], Field(max_length=200)]


class Claim(Wire):
    """A worker asks for work, and says what it is."""

    hardware_class: HardwareClass
    sandbox_level: SandboxLevel
    lock_sha256: Sha256


class Lease(Wire):
    """The answer to a claim: the run, and the token that only this lease may use."""

    spec: RunSpec
    token: str


class Hello(Wire):
    """A worker introduces itself when it starts."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    hardware_class: HardwareClass
    hardware: Facts
    sandbox_level: SandboxLevel
    lock_sha256: Sha256


# --- what comes back ------------------------------------------------------------------------

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
    """Nothing new to report, but the lease is still held."""

    fence: int


class Order(Wire):
    """The answer to a report: go on or stop, and the last seq that is safely stored."""

    order: Literal["continue", "stop"]
    reason: str = ""
    acked_seq: int


MAX_PLACES = 20
HeldOutSplit = Literal["watch", "val", "sealed"]
Where = Annotated[int, Field(ge=0, le=MAX_STEPS)]


class Place(Wire):
    """One position at which a model answered otherwise when it was asked again. Numbers only: never the text."""

    row: Where
    position: Where
    cut: Where | None  # from where on other text stood; None: only the company was another
    first_nats: float
    again_nats: float
    nats: float = Field(ge=0)  # the difference


class Evidence(Wire):
    """What the challenges found: how many of how many prefixes differed by more than the tolerance, the worst first."""

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
    """What a model's processes spent on being scored, counted outside of them. Seconds are of ``clock``.

    Of several processes: the one that took longest to its first answer, and the dearest later answer of any.
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


class Score(Wire):
    """What the trusted scorer measured, with the hashes that make it comparable."""

    val_bpb: float | None
    outcome: Literal["ok", "disputed", "quarantined", "failed"]
    reasons: list[Lines] = Field(max_length=20)
    provenance: Facts
    seconds: float
    self_reported_bpb: float | None = None
    evidence: Evidence | None = None  # None: nothing was challenged
    effort: Effort | None = None  # None: no process came to its end, or an older scorer
    sealed_bpb: float | None = None  # None: the sealed split was not read, as for every run but a promotion's

    @model_validator(mode="after")
    def _ok_has_a_number(self) -> Score:
        if self.outcome == "ok" and self.val_bpb is None:
            raise ValueError("val_bpb: missing though the outcome is ok")
        return self


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
    "scorer_failed",
    "sandbox_missing",
    "killed",
    "machine_failed",
    "lost_contact",
    "worker_stopped",
    "unexplained",
    "worker_error",
]

# Whose fault each is; what follows from it is decided by this table alone, on both sides.
#   proposal   it is judged by it, at once
#   machine    nothing is known against the proposal: the run is given back and tried again within its attempts, under
#              the same seed and spec; then its proposal is inconclusive
#   operator   somebody has to set something right first: no further attempt, the proposal is inconclusive
#   nobody     it cannot be told: no further attempt, the proposal is inconclusive
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
    """The last word of a lease. ``lost`` gives the run back unharmed, for another attempt."""

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


def parse(kind: type[W], body: bytes) -> W:
    """Strictly parse JSON bytes into ``kind``. Raises ValueError naming every bad field."""
    return kind.model_validate_json(body)
