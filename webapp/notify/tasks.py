"""Celery tasks of the outbox, on queue ``control``. The next ``pump`` makes good a lost message."""

from __future__ import annotations

from celery import shared_task

from research.record import doorbell, repairs
from webapp.notify import deliver as delivering
from webapp.notify.models import DELIVER


@shared_task(name=DELIVER)
def deliver(endpoint_id: int) -> None:
    """Send one endpoint's due deliveries."""
    delivering.drain(endpoint_id)


@shared_task(name="notify.pump", ignore_result=True)
def pump() -> None:
    """Ring for every endpoint with a due delivery, and delete old ones. Every few seconds, by beat."""
    for endpoint_id in delivering.endpoints_due():
        with repairs.repair(f"Endpoint {endpoint_id} of webhooks"):
            doorbell.control(DELIVER, endpoint_id)
    delivering.forget_old()
