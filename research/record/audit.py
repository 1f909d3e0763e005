"""Verifies the record: every event is in its place in the chain, and every covered row is what its newest event says.

Reads the record as of one moment (``chain`` grows it, ``held`` says what is covered). Somebody who has the home with
its key and the database can write what the application would have written; so also keep the line that ``manage.py
verify_audit --export`` prints in another place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction

from gpu_runner import contract
from research import lifecycle
from research.change.visible import visible
from research.models import AuditHead, Revision
from research.record import chain as chains
from research.record import held, kinds
from research.record.chain import chain as chain
from research.record.chain import link as link

BATCH = 2_000
MAX_FINDINGS = 50
_LIVES = {"campaign": lifecycle.CAMPAIGN, "proposal": lifecycle.PROPOSAL, "run": lifecycle.RUN}


Told = dict[str, dict[str, tuple[int, held.Parts | None]]]  # table -> key -> the newest event, what it tells


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What ``verify`` found: sentences, none when the record is as it was written."""

    num_events: int
    num_unchained: int  # written in the last seconds
    num_rows: int  # held by what events tell of them
    sha256: str
    begun: int  # from this position on every event is sealed; 0: nobody has signed this record yet
    findings: list[str]


def verify(expected_head: str = "") -> Audit:
    """Walk the chain from its beginning.

    ``expected_head`` is a hash that was kept elsewhere; the chain must contain it.
    """
    known, problem = _kept()  # before the moment: what the home keeps a little later may not be in it yet
    with _one_moment():
        return _verify(expected_head, known, problem)


def _kept() -> tuple[chains.Head | None, str]:
    try:
        return chains.kept(), ""
    except chains.Broken as broken:
        return None, str(broken)


@contextmanager
def _one_moment() -> Iterator[None]:
    """All that is read inside is of one moment, although the loop goes on writing; neither waits for the other."""
    with connection.cursor() as cursor, ExitStack() as ends:
        if connection.vendor == "postgresql":
            ends.enter_context(transaction.atomic(durable=True))
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        else:
            cursor.execute("BEGIN")  # atomic() would take the write lock at once
            ends.callback(cursor.execute, "ROLLBACK")
        yield


def _verify(expected_head: str = "", known: chains.Head | None = None, problem: str = "") -> Audit:
    head = AuditHead.objects.filter(pk=1).first()
    walk = _Walk(head)
    walk.go()
    num_unchained = walk.look_at_unchained()
    problems = filter(None, (problem, chains.problem_with(head, known)))
    findings = [*problems, *walk.findings]
    if not walk.is_cut:
        findings += _ends(head, walk.position, walk.previous)
        if expected_head and expected_head not in walk.heads:
            findings.append("the given head is nowhere in the chain: it is another record, or was written anew")
    num_rows, of_rows = (0, []) if walk.is_cut else _of_rows(walk)
    return Audit(
        num_events=walk.position,
        num_unchained=num_unchained,
        num_rows=num_rows,
        sha256=walk.previous,
        begun=walk.begun,
        findings=[_one_line(found) for found in findings + walk.of_unchained + _revisions() + of_rows],
    )


def _one_line(finding: str) -> str:
    """The finding as one visible line: it has names of rows, which somebody may have written to deceive a terminal."""
    return visible(finding).replace("\n", " ")


