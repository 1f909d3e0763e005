"""The record cannot be rewritten unnoticed: every event carries a hash of itself and of all events before it.

Events are chained a few seconds after they are written, by one caller at a time, in an order of their own
(``position``): on PostgreSQL ids are given before transactions commit, and a chain that every transaction had to append
to would make all of them wait for each other, or deadlock. Who can write to the database can also write a whole new
chain: keep the head (``manage.py verify_audit --export``) somewhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from gpu_runner import contract
from research.models import AuditHead, Decision, Event, Gate, Incumbent, Revision, Score, Verdict

BATCH = 2_000
MAX_FINDINGS = 50
_FIELDS = (
    "pk",
    "position",
    "kind",
    "by",
    "campaign_id",
    "proposal_id",
    "run_id",
    "sentence",
    "payload",
    "at",
    "sha256",
)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What ``verify`` found: sentences, empty when the record is as it was written."""

    num_events: int
    num_unchained: int  # written in the last seconds
    sha256: str
    findings: list[str]


def chain() -> int:
    """Append every event that is not in the chain yet. Returns how many."""
    appended = 0
    while num := _chain_batch():
        appended += num
    return appended


def _chain_batch() -> int:
    with transaction.atomic():
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1)
        events = list(Event.objects.filter(position=None).order_by("pk")[:BATCH])
        for event in events:
            head.num_events += 1
            event.position = head.num_events
            head.sha256 = event.sha256 = link(head.sha256, _content(event))
        Event.objects.bulk_update(events, ["position", "sha256"], batch_size=200)
        head.save()
    return len(events)


def link(previous_sha256: str, content: dict[str, Any]) -> str:
    return contract.sha256(contract.canonical_json([previous_sha256, content]))


def _content(event: Event) -> dict[str, Any]:
    return _as_written({name: getattr(event, name) for name in _FIELDS})


def _as_written(row: dict[str, Any]) -> dict[str, Any]:
    """What the hash is taken of: everything about an event but the hash."""
    return {name: value for name, value in row.items() if name != "sha256"} | {"at": row["at"].timestamp()}


def verify(expected_head: str = "") -> Audit:
    """Walk the chain from its beginning. ``expected_head`` is a hash that was kept elsewhere; it must be on the way."""
    with _one_moment():
        return _verify(expected_head)


@contextmanager
def _one_moment() -> Iterator[None]:
    """All that is read within was so at one moment, although the loop goes on writing; neither waits for the other."""
    with connection.cursor() as cursor, ExitStack() as ends:
        if connection.vendor == "postgresql":
            ends.enter_context(transaction.atomic(durable=True))
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        else:
            cursor.execute("BEGIN")  # atomic() would take the write lock at once
            ends.callback(cursor.execute, "ROLLBACK")
        yield


def _verify(expected_head: str) -> Audit:
    findings: list[str] = []
    position, previous, seen = 0, "", not expected_head
    for row in _rows():
        position += 1
        if row["position"] != position:
            findings.append(_gap(position, row["position"]))
            position = row["position"]
        if link(previous, _as_written(row)) != row["sha256"]:
            findings.append(
                f"event {row['pk']} (position {position}, {row['at']:%Y-%m-%d %H:%M}) is not what was written"
            )
        previous = row["sha256"]
        seen = seen or previous == expected_head
        if len(findings) >= MAX_FINDINGS:
            findings.append("and perhaps more: the rest was not read")
            break
    else:
        findings += _ends(position, previous, seen)
    findings += _decisions() + _revisions() + _statements() + _gates() + _scores() + _verdicts() + _incumbents()
    unchained = Event.objects.filter(position=None).count()
    return Audit(num_events=position, num_unchained=unchained, sha256=previous, findings=findings)


def _rows() -> Iterator[dict[str, Any]]:
    rows: Iterator[dict[str, Any]] = (
        Event.objects.exclude(position=None).order_by("position").values(*_FIELDS).iterator(BATCH)
    )
    return rows


