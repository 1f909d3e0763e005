"""Doorbells: messages that say no more than where to look. A lost or doubled one is harmless.

Whoever answers looks at the record; what a lost message left undone ``reconcile`` does every few seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery import current_app
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)
RING_EXPIRES_S = 60

Ring = Callable[[str, tuple[int, ...], str], None]  # a task, the rows that it is called with, the queue it waits in


def control(task: str, pk: int) -> None:
    """Ask the control worker to run ``task`` on the row ``pk``. Without a broker it only says so."""
    _send(task, (pk,), "control")


def workers(run_id: int) -> None:
    """Tell the GPU workers that there is work."""
    _send("gpu_runner.ring", (run_id,), "gpu")


@contextmanager
def rung_by(ring: Ring) -> Iterator[None]:
    """Within, every bell of this process is a call of ``ring`` and no message to a broker."""
    global _ring
    before, _ring = _ring, ring
    try:
        yield
    finally:
        _ring = before


def to_the_broker(task: str, args: tuple[int, ...], queue: str) -> None:
    """As bells are rung in a house with more than one process. Raises OperationalError where it does not answer."""
    current_app.send_task(task, args=args, queue=queue, retry=False, ignore_result=True, expires=RING_EXPIRES_S)


_ring: Ring = to_the_broker


def _send(task: str, args: tuple[int, ...], queue: str) -> None:
    try:
        _ring(task, args, queue)
    except OperationalError as error:
        log.warning("no broker for %s%s: %s", task, args, error)