# --- events --------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """Walks the events in order: what is wrong with them, and what they tell of rows (table -> key -> event, hash)."""

    head: AuditHead | None
    position: int = 0
    previous: str = ""
    is_cut: bool = False
    findings: list[str] = field(default_factory=list)
    of_unchained: list[str] = field(default_factory=list)
    heads: set[str] = field(default_factory=set)
    seals: set[str] = field(default_factory=set)
    told: Told = field(default_factory=dict)
    states: dict[tuple[str, int], str] = field(default_factory=dict)

    @property
    def begun(self) -> int:
        return self.head.begun if self.head else 0

    @property
    def has_our_key(self) -> bool:
        return self.head is None or not chains.problem_with_key(self.head.signature)

    def go(self) -> None:
        try:
            self._go()
        except (ValueError, TypeError) as error:  # no JSON, no time
            self.findings.append(f"an event after position {self.position} cannot be read: {error}"[:300])
            self.is_cut = True

    def _go(self) -> None:
        for row in chains.rows(chained=True):
            self.position += 1
            if row["position"] != self.position:
                self.findings.append(_gap(self.position, row["position"]))
                self.position = row["position"]
            if not self._holds(row):
                when = f"position {self.position}, {row['at']:%Y-%m-%d %H:%M}"
                self.findings.append(f"event {row['pk']} ({when}) is not what was written")
            elif self.begun and self.position >= self.begun:
                self._hear(row)
            self.previous = row["sha256"]
            self.heads.add(self.previous)
            if len(self.findings) >= MAX_FINDINGS:
                self.findings.append("and perhaps more: the rest was not read")
                self.is_cut = True
                return

    def _holds(self, row: dict[str, Any]) -> bool:
        try:
            if chains.link(self.previous, row) != row["sha256"]:
                return False
        except (ValueError, TypeError, AttributeError):  # whoever wrote it may have written anything
            return False
        return not self.begun or self.position < self.begun or not self.has_our_key or self._is_sealed(row)

    def _is_sealed(self, row: dict[str, Any]) -> bool:
        """Whether the seal fits and is the first of its kind: a copied event has a seal that fits, too."""
        is_first = row["seal"] not in self.seals
        self.seals.add(row["seal"])
        return is_first and chains.is_sealed(row)

    def _hear(self, row: dict[str, Any]) -> None:
        """Take over what an event tells of rows.

        The later event counts: a verb holds the row until its event is written.
        """
        self._follow(row)
        told = row["rows"] if isinstance(row["rows"], dict) else {}
        for label, rows in told.items():
            newest = self.told.setdefault(label, {})
            for key, parts in rows.items() if isinstance(rows, dict) else ():
                pk, before = newest.get(key, (0, None))
                if pk < row["pk"]:
                    newest[key] = (row["pk"], parts)
                    if before is not None and (table := held.TABLES.get(label)):
                        self._hold(table, key, before, parts, row)

    def _follow(self, row: dict[str, Any]) -> None:
        """A state that was set by hand lets things go on from where no move leads."""
        kind, state = kinds.MOVES.get(row["kind"], ("", ""))
        if kind not in _LIVES or not (key := row[f"{kind}_id"]):
            return
        before = self.states.get((kind, key))
        if before is not None and state not in _LIVES[kind][before]:
            self.findings.append(
                f"{kind} {key} was {before} and cannot have become {state}: its state was changed by hand before event "
                f"{row['pk']} ({row['kind']})"
            )
        self.states[kind, key] = state

    def _hold(
        self, table: held.Table, key: str, before: held.Parts, parts: held.Parts | None, row: dict[str, Any]
    ) -> None:
        """Find a change that was made by hand between two events, so that the later event does not cover it up."""
        name, event = f"{table.label.partition('.')[2]} {key}", f"event {row['pk']} ({row['kind']})"
        if parts is None:
            if row["kind"] != table.removed_by:
                self.findings.append(f"{name} was removed by hand before {event}")
            return
        changed = {part for part in before.keys() | parts.keys() if before.get(part) != parts.get(part)}
        if forged := changed - table.may_rewrite(row["kind"], row["payload"]) - {held.MOVING}:
            what = ", ".join(sorted(forged)).replace(held.FIXED, "what never changes")
            self.findings.append(f"{name}: {what} was changed by hand before {event}")

    def look_at_unchained(self) -> int:
        """Look at events that are not chained yet, and find those that were not written by the application."""
        num = 0
        for row in chains.rows(chained=False):
            if not self.begun or not self.has_our_key or self._is_sealed(row):
                num += 1
                self._hear(row)
            elif len(self.of_unchained) < MAX_FINDINGS:
                when = f"{row['at']:%Y-%m-%d %H:%M}"
                self.of_unchained.append(f"event {row['pk']} ({when}) was not written by the application")
        return num