def _gap(expected: int, found: int) -> str:
    missing = found - expected
    if missing == 1:
        return f"the event at position {expected} was removed"
    return f"{missing} events, positions {expected} to {found - 1}, were removed"


def _ends(position: int, sha256: str, seen: bool) -> list[str]:
    findings = []
    head = AuditHead.objects.filter(pk=1).first()
    if head is None and position:
        findings.append("the head of the chain was removed")
    elif head is not None and position < head.num_events:
        findings.append(f"{head.num_events - position} events at the end, from position {position + 1}, were removed")
    elif head is not None and (position, sha256) != (head.num_events, head.sha256):
        findings.append("the chain does not end where its head says: events were added by hand")
    if not seen:
        findings.append("the given head is nowhere in the chain: it is another record, or was written anew")
    return findings


def _decisions() -> list[str]:
    """Every decision stands in the chain, too: an event has the hash of what was decided, and by whom."""
    payloads = Event.objects.filter(payload__has_key="decision").values_list("payload", flat=True)
    told = {
        payload["decision"]: payload.get("decided")
        for payload in payloads.iterator(BATCH)
        if isinstance(payload, dict) and isinstance(payload["decision"], int)
    }
    findings = [
        f"decision {decision.pk} is not what the events say was decided"
        for decision in Decision.objects.iterator(BATCH)
        if told.pop(decision.pk, None) != summary(decision)
    ]
    findings += [f"decision {number} was removed" for number in sorted(told)]
    return findings[:MAX_FINDINGS]


def _revisions() -> list[str]:
    """What a page shows of a revision is what its digest was taken of, and what people signed carries that digest."""
    findings = []
    for revision in Revision.objects.prefetch_related("decisions").iterator(BATCH):
        name = _name(revision.proposal_id, revision.number)
        if not _holds_its_digest(revision):
            findings.append(f"{name} is not what its digest was taken of")
        for decision in revision.decisions.all():
            if decision.digest != revision.digest:
                findings.append(f"{name} has another digest than decision {decision.pk}, which was taken on it")
    return findings[:MAX_FINDINGS]


def _name(proposal: int, revision: int) -> str:
    return f"revision {revision} of P-{proposal}"


def _holds_its_digest(revision: Revision) -> bool:
    try:
        signed = contract.Approval.model_validate(revision.approval)
        return (signed.digest(), signed.patch, signed.overrides) == (revision.digest, revision.patch, revision.knobs)
    except (ValueError, LookupError, TypeError):  # whoever wrote it may have written anything
        return False


def _statements() -> list[str]:
    """What was predicted, and by whom, is what was written down before anything ran."""
    told = _told("stated")
    findings = [
        f"{_name(revision.proposal_id, revision.number)} does not state what the events say it stated"
        for revision in Revision.objects.select_related("proposal").iterator(BATCH)
        if told.pop((revision.proposal_id, revision.number), None) != stated(revision)
    ]
    return (findings + [f"{_name(*key)} was removed" for key in sorted(told)])[:MAX_FINDINGS]


def _gates() -> list[str]:
    """What a reviewer reads that the gates found is what they found. While they look, there is nothing to hold."""
    told = _told("found")
    revisions = Revision.objects.exclude(proposal__state__in=("drafted", "checking", "withdrawn"))
    return [
        f"the gates of {_name(*key)} are not what the events say they found"
        for revision in revisions.prefetch_related("gates").iterator(BATCH)
        if (key := (revision.proposal_id, revision.number)) in told and told[key] != found(revision.gates.all())
    ][:MAX_FINDINGS]


def _told(name: str) -> dict[tuple[int, int], Any]:
    """Proposal and number of a revision -> what its newest event says under ``name``. A torn event tells nothing."""
    events = Event.objects.filter(payload__has_key=name, proposal__isnull=False).order_by("pk")
    rows = events.values_list("proposal", "payload").iterator(BATCH)
    return {
        (proposal, payload["revision"]): payload[name]
        for proposal, payload in rows
        if isinstance(payload, dict) and isinstance(payload.get("revision"), int)
    }


