"""Rings doorbells: messages that only say where to look. A lost or doubled one is harmless.

The receiver looks at the record, and ``reconcile`` does every few seconds what a lost message left undone.
"""

from __future__ import annotations

import logging

from celery import current_app
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)
RING_EXPIRES_S = 60


def control(task: str, pk: int) -> None:
    """Ask the control worker to run ``task`` on the row ``pk``. Without a broker this is only logged."""
    _send(task, (pk,), queue="control")


def workers(run_id: int) -> None:
    """Tell the GPU workers that there is work."""
    _send("gpu_runner.ring", (run_id,), queue="gpu")


def _send(name: str, args: tuple[int, ...], *, queue: str) -> None:
    try:
        current_app.send_task(name, args=args, queue=queue, retry=False, ignore_result=True, expires=RING_EXPIRES_S)
    except OperationalError as error:
        log.warning("no broker for %s%s: %s", name, args, error)