def _gap(expected: int, found: int) -> str:
    missing = found - expected
    if missing == 1:
        return f"the event at position {expected} was removed"
    return f"{missing} events, positions {expected} to {found - 1}, were removed"


def _ends(head: AuditHead | None, position: int, sha256: str) -> list[str]:
    if head is None:
        return ["the head of the chain was removed"] if position else []
    if position < head.num_events:
        return [f"{head.num_events - position} events at the end, from position {position + 1}, were removed"]
    if (position, sha256) != (head.num_events, head.sha256):
        return ["the chain does not end where its head says: events were added by hand"]
    return []


# --- rows ----------------------------------------------------------------------------------------


def _of_rows(walk: _Walk) -> tuple[int, list[str]]:
    begun = chains.newest_beginning()
    if walk.begun and begun and begun.get("holds") != held.holds():
        return 0, ["this version holds other columns than the one before: `manage.py bootstrap` begins to hold them"]
    return _rows(walk.told, may_be_untold=not walk.begun)


def _rows(told: Told, *, may_be_untold: bool) -> tuple[int, list[str]]:
    """Compare every covered row with the newest event that tells of it. (how many rows, findings)"""
    num, findings = 0, []
    for label, table in held.TABLES.items():
        of_table = {key: parts for key, (_, parts) in told.pop(label, {}).items()}
        try:
            for key, rows in held.groups_of(table):
                num += 1
                if problem := _problem(table, rows, str(key) in of_table, of_table.pop(str(key), None), may_be_untold):
                    findings.append(problem)
        except (ValueError, TypeError, ArithmeticError) as error:
            findings.append(f"a row of {label} was written by hand, and cannot be read: {error}"[:300])
            continue
        nothing = (None, held.NOTHING)
        gone = [key for key, parts in of_table.items() if parts not in nothing]
        findings += [f"{label.partition('.')[2]} {key} was removed" for key in gone[:MAX_FINDINGS]]
    return num, findings[:MAX_FINDINGS]


def _problem(
    table: held.Table, rows: list[held.Row], is_told: bool, told: held.Parts | None, may_be_untold: bool
) -> str:
    if table.grouped_by and not all(map(table.is_settled, rows)):
        return ""
    name = table.name.format(**rows[0])
    if not is_told:
        return "" if table.may_be_untold or may_be_untold else f"{name} was added by hand: no event tells of it"
    if told is None:
        return f"{name} was removed, as an event tells, and is there again"
    parts = held.parts_of(table, rows)
    if told == parts:
        return ""
    if not table.by_column or not isinstance(told, dict):
        return f"{name} is not what the events tell of it"
    differing = sorted(part for part in parts.keys() | told.keys() if parts.get(part) != told.get(part))
    columns = [", ".join(sorted(table.moving)) if part == held.MOVING else part for part in differing]
    return f"{name} is not what the events tell of it: see {', '.join(columns)}"


def _revisions() -> list[str]:
    """Compare every revision with its digest, and every decision's digest with its revision's."""
    findings: list[str] = []
    try:
        findings += _unlike_their_digests()
    except (ValueError, TypeError) as error:
        findings.append(f"a revision was written by hand, and cannot be read: {error}"[:300])
    return findings[:MAX_FINDINGS]


def _unlike_their_digests() -> Iterator[str]:
    for revision in Revision.objects.prefetch_related("decisions").iterator(BATCH):
        name = f"revision {revision.number} of P-{revision.proposal_id}"
        if not _holds_its_digest(revision):
            yield f"{name} is not what its digest was taken of"
        for decision in revision.decisions.all():
            if decision.digest != revision.digest:
                yield f"{name} has another digest than decision {decision.pk}, which was taken on it"


def _holds_its_digest(revision: Revision) -> bool:
    try:
        signed = contract.Approval.model_validate(revision.approval)
        return (signed.digest(), signed.patch, signed.overrides) == (revision.digest, revision.patch, revision.knobs)
    except (ValueError, LookupError, TypeError):  # whoever wrote it may have written anything
        return False
