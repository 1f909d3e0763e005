"""Every kind of event that there is, and what an event of it says beside its sentence. Pure: no Django.

A kind is its own name: stored events are compared with it. Calling it gives the fact that ``events.record`` writes:

    events.record(kinds.WORKER_ENROLLED(worker=worker.pk), sentence, by=by)

Kinds of a state that somebody or something has come into stand in one table each, derived from ``lifecycle``. Names and
payloads are in the audit chain: neither may change, and a field that is added has to be one that may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, ParamSpec, TypedDict

from research import lifecycle

Fields = ParamSpec("Fields")
Payload = Mapping[str, Any]


class Fact(NamedTuple):
    """What is written into an event: its kind, and a payload of the shape that this kind has."""

    kind: Kind[...]
    payload: Payload


class Kind(str, Generic[Fields]):
    """The name of a kind, and the shapes of its payload: TypedDicts, of which it is one."""

    shapes: tuple[Callable[..., Payload], ...]
    do_not_call_in_templates = True  # Django would, and a page wants its name

    def __new__(cls, name: str, shape: Callable[Fields, Payload], *others: Callable[..., Payload]) -> Kind[Fields]:
        kind = super().__new__(cls, name)
        kind.shapes = (shape, *others)
        if name in REGISTERED:
            raise AssertionError(f"the kind of event {name} is registered already")
        REGISTERED[name] = kind
        return kind

    def __call__(self, *args: Fields.args, **fields: Fields.kwargs) -> Fact:
        """A fact with a payload of the first shape. Raises TypeError on a field that is missing or unknown."""
        return self.of(self.shapes[0](*args, **fields))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and unpickled it is the same one: there is one of each name."""
        return REGISTERED.__getitem__, (str(self),)

    def of(self, payload: Payload) -> Fact:
        """A fact with ``payload``. Raises TypeError where it has none of the shapes."""
        if not any(_fits(payload, shape) for shape in self.shapes):
            shapes = " or ".join(_in_words(shape) for shape in self.shapes)
            raise TypeError(f"an event {self} says {shapes}, and not {', '.join(payload) or 'nothing'}")
        return Fact(self, payload)


REGISTERED: dict[str, Kind[...]] = {}


def _fits(payload: Payload, shape: Any) -> bool:
    return bool(shape.__required_keys__ <= payload.keys() <= shape.__required_keys__ | shape.__optional_keys__)


def _in_words(shape: Any) -> str:
    """The shape's fields, those that may be left out in brackets."""
    fields = [name if name in shape.__required_keys__ else f"[{name}]" for name in shape.__annotations__]
    return ", ".join(fields) or "nothing"


def _of_states(what: str, states: Iterable[str], *, called: Mapping[str, str], **shapes: Any) -> dict[str, Kind[...]]:
    """state -> the kind of the event that tells of a move into it; a state that is not in ``shapes`` says nothing."""
    said = {state: shapes.pop(state, (Nothing,)) for state in states}
    assert not shapes, f"{what} has no state {', '.join(shapes)}"
    return {state: Kind(f"{what}.{called.get(state, state)}", *said[state]) for state in said}


# --- payloads ------------------------------------------------------------------------------------


class Nothing(TypedDict):
    """All that there is to say stands in the sentence."""


class Decided(TypedDict):
    """``decision`` is the number of its row."""

    digest: str
    reason: str
    decision: int


class Overridden(TypedDict):
    """Somebody signed that ``gates``, which had failed, do not count; as Decided."""

    digest: str
    gates: list[str]
    reason: str
    decision: int


class OfRevision(TypedDict):
    """``revision`` is its number within its proposal, from 1."""

    revision: int


class Drafted(OfRevision, total=False):
    """``wave`` of a new proposal (None: it came alone), ``was`` of an edited one: the digest before."""

    wave: int | None
    was: str


class Blocked(OfRevision):
    gates: list[str]


class Told(TypedDict):
    """``told`` is the sentence as it leaves the house, without what the sealed text said."""

    told: str


class Withdrawn(TypedDict):
    """By a person."""

    reason: str


class KeptOnVal(TypedDict):
    """``final`` is the look at which the test on val stopped, and its pairs: see ``judge``."""

    final: dict[str, Any]


class Judged(Told):
    outcome: str
    effect_bpb: float | None
    low_bpb: float | None
    high_bpb: float | None
    num_pairs: int


class OfFinding(TypedDict):
    finding: int


class Promoted(TypedDict):
    """``number`` counts a campaign's incumbents, from 0."""

    commit: str
    number: int


class Stopping(TypedDict):
    """A live run was told to stop with its next report; ``why`` is a lifecycle.Stop."""

    why: str
    reason: str


class Lost(TypedDict):
    """``cause`` is a contract.FailureKind; ``attempt`` is the one that was lost, from 1."""

    cause: str
    attempt: int


class _Measured(TypedDict):
    val_bpb: float | None


class Ended(_Measured, total=False):
    """The worker's last word: ``outcome`` is the score's, where there is one."""

    outcome: str
    told: str


class Settled(TypedDict):
    """What a person said of a score in quarantine, and what that score is."""

    choice: str
    reason: str
    val_bpb: float | None
    outcome: str


