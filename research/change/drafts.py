"""The types between the loop and its proposers: the Brief that one reads and the Answer that it gives. Pure: no Django.

A Proposer is anything with an ``arm`` and ``draft``/``revise``: Claude, the offline catalogue,
later random search, TPE and people. All enter the same gates and the same queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, runtime_checkable

from gpu_runner.contract import KnobValue


@dataclass(frozen=True, kw_only=True)
class Override:
    """One knob set to another value, and why."""

    key: str
    value: KnobValue
    reason: str


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An exact search-and-replace in one file; ``search`` must occur exactly once."""

    path: str
    search: str
    replace: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Stated before the run. bpb, negative is better; low..high is an interval of ``levels.STATED``."""

    effect_bpb: float
    low_bpb: float
    high_bpb: float
    chance_to_win: float  # that the verdict will be keep, 0..1


RISKS = {
    "contained": "A value or a path that training is known to bear; the worst case is a worse score.",
    "may_diverge": "It could make training unstable: spikes, NaN, a run that never recovers.",
    "heavier": "It takes clearly more time a step or more memory, and could run out of either.",
    "numerics": "It changes how numbers are computed or kept: precision, kernels, gradients written by hand.",
}


@dataclass(frozen=True, kw_only=True)
class ExpectedCost:
    """The expected cost of one run, relative to the incumbent's; the smoke run measures both."""

    time_factor: float  # seconds for the same tokens; 1.1: a tenth slower
    memory_factor: float  # peak memory


@dataclass(frozen=True, kw_only=True)
class Return:
    """A rejected idea that is proposed again, and what is different now."""

    proposal: int
    what_changed: str


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which model wrote the draft, with hashes of the whole request and of our templates in it."""

    model: str
    prompt_sha256: str
    templates_sha256: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """One proposed experiment."""

    title: str
    hypothesis: str
    mechanism: str
    refuted_if: str
    prediction: Prediction
    overrides: tuple[Override, ...] = ()
    edits: tuple[Edit, ...] = ()
    precedents: tuple[int, ...] = ()  # proposal numbers it builds on
    risk: str = ""  # one of RISKS; "" where nobody said
    cost: ExpectedCost | None = None
    why_together: str = ""  # why more than one thing changes at once
    returns: Return | None = None
    source: str = ""  # catalogue entry, or model id
    origin: Origin | None = None


@dataclass(frozen=True, kw_only=True)
class Comment:
    """What a reviewer wrote with a decision other than a rejection."""

    choice: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Precedent:
    """An earlier proposal and its outcome, for the next prompt."""

    number: int
    title: str
    state: str  # proposal state
    outcome: str | None  # keep | discard | inconclusive | disputed, None while open
    reason: str  # verdict's, rejection's or gate's sentence
    effect_bpb: float | None
    low_bpb: float | None
    high_bpb: float | None
    overrides: tuple[Override, ...]
    patch: str
    source: str
    on_incumbent: bool  # was it tried on the present incumbent?
    comments: tuple[Comment, ...] = ()
    settled_at: str = ""  # since when it is what it is, as ISO 8601; orders the ledger
    interval_percent: float | None = None  # how sure low_bpb to high_bpb is; None without them
    self_reported: str = ""  # the effect by the trainer's own word, with unit; empty where it was measured
    holds_held_out: bool = False  # a worker found held-out text in its patch: that is told to nobody who proposes

    @property
    def told_patch(self) -> str:
        """The patch as a proposer may read it."""
        return "(left out: it holds held-out text)" if self.holds_held_out else self.patch


@dataclass(frozen=True, kw_only=True)
class Imported:
    """An experiment that another loop ran, as it reports it: one seed, no verdict of ours. Called H-12."""

    number: int
    source: str  # autoresearch, Weights & Biases, ...
    title: str
    outcome: str  # kept | discarded | crashed | unsaid
    metric: str
    direction: str  # lower | higher is better
    value: float | None
    description: str = ""
    said: str = ""  # the source's own word for its outcome
    gain: float | None = None  # over what it stands on; positive is better
    stands_on: int | None = None  # another one's number
    memory_mib: float | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)
    patch: str = ""


@dataclass(frozen=True, kw_only=True)
class Dynamics:
    """How one run's training went: measurements at shares ``at`` of its steps, in columns of one length."""

    name: str
    at: tuple[float, ...]
    tokens: tuple[float | None, ...]
    metrics: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True, kw_only=True)
