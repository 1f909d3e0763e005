"""Rings doorbells: messages that only say where to look. A lost or doubled one is harmless.

Whoever answers looks at the record; what a lost message left undone ``reconcile`` does every few seconds. They are rung
in people's requests, so a broker that does not answer is waited for two seconds, once, and then left alone for a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celery import current_app
from kombu.exceptions import LimitExceeded, OperationalError
from kombu.pools import producers

log = logging.getLogger(__name__)
RING_EXPIRES_S = 60
ANSWERS_WITHIN_S = 2.0  # a broker on the same machine or network takes milliseconds
PAUSE_S = 30.0  # after a failure; meanwhile reconcile finds what is to be done, and workers look by themselves
_PATIENCE = {"socket_connect_timeout": ANSWERS_WITHIN_S, "socket_timeout": ANSWERS_WITHIN_S, "max_retries": 0}

Ring = Callable[[str, tuple[int, ...], str], None]  # a task, the rows that it is called with, the queue it waits in


def control(task: str, pk: int) -> None:
    """Ask the control worker to run ``task`` on the row ``pk``. Without a broker it only says so."""
    _wire.send(task, (pk,), "control")


def workers(run_id: int) -> None:
    """Tell the GPU workers that there is work."""
    _wire.send("gpu_runner.ring", (run_id,), "gpu")


@contextmanager
def rung_by(ring: Ring) -> Iterator[None]:
    """Within, every bell of this process is a call of ``ring`` and no message to a broker."""
    global _wire
    before, _wire = _wire, _Wire(ring)
    try:
        yield
    finally:
        _wire = before


def to_the_broker(task: str, args: tuple[int, ...], queue: str) -> None:
    """As bells are rung in a house with more than one process. Raises OperationalError where it does not answer."""
    # Its own connections: those of consumers wait for messages, and have to be patient.
    connection = current_app.connection_for_write(transport_options=_PATIENCE)
    with producers[connection].acquire(block=True, timeout=ANSWERS_WITHIN_S) as producer:
        options = {"retry": False, "ignore_result": True, "expires": RING_EXPIRES_S, "producer": producer}
        current_app.send_task(task, args=args, queue=queue, **options)


@dataclass
class _Wire:
    """What bells go over, and until when they do not: it broke a moment ago, and every try may cost seconds."""

    ring: Ring
    broken_until: float = 0.0  # of the monotonic clock

    def send(self, task: str, args: tuple[int, ...], queue: str) -> None:
        if time.monotonic() < self.broken_until:
            return
        try:
            self.ring(task, args, queue)
        except (OperationalError, LimitExceeded) as error:  # the limit: others wait for it already, in vain
            self.broken_until = time.monotonic() + PAUSE_S
            log.warning("no broker for %s%s, nor for what follows in %.0f s: %s", task, args, PAUSE_S, error)


_wire = _Wire(to_the_broker)
