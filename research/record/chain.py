"""The audit chain: every event carries a hash of itself and of all events before it, and the chain's head is signed.

Events are chained a few seconds after they are written, by one caller at a time, in an order of their own
(``position``): on PostgreSQL ids are given before transactions commit, and a chain that every transaction had to append
to would make all of them wait for each other, or deadlock. Until then each event has its seal already (``seal``).

The newest head is also kept in the home folder. So somebody who has only the database can neither add to the chain,
nor cut it, nor replace everything by an earlier state.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain as _chain
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from gpu_runner import contract
from research.models import AuditHead, Event
from research.record import events, held, kinds, rights, seal
from research.record.rights import Part

log = logging.getLogger(__name__)
BATCH = 2_000
ALONE_WITHIN_S = 2.0
LOCK_NOT_AVAILABLE = "55P03"  # of PostgreSQL
_BEFORE_SEALS = ("pk", "position", "kind", "by", "campaign_id", "proposal_id", "run_id", "sentence", "payload")
COLUMNS = (*_BEFORE_SEALS, "rows", "at", "seal", "sha256")


class Broken(Exception):
    """The chain cannot go on before a person has looked; the message says why, and the way out."""


class Busy(Exception):
    """Others write to the covered tables, so that they cannot be locked for a beginning. Harmless: try again."""


# --- one link ------------------------------------------------------------------------------------


def link(previous: str, row: dict[str, Any]) -> str:
    """The hash of an event and all before it.

    ``row`` has all of ``COLUMNS``; ValueError on what JSON cannot express.
    """
    if row["seal"]:
        said = [previous, row["position"], row["pk"], row["seal"], _content(row)]
    else:  # written before there were seals
        said = [previous, {name: row[name] for name in _BEFORE_SEALS} | {"at": row["at"].timestamp()}]
    return contract.sha256(contract.canonical_json(said))


def is_sealed(row: dict[str, Any]) -> bool:
    """Whether the application wrote the event, with the key of this home."""
    try:
        return bool(row["seal"]) and seal.fits(row["seal"], _content(row))
    except (ValueError, TypeError, AttributeError):  # whoever wrote it may have written anything
        return False


def _content(row: dict[str, Any]) -> str:
    """The hash of the event's content, computed once: it is most of the work of a long chain."""
    if "content_sha256" not in row:
        row["content_sha256"] = events.content_sha256(row)
    taken: str = row["content_sha256"]
    return taken


def rows(*, chained: bool) -> Iterator[dict[str, Any]]:
    """Events as they are in the database: those in the chain, in its order, or those that are not in it yet."""
    found = Event.objects.exclude(position=None).order_by("position")
    if not chained:
        found = Event.objects.filter(position=None).order_by("pk")
    yield from found.values(*COLUMNS).iterator(BATCH)


# --- what this home knows ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Head:
    """A signed head, as it is kept outside of the database: one line of time, length, hash, beginning, signature."""

    at: str
    num_events: int
    sha256: str
    begun: int
    signature: str

    def line(self) -> str:
        return f"{self.at} {self.num_events} {self.sha256} {self.begun} {self.signature}"

    @property
    def is_ours(self) -> bool:
        return self.signature == seal.of_head(self.num_events, self.sha256, self.begun)


def parse(line: str) -> Head:
    """Raises ValueError on anything but a line as ``Head.line`` writes it."""
    at, num_events, sha256, begun, signature = line.split()
    return Head(at=at, num_events=int(num_events), sha256=sha256, begun=int(begun), signature=signature)


def as_head(head: AuditHead) -> Head:
    at = f"{timezone.now():%Y-%m-%dT%H:%M:%SZ}"
    return Head(at=at, num_events=head.num_events, sha256=head.sha256, begun=head.begun, signature=head.signature)


