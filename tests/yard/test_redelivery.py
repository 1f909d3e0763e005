"""A control worker dies with a message in hand: Celery gives it again an hour and up to 100 s later, when it is old."""

from __future__ import annotations

from django.conf import settings
from kombu.transport.redis import Channel

from gpu_runner.worker import doorbell
from research.loop import reconcile
from research.record import doorbell as ours


def test_nobody_waits_for_a_message_that_was_lost() -> None:
    """Looked for at every tenth of kombu's ticks of ten seconds; what is given again has expired, and rings nobody."""
    again_after_s = settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]
    late_s = Channel.unacked_restore_interval * Channel.unacked_restore_throttle
    assert (again_after_s, late_s) == (3_600, 100)
    expires = [ours.RING_EXPIRES_S]
    expires += [entry["options"]["expires"] for entry in settings.CELERY_BEAT_SCHEDULE.values()]
    assert max(expires) < again_after_s
    assert reconcile.OVERDUE.total_seconds() < again_after_s, "what it was for is done long before"


def test_a_worker_keeps_no_ring_that_could_come_again() -> None:
    """It acknowledges at once, whatever becomes of the run, so the visibility timeout does not concern it."""
    heard: list[str] = []

    class Message:
        headers = {"task": doorbell.TASK}

        def ack(self) -> None:
            heard.append("acknowledged")

    listener = doorbell.Listener(
        doorbell.make_app("memory://localhost/"), lambda run_id: heard.append(f"rang {run_id}")
    )
    listener.hear([[7]], Message())
    assert heard == ["acknowledged", "rang 7"]