class OfCommit(TypedDict):
    commit: str


class OfNote(TypedDict):
    note: int


class OfProgram(TypedDict):
    program: int


class OfBatch(TypedDict):
    """Anthropic's name of a batch of requests."""

    batch: str


class OfWorker(TypedDict):
    worker: int


class OfAccount(TypedDict):
    """``user`` is a name."""

    user: str


class Changed(TypedDict):
    """field -> what it was and what it is; of a secret only that it is another one."""

    changes: dict[str, list[Any]]


class Begun(TypedDict):
    """What the signed record begins with: one of its parts, and what was found before. See ``chain``."""

    was: dict[str, Any]
    part: int
    num_rows: int
    holds: str
    findings: list[str]


# --- states --------------------------------------------------------------------------------------

PROPOSAL = _of_states(
    "proposal",
    lifecycle.PROPOSAL,
    called={},
    drafted=(Drafted,),
    checking=(Nothing, Overridden),
    pending_review=(OfRevision, Overridden),
    blocked=(Blocked,),
    changes_requested=(Decided,),
    approved=(Decided,),
    rejected=(Decided,),
    judged=(Told,),
    withdrawn=(Nothing, Withdrawn),
)
RUN = _of_states(
    "run",
    lifecycle.RUN,
    called={},
    lost=(Lost,),
    finished=(Ended,),
    failed=(Nothing, Ended),
    timed_out=(Ended,),
    cancelled=(Nothing, Ended),
)
CAMPAIGN = _of_states("campaign", lifecycle.CAMPAIGN, called={})
SCORE = _of_states(
    "score", lifecycle.SCORE["quarantined"], called={"ok": "accepted"}, ok=(Settled,), disputed=(Settled,)
)
# kind -> the table of moves that it tells of, and the state that was come into
MOVES = {
    kind: (what, state)
    for what, table in (("proposal", PROPOSAL), ("run", RUN), ("campaign", CAMPAIGN), ("score", SCORE))
    for state, kind in table.items()
}

# --- the loop ------------------------------------------------------------------------------------

CAMPAIGN_CREATED = Kind("campaign.created", OfCommit)
CAMPAIGN_BOUND = Kind("campaign.bound", Nothing)
PROGRAM_WRITTEN = Kind("campaign.program_written", OfProgram)
NOTE_ADDED = Kind("campaign.note_added", OfNote)
NOTE_RETIRED = Kind("campaign.note_retired", OfNote)
PROPOSER_LOST = Kind("proposer.lost", Nothing)
PROPOSER_BATCH = Kind("proposer.batch", OfBatch)
PROPOSER_PROBLEM = Kind("proposer.problem", Nothing)
UNANSWERED = Kind("proposal.unanswered", OfRevision)
OVERRIDE_SIGNED = Kind("proposal.override_signed", Overridden)
BETTER_ON_VAL = Kind("proposal.better_on_val", KeptOnVal)
RUN_SET_ASIDE = Kind("run.set_aside", Nothing)
RUN_TOLD_TO_STOP = Kind("run.told_to_stop", Stopping)
VERDICT = Kind("verdict", Judged)
FINDING_RECORDED = Kind("finding.recorded", OfFinding)
INCUMBENT_PROMOTED = Kind("incumbent.promoted", Promoted)
WORKER_ENROLLED = Kind("worker.enrolled", OfWorker)
WORKER_HELLO = Kind("worker.hello", OfWorker)
WORKER_SWITCHED_ON = Kind("worker.switched_on", Nothing)
WORKER_SWITCHED_OFF = Kind("worker.switched_off", Nothing)
REPAIR_FAILED = Kind("repair.failed", Nothing)
AUDIT_BEGUN = Kind("audit.begun", Begun)

LEDGER_ENTERED = Kind("ledger.entered", Nothing)
LEDGER_NOT_SENT = Kind("ledger.not_sent", Nothing)
LEDGER_CHARGED = Kind("ledger.charged", Nothing)
LEDGER_WRITTEN_OFF = Kind("ledger.written_off", Nothing)
LEDGER = frozenset({LEDGER_ENTERED, LEDGER_NOT_SENT, LEDGER_CHARGED, LEDGER_WRITTEN_OFF})

# --- the doors -----------------------------------------------------------------------------------

AGENT_TOKEN_MADE = Kind("agent.token_made", Nothing)
AGENT_TOKEN_REVOKED = Kind("agent.token_revoked", Nothing)
LINK_USED = Kind("loginlink.used", Nothing)
SIGN_IN_RESTS = Kind("sign_in.rests", OfAccount)
ENDPOINT_ENABLED = Kind("endpoint.enabled", Nothing)
ENDPOINT_DISABLED = Kind("endpoint.disabled", Nothing)
ENDPOINT_SECRET_ROTATED = Kind("endpoint.secret_rotated", Nothing)

# --- rows that people change in forms and shells: see ``watch`` ------------------------------------


def _of_rows(model: str) -> dict[str, Kind[...]]:
    return {word: Kind(f"{model}.{word}", Changed) for word in ("added", "changed", "removed")}


# model -> word -> kind
ROWS = {
    model: _of_rows(model) for model in ("campaign", "worker", "user", "group", "agenttoken", "loginlink", "endpoint")
}