def kept() -> Head | None:
    """The newest head that this home has signed; None in a home that has signed none. Raises Broken."""
    path = Path(settings.AUDIT_HEAD)
    try:
        return parse(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Broken(f"{path} holds no head of an audit chain: {_ANEW}") from error


def _keep(head: Head) -> None:
    """Write the head to the home, whole or not at all. Two processes may do so at once; both heads are in the chain."""
    path = Path(settings.AUDIT_HEAD)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(head.line() + "\n")
    os.replace(new, path)


_ANEW = (
    "see `manage.py verify_audit`; where that is explained, `manage.py verify_audit --begin-anew REASON` goes on from "
    "what is there now, and says so in the record"
)


def problem_with_key(signature: str) -> str:
    """Why the record's key is not this home's; empty where it is."""
    if not signature or signature[: seal.MARK] == seal.mark():
        return ""
    return (
        f"the record is signed with the key {signature[: seal.MARK]}, and this home has {seal.mark()}: bring back the "
        "home's file audit_key (or COUNTERSIGN_AUDIT_KEY) that it was signed with; where that is lost, "
        "`manage.py verify_audit --begin-anew REASON` signs the record as it is now with the key of this home"
    )


def problem_with(head: AuditHead | None, known: Head | None) -> str:
    """Why ``head`` is not what this home's key signed last; empty where it is, or where nothing is signed yet.

    ``known`` is what was ``kept`` before the database was read: the file is written after the chain has grown.
    """
    if head is None or not head.signature:
        if known is not None or Event.objects.filter(kind=kinds.AUDIT_BEGUN).exists():
            return f"the signed head of the chain was removed from the database: {_ANEW}"
        return ""
    if problem := problem_with_key(head.signature):
        return problem
    if not as_head(head).is_ours:
        return f"the head of the chain was written by hand, its signature does not fit: {_ANEW}"
    if known is not None and not _is_on_the_way(known):
        return (
            f"this home signed {known.num_events:,} events until {known.at}, and the record does not have them as they "
            "were: its end was cut off or written anew, it is another database or a restored one, or the machine lost "
            f"its last seconds with its power: {_ANEW}"
        )
    return ""


def _is_on_the_way(known: Head) -> bool:
    return Event.objects.filter(position=known.num_events, sha256=known.sha256).exists()


# --- appending -----------------------------------------------------------------------------------


def chain() -> int:
    """Append every event that is not in the chain yet. Returns how many; those without a seal stay out, for ``audit``.

    Raises Broken where the chain is not what this home has signed, so that nothing added by hand gets our signature.
    """
    if not AuditHead.objects.exclude(signature="").exists():
        _begin_at_first()
    appended = last = 0
    while Event.objects.filter(position=None, pk__gt=last).exists():  # or every look would wait for the write lock
        num, last = _append(after=last)
        appended += num
    return appended


def _append(after: int) -> tuple[int, int]:
    """(number of appended events, id of the last event that was looked at)"""
    with transaction.atomic():
        head = AuditHead.objects.select_for_update().get(pk=1)
        if problem := problem_with(head, kept()):
            raise Broken(problem)
        waiting = _waiting(after)
        if found := [event for event in waiting if is_sealed(_row(event))]:
            _put(head, found)
        if num := len(waiting) - len(found):
            log.error("%s events were not written by the application and stay out of the chain: see verify_audit", num)
    if found:
        _keep(as_head(head))
    return len(found), waiting[-1].pk if waiting else after


def _waiting(after: int) -> list[Event]:
    return list(Event.objects.filter(position=None, pk__gt=after).order_by("pk")[:BATCH])


def _row(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in COLUMNS}


def _put(head: AuditHead, found: list[Event]) -> None:
    """Append these events to the chain and sign its head. Must run in the transaction that holds ``head``."""
    for event in found:
        head.num_events += 1
        event.position = head.num_events
        head.sha256 = event.sha256 = link(head.sha256, _row(event))
    Event.objects.bulk_update(found, ["position", "sha256"], batch_size=200)
    head.signature = seal.of_head(head.num_events, head.sha256, head.begun)
    head.save()


# --- beginning -----------------------------------------------------------------------------------


def _begin_at_first() -> None:
    """Begin to sign a record that nobody has signed yet: a new one, or one of a version without seals."""
    with transaction.atomic():
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1)
        if head.signature:
            return  # somebody was first
        is_new = not Event.objects.exists() and not get_user_model()._default_manager.exists()
        if not is_new and (problem := problem_with(head, kept())):
            raise Broken(problem)
    begin("This record begins: what is there now is held as it is", by=rights.AUDIT)


def begin(sentence: str, *, by: Part, findings: Iterable[str] = ()) -> None:
    """Hold all covered rows as they are now, sign, and go on from here; events before are only hashed.

    ``findings`` are what was found until now, and stay on record. Raises PermissionDenied.
    """
    rights.check(by, rights.only_the_house, None)
    with transaction.atomic():
        _alone()
        head, _ = AuditHead.objects.select_for_update().get_or_create(pk=1)
        while waiting := _waiting(after=0):
            _put(head, waiting)
        was = {"num_events": head.num_events, "sha256": head.sha256}
        head.begun = head.num_events + 1
        _put(head, list(_begun(sentence, by, was, list(findings))))
    _keep(as_head(head))


def begin_where_the_version_changed() -> bool:
    """Begin anew after an upgrade that covers other columns, before anybody writes.

    False where nothing had to be done.
    """
    if (begun := newest_beginning()) is None or begun.get("holds") == held.holds():
        return False
    begin("This version holds other columns: what is there now is held as it is", by=rights.AUDIT)
    return True


def newest_beginning() -> dict[str, Any] | None:
    """What the event says with which the signed part of the record begins."""
    signed = AuditHead.objects.exclude(signature="").values("begun")
    begun = Event.objects.filter(kind=kinds.AUDIT_BEGUN, position__in=signed)
    payload: Any = begun.values_list("payload", flat=True).first()
    return payload if isinstance(payload, dict) else None


def _begun(sentence: str, by: Part, was: dict[str, Any], findings: list[str]) -> Iterator[Event]:
    there = held.everything()
    first = list(islice(there, BATCH))  # of an empty database there is nothing to hold, and that is said
    for number, rows in enumerate(_chain([first], iter(lambda: list(islice(there, BATCH)), [])), start=1):
        told: events.Told = {}
        for label, key, parts in rows:
            told.setdefault(label, {})[str(key)] = parts
        fact = kinds.AUDIT_BEGUN(was=was, part=number, num_rows=len(rows), holds=held.holds(), findings=findings)
        yield events.write(Event(**fact._asdict(), by=by, sentence=sentence[:600]), told)


def _alone() -> None:
    """Lock all covered tables until this transaction ends; on SQLite the write transaction does so already.

    All tables or none: waiting for one while holding others could deadlock.
    """
    if connection.vendor != "postgresql":
        return
    names = ", ".join(connection.ops.quote_name(table.model._meta.db_table) for table in held.TABLES.values())
    until = time.monotonic() + ALONE_WITHIN_S
    while True:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {names} IN SHARE MODE NOWAIT")
            return
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != LOCK_NOT_AVAILABLE:
                raise
            if time.monotonic() > until:
                raise Busy("somebody writes to the record at every moment; try again") from error
            time.sleep(0.02)
