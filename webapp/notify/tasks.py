"""Celery's side of the outbox, on queue ``control``. A lost message is made good by the next pump."""

from __future__ import annotations

import logging

from celery import shared_task
from kombu.exceptions import OperationalError

from research import apart
from webapp.notify import deliver as delivering

log = logging.getLogger(__name__)
RING_EXPIRES_S = 60


@shared_task(queue="control", ignore_result=True)
def deliver(endpoint_id: int) -> None:
    """Send what one endpoint is owed."""
    delivering.drain(endpoint_id)


@shared_task(queue="control", ignore_result=True)
def pump() -> None:
    """Ring for every endpoint that something is due at; forget what is old. Every few seconds, by beat."""
    for endpoint_id in delivering.endpoints_due():
        with apart.repair(f"Endpoint {endpoint_id} of webhooks"):
            ring(endpoint_id)
    delivering.forget_old()


def ring(endpoint_id: int) -> None:
    """Ask the control worker to drain ``endpoint_id``. Not retried: the pump asks again."""
    try:
        deliver.apply_async((endpoint_id,), retry=False, expires=RING_EXPIRES_S)
    except OperationalError as error:
        log.warning("no broker for webhooks to endpoint %s: %s", endpoint_id, error)
