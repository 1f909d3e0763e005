"""Enrolling a GPU machine: a token, shown once."""

from __future__ import annotations

import re
import secrets

from django.db import transaction

from gpu_runner import contract
from research.models import Worker
from research.record import events, kinds, watch

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def enrol(name: str, *, by: str) -> str:
    """Create worker ``name``, or give it a new token: the old one stops working.

    Returns the token; only its hash is kept. Raises ValueError on a name that cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: {name!r} must be letters, digits, dot, dash or underscore, 64 at most")
    token = secrets.token_urlsafe(32)
    with transaction.atomic(), watch.told_by_a_verb():
        worker, created = Worker.objects.update_or_create(
            name=name, defaults={"token_sha256": contract.sha256(token.encode())}
        )
        sentence = f"{name} was {'enrolled' if created else 'given a new token'}"
        events.record(kinds.WORKER_ENROLLED(worker=worker.pk), sentence, by=by, rows=[worker])
    return token
