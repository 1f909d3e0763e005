"""Writes events: what happened, by whom, in the transaction that it happened in; the world is told on commit.

``recorded`` is sent inside the transaction (an outbox joins it, or fails with it); ``committed`` after it (for sockets
and doorbells, which may be lost without harm).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.dispatch import Signal

from gpu_runner import contract
from research.models import Campaign, Event, Proposal, Run
from research.record import held, kinds, seal
from research.record.kinds import Fact

log = logging.getLogger(__name__)
recorded = Signal()
committed = Signal()
Told = dict[str, dict[str, held.Parts | None]]
_actor: ContextVar[str] = ContextVar("who acts")


def record(
    fact: Fact,
    sentence: str,
    *,
    by: str,
    campaign: Campaign | None = None,
    proposal: Proposal | None = None,
    run: Run | None = None,
    rows: Iterable[held.Ref] = (),
) -> Event:
    """Write one Event row. Must be called inside the transaction that it tells of, after everything else is written.

    ``fact`` is a kind of ``kinds`` that was called with its payload.
    ``rows`` are those that were written, changed or removed: the event holds them, see ``held``.
    """
    assert kinds.REGISTERED.get(fact.kind) is fact.kind, f"{fact.kind} is no kind of event"
    about = {"campaign": campaign, "proposal": proposal, "run": run}
    event = write(Event(**fact._asdict(), sentence=sentence[:600], by=by, **about), held.told(rows))
    recorded.send(sender=Event, event=event)
    transaction.on_commit(partial(_tell, event))
    return event


def write(event: Event, told: Told) -> Event:
    """Seal ``event`` and save it with the hashes of its rows. No signal is sent."""
    assert transaction.get_connection().in_atomic_block, "an event belongs to the transaction of what it tells of"
    event.rows = told
    event.seal = seal.of_event(content_sha256({name: getattr(event, name) for name in CONTENT}))
    event.save(force_insert=True)
    return event


CONTENT = ("kind", "by", "campaign_id", "proposal_id", "run_id", "sentence", "payload", "rows", "at")


def content_sha256(row: dict[str, Any]) -> str:
    """Hash of an event's content, the same before it is saved and after. ValueError on what JSON cannot express.

    ``rows`` holds no numbers and may be long: it is hashed as it is.
    """
    said = [held.plain(row[name]) for name in CONTENT]
    said[CONTENT.index("payload")] = held.as_stored(row["payload"])
    return contract.sha256(contract.canonical_json(said))


def _tell(event: Event) -> None:
    for receiver, answer in committed.send_robust(sender=Event, event=event):
        if isinstance(answer, Exception):
            log.error("%s could not be told of event %s", receiver, event.pk, exc_info=answer)


@contextmanager
def acting(by: str) -> Iterator[None]:
    """Rows that are saved inside, without a verb, are saved by ``by``."""
    token = _actor.set(by)
    try:
        yield
    finally:
        _actor.reset(token)


def actor() -> str:
    """The person set by ``acting``, else this process, as ``process:manage.py shell``."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return _actor.get("process:" + " ".join([name, *sys.argv[1:2]])[:100])