def _scores() -> list[str]:
    """The number that things are judged by is the one that the run's last word told, or a person settled."""
    events = Event.objects.filter(payload__has_key="val_bpb", run__isnull=False).order_by("pk")
    told = dict(events.values_list("run", "payload").iterator(BATCH))
    return [
        f"the score of R-{score.run_id} is not what the events say was measured"
        for score in Score.objects.iterator(BATCH)
        if not _agrees(told.get(score.run_id), {"val_bpb": score.val_bpb, "outcome": score.outcome})
    ][:MAX_FINDINGS]


def _verdicts() -> list[str]:
    """A proposal may have been judged more than once, after a rebase."""
    told: dict[int, list[dict[str, Any]]] = {}
    for proposal, payload in Event.objects.filter(kind="verdict").values_list("proposal", "payload").iterator(BATCH):
        told.setdefault(proposal, []).append(payload)
    return [
        f"the verdict on P-{verdict.revision.proposal_id} is not what the events say was found"
        for verdict in Verdict.objects.select_related("revision").iterator(BATCH)
        if not any(_agrees(one, _found(verdict)) for one in told.get(verdict.revision.proposal_id, []))
    ][:MAX_FINDINGS]


def _found(verdict: Verdict) -> dict[str, Any]:
    names = ("outcome", "effect_bpb", "low_bpb", "high_bpb", "num_pairs")
    return {name: getattr(verdict, name) for name in names}


def _incumbents() -> list[str]:
    """What everything is compared with, and changed from, is what was promoted."""
    events = Event.objects.filter(kind__in=("campaign.created", "incumbent.promoted"))
    told = {
        (campaign, payload.get("number", 0)): payload
        for campaign, payload in events.values_list("campaign", "payload").iterator(BATCH)
        if isinstance(payload, dict) and isinstance(payload.get("number", 0), int)
    }
    return [
        f"incumbent {one.number} of {one.campaign} is not what the events say was promoted"
        for one in Incumbent.objects.select_related("campaign").iterator(BATCH)
        if not _agrees(told.get((one.campaign_id, one.number)), {"commit": one.commit})
    ][:MAX_FINDINGS]


def _agrees(told: dict[str, Any] | None, found: dict[str, Any]) -> bool:
    """An event of an earlier version tells less."""
    return isinstance(told, dict) and all(told.get(name, value) == value for name, value in found.items())


def summary(decision: Decision) -> str:
    """One hash over what was decided, for the event that tells of it."""
    said = [decision.revision_id, decision.by_id, decision.choice, decision.category, decision.reason, decision.digest]
    if decision.gates_sha256:
        said.append(decision.gates_sha256)
    return contract.sha256(contract.canonical_json(said))


_STATED = (
    "number", "hypothesis", "mechanism", "refuted_if", "effect_bpb", "low_bpb", "high_bpb", "chance_to_win", "risk",
    "time_factor", "memory_factor", "why_together", "what_changed", "model", "prompt_sha256", "templates_sha256",
    "edits", "origin", "answers", "reply", "digest",
)  # fmt: skip


def stated(revision: Revision) -> str:
    """One hash over what a revision states, prediction and arm with it. ``revision`` as the database has it."""
    said = [getattr(revision, name) for name in _STATED]
    reasons = [[o.get("key"), o.get("reason", "")] if isinstance(o, dict) else o for o in revision.overrides]
    return _hash([revision.proposal.arm, reasons, *said])


def found(gates: Iterable[Gate]) -> str:
    """One hash over what gates found that have looked. ``gates`` as the database has them."""
    return _hash(
        [[gate.name, gate.outcome, gate.sentence, gate.measured] for gate in gates if gate.outcome != "pending"]
    )


def _hash(said: list[Any]) -> str:
    """What no JSON can say was written by hand: it is nothing that an event tells of."""
    try:
        return contract.sha256(contract.canonical_json(said))
    except (ValueError, TypeError):
        return ""
