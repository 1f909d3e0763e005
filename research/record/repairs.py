"""Runs a repair so that an error in it stops no other: it is logged, and told in an event once a day."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from research.lifecycle import LostRace
from research.models import Campaign, Event
from research.record import events, kinds, rights

log = logging.getLogger(__name__)
SAID_AGAIN_AFTER = timedelta(days=1)  # it is tried every few seconds, and a page full of it would hide all else


@contextmanager
def repair(what: str, campaign: Campaign | None = None) -> Iterator[None]:
    """Wraps one repair, which has transactions of its own. A LostRace counts as no error."""
    try:
        yield
    except LostRace as race:
        log.info("%s", race)
    except Exception as error:
        log.exception("%s could not be seen to; all else goes on", what)
        _tell(what, campaign, error)


def _tell(what: str, campaign: Campaign | None, error: Exception) -> None:
    sentence = (
        f"{what} could not be seen to because of a fault of ours ({type(error).__name__}; the control worker's log has"
        " the rest). All else goes on, and reconcile tries again every few seconds."
    )
    try:
        said = Event.objects.filter(kind=kinds.REPAIR_FAILED, campaign=campaign, sentence=sentence)
        if said.filter(at__gt=timezone.now() - SAID_AGAIN_AFTER).exists():
            return
        with transaction.atomic():
            events.record(kinds.REPAIR_FAILED(), sentence, by=rights.RECONCILE, campaign=campaign)
    except Exception:  # the database itself: the log has both
        log.exception("that %s could not be seen to could not be written down", what)