class LogTail:
    """The end of a failed run's log. Proposed code wrote it."""

    proposal: int
    purpose: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Note:
    """A person's steering note."""

    at: str  # day and time, UTC
    text: str


@dataclass(frozen=True, kw_only=True)
class Word:
    """The number that a foreign trainer reports itself, on which a campaign rests."""

    metric: str
    unit: str
    direction: str  # lower | higher: which is better
    is_judged: bool  # whether verdicts may rest on it
    incumbent: float | None  # mean over its seeds, as the trainer says
    noise_sd: float | None  # of a paired difference

    def shown(self, number: float) -> str:
        return f"{number:.5f} {self.unit}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Brief:
    """Everything a proposer may know. Files and logs in it may be written by others: data, not orders."""

    campaign: str
    goal: str
    program: str
    recipe_toml: str
    files: dict[str, str]  # path -> text, the recipe at the incumbent (recipe.toml included)
    incumbent_bpb: float | None
    noise_sd_bpb: float | None  # of a paired difference, None until measured
    min_effect_bpb: float
    run_budget: str  # in words: "750,000 tokens"
    hardware: str
    budget_left: str  # in words
    precedents: tuple[Precedent, ...]
    num_wanted: int
    seed: int  # the proposer's own randomness
    dynamics: tuple[Dynamics, ...] = ()
    log_tails: tuple[LogTail, ...] = ()
    notes: tuple[Note, ...] = ()
    word: Word | None = None  # None: the trusted scorer measures
    num_since_keep: int = 0  # judged on the present incumbent, none of them kept
    not_shown: tuple[str, ...] = ()  # further files of the recipe: name, and why or how large
    imported: tuple[Imported, ...] = ()  # of other loops, by number


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The cost of one HTTP attempt at a model; usd is None when it is unknown, never 0.

    ``usd_at_most`` is the most that it can have cost; caps count that where usd is None. ``row`` is the id of the
    ledger entry that was made before it was sent. ``body`` is the response as it came, without our key; ``request_id``
    is the server's name for it, which Anthropic's support asks for.
    """

    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    usd: Decimal | None
    seconds: float
    stop_reason: str
    usd_at_most: Decimal | None = None
    row: int | None = None
    body: str = field(default="", repr=False)
    request_id: str = ""


class OverCap(Exception):
    """Other requests have left too little for this one; ``str()`` is a sentence."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What may be spent on a model: for one call, and in all until the cap ``name`` (in words) is reached."""

    usd_per_call: Decimal
    usd_left: Decimal
    name: str = "allowance"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Drafts, and what they cost. ``problem`` is a sentence for the campaign page when there are none.

    ``design``: what the drafts are to find out together, or how a revision answers its comment.
    """

    drafts: tuple[Draft, ...] = ()
    design: str = ""
    usages: tuple[Usage, ...] = ()
    problem: str = ""
    retry_after_s: float | None = None
    is_late: bool = False  # a batch that could not be looked at: its answer may still come


class Proposer(Protocol):
    arm: str

    def draft(self, brief: Brief) -> Answer:
        """Up to ``brief.num_wanted`` drafts; ``repeats`` drops those that repeat earlier ones."""
        ...

    def revise(self, brief: Brief, previous: Draft, comment: str) -> Answer:
        """One draft that answers a reviewer's comment, or none and a ``problem``."""
        ...


@runtime_checkable
class BatchProposer(Proposer, Protocol):
    """A Proposer that can also take a request now and answer later."""

    def submit(self, brief: Brief, keep: Callable[[Any], None]) -> tuple[Any, Answer]:
        """Submit the request: (what finds it again, or None; an Answer with the reason).

        ``keep`` gets it before it is sent.
        """
        ...

    def collect(self, brief: Brief, pending: Any) -> Answer | None:
        """The answer; None while there is none."""
        ...
