"""The worker's doorbell: a Celery message that says "there may be work". It carries a run id and decides nothing.

The Run row on the web side is the truth; the worker claims over HTTP. So a message may be lost, late,
doubled or out of order, and the broker may be down: the worker also asks for work every LOOK_S (serve.py).

Messages are Celery's (task ``gpu_runner.ring``, queue ``gpu``), but no Celery pool runs here: a training run
lasts for hours in the main thread, while this thread keeps taking and acknowledging rings at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.mixins import ConsumerMixin

log = logging.getLogger(__name__)

TASK = "gpu_runner.ring"
QUEUE = "gpu"
LEAVE_S = 2.0  # after that the process leaves without the listener, a daemon thread
AGAIN_S = 30.0  # before a listener that broke is replaced
REDIS_TIMEOUT_S = 10.0


def make_app(broker_url: str) -> Celery:
    """A Celery app without Django: it keeps no results, and a connection to Redis may take REDIS_TIMEOUT_S."""
    app = Celery("gpu_runner", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        broker_transport_options={"socket_connect_timeout": REDIS_TIMEOUT_S, "health_check_interval": 30},
    )
    return app


class Listener(ConsumerMixin):
    """kombu's consumer with its reconnecting; calls ``ring(run_id)`` for every message."""

    def __init__(self, app: Celery, ring: Callable[[int], None]) -> None:
        self.connection = app.connection_for_read()
        self.queue = app.amqp.queues[QUEUE]
        self.ring = ring
        self.said = ""

    def get_consumers(self, consumer: Callable[..., Any], channel: object) -> list[Any]:
        self.said = ""
        return [consumer(queues=[self.queue], callbacks=[self.hear], accept=["json"], prefetch_count=1)]

    def hear(self, body: Any, message: Any) -> None:
        message.ack()  # whatever it is: the truth is elsewhere
        try:
            task, run_id = message.headers["task"], body[0][0]
        except (KeyError, IndexError, TypeError):
            task, run_id = None, None
        if task == TASK and isinstance(run_id, int):
            self.ring(run_id)
        else:
            log.warning("a message on queue %s is no ring at the door: %r", QUEUE, str(body)[:200])

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        """Warns once an outage; kombu goes on trying."""
        if str(exc) != self.said:
            log.warning("the broker does not answer (%s); the worker looks for runs by itself", exc)
        self.said = str(exc)


class Doorbell:
    """Listens for rings in a thread of its own. ``wait`` and ``close`` are called from the worker's thread."""

    def __init__(self, broker_url: str) -> None:
        self._app = make_app(broker_url)
        self._rung = threading.Event()
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None
        self._listens_since = float("-inf")

    def ring(self, run_id: int) -> None:
        """Wakes ``wait``. The run id is not used: a claim gets the most urgent run."""
        self._rung.set()

    def wait(self, timeout_s: float) -> bool:
        """True when it rang since the last ``wait``. Starts listening, again if the listener died."""
        if not (self._thread and self._thread.is_alive()) and time.monotonic() - self._listens_since > AGAIN_S:
            self._listens_since = time.monotonic()
            self._listener = Listener(self._app, self.ring)
            self._thread = threading.Thread(target=self._listen, args=(self._listener,), name="doorbell", daemon=True)
            self._thread.start()
        if not self._rung.wait(timeout_s):
            return False
        self._rung.clear()
        return True

    def close(self) -> None:
        if self._listener is not None and self._thread is not None:
            self._listener.should_stop = True
            self._thread.join(LEAVE_S)

    def _listen(self, listener: Listener) -> None:
        try:
            listener.run()  # type: ignore[no-untyped-call]  # kombu is typed in part
        except Exception:  # the worker goes on by looking; its next ``wait`` starts another listener
            log.exception("the doorbell broke")
