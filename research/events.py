"""What happened, by whom: written in the transaction that it tells of, told to the world on commit.

``recorded`` is sent inside the transaction (an outbox joins it, or fails with it); ``committed``
after it (sockets and doorbells: whatever may be lost without harm).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from django.db import transaction
from django.dispatch import Signal

from research.models import Campaign, Event, Proposal, Run

log = logging.getLogger(__name__)
recorded = Signal()
committed = Signal()


def record(
    kind: str,
    sentence: str,
    *,
    by: str,
    campaign: Campaign | None = None,
    proposal: Proposal | None = None,
    run: Run | None = None,
    **payload: Any,
) -> Event:
    """Write one Event row. Must be called inside the transaction of what it tells of."""
    assert transaction.get_connection().in_atomic_block, "an event belongs to the transaction of what it tells of"
    event = Event.objects.create(
        kind=kind, sentence=sentence[:600], by=by, campaign=campaign, proposal=proposal, run=run, payload=payload
    )
    recorded.send(sender=Event, event=event)
    transaction.on_commit(partial(_tell, event))
    return event


def _tell(event: Event) -> None:
    for receiver, answer in committed.send_robust(sender=Event, event=event):
        if isinstance(answer, Exception):
            log.error("%s could not be told of event %s", receiver, event.pk, exc_info=answer)
