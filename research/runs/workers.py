"""GPU machines that may take runs: enrolled with a token that is shown once, switched off and on."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from django.db import transaction

from gpu_runner import contract
from research.models import Manifest, Worker
from research.record import events, kinds, rights, watch
from research.record.rights import Actor

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def enrol(name: str, *, by: Actor) -> str:
    """Create worker ``name``, or give it a new token: the old one stops working.

    Returns the token; only its hash is kept. Raises PermissionDenied, or ValueError on a name that cannot be one.
    """
    rights.check(by, rights.enrol_workers, None)
    if not _NAME.fullmatch(name):
        raise ValueError(f"name: {name!r} must be letters, digits, dot, dash or underscore, 64 at most")
    token = secrets.token_urlsafe(32)
    with transaction.atomic(), watch.told_by_a_verb():
        worker, created = Worker.objects.update_or_create(
            name=name, defaults={"token_sha256": contract.sha256(token.encode())}
        )
        sentence = f"{name} was {'enrolled' if created else 'given a new token'}"
        fact = kinds.WORKER_ENROLLED(worker=worker.pk)
        events.record(fact, sentence, by=rights.name_of(by), rows=[worker])
    return token


def switch(worker: Worker, enabled: bool, *, by: Actor) -> None:
    """Switch a worker on or off. Off: it can claim no more runs; one that it holds goes on. Raises PermissionDenied."""
    rights.check(by, rights.switch_workers, worker)
    fact = kinds.WORKER_SWITCHED_ON() if enabled else kinds.WORKER_SWITCHED_OFF()
    with transaction.atomic():
        Worker.objects.filter(pk=worker.pk).update(enabled=enabled)
        worker.enabled = enabled
        sentence = f"Worker {worker.name} is switched {'on' if enabled else 'off'}"
        events.record(fact, sentence, by=rights.name_of(by), rows=[worker])


def describe(worker: Worker, summaries: Iterable[contract.DatasetSummary]) -> None:
    """Keep what ``worker`` says of datasets that nobody described before; the first word on a manifest stays."""
    rows = [
        Manifest(sha256=one.sha256, name=one.name, summary=one.model_dump(mode="json"), reported_by=worker)
        for one in summaries
    ]
    Manifest.objects.bulk_create(rows, ignore_conflicts=True)
