"""Doorbells: messages that say no more than where to look. A lost or doubled one is harmless.

Whoever answers looks at the record; what a lost message left undone ``reconcile`` does every few seconds.
"""

from __future__ import annotations

import logging

from celery import current_app
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)
RING_EXPIRES_S = 60


def control(task: str, pk: int) -> None:
    """Ask the control worker to run ``task`` on the row ``pk``. Without a broker it only says so."""
    _send(task, (pk,), queue="control")


def workers(run_id: int) -> None:
    """Tell the GPU workers that there is work."""
    _send("gpu_runner.ring", (run_id,), queue="gpu")


def _send(name: str, args: tuple[int, ...], *, queue: str) -> None:
    try:
        current_app.send_task(name, args=args, queue=queue, retry=False, ignore_result=True, expires=RING_EXPIRES_S)
    except OperationalError as error:
        log.warning("no broker for %s%s: %s", name, args, error)
