"""Sends webhook deliveries that are due: one attempt at a time for each endpoint, each attempt by exactly one worker.

    drain(endpoint) -> claim   compare-and-set on endpoint (free?) and delivery (same attempt count?)
                    -> post    with no transaction open
                    -> settle  compare-and-set on the attempt count: once another attempt was made it changes nothing

2xx delivers. 410 switches the endpoint off. Everything else fails the attempt: the delivery waits for
its next one (``DELAYS_S``, or longer if Retry-After says so), and the endpoint rests, longer with each
failure in a row, so that a dead address costs little of the worker's time.
"""

from __future__ import annotations

import logging
import random
import time
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from research.record import doorbell, events, kinds, rights, watch
from research.record.rights import Actor
from webapp.notify import sign
from webapp.notify.models import DELIVER, Delivery, Endpoint
from webapp.notify.post import Answer, post

log = logging.getLogger(__name__)
BY = rights.Part("notify")

# Before each attempt, after the one before: the example schedule of Standard Webhooks 1.0.0, 75 h in all.
DELAYS_S = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.1  # share of a delay of minutes or more that is drawn at random, so that retries do not march in step
LEASE_S = 120.0  # longer than any attempt; after it, the attempt counts as failed
DRAIN_S = 30.0  # a task gives way to others after so long
MAX_REST_S = 300.0
OFF_AFTER = timedelta(days=3)
KEPT = timedelta(days=30)
OLD_SECRET = timedelta(hours=24)


def endpoints_due() -> list[int]:
    """Ids of the endpoints with a delivery that may be sent now."""
    now = timezone.now()
    due = Delivery.objects.filter(state="pending", next_attempt_at__lte=now, endpoint__in=_free(now))
    return sorted(set(due.values_list("endpoint_id", flat=True)))


def drain(endpoint_id: int) -> int:
    """Send what is due at one endpoint, oldest first, until nothing is, or an attempt fails. Returns how many."""
    until = time.monotonic() + DRAIN_S
    num_attempts = 0
    while time.monotonic() < until and (delivery := _claim(endpoint_id)) is not None:
        endpoint, now = delivery.endpoint, timezone.now()
        at = int(now.timestamp())
        signed = sign.headers(delivery.webhook_id, at=at, body=delivery.body, keys=_keys(endpoint, now))
        answer = post(endpoint.url, delivery.body, {"content-type": "application/json", **signed})
        _settle(delivery, answer)
        num_attempts += 1
    return num_attempts


def _free(now: datetime) -> QuerySet[Endpoint]:
    return Endpoint.objects.filter(Q(busy_until=None) | Q(busy_until__lte=now), enabled=True)


def _claim(endpoint_id: int) -> Delivery | None:
    """Lease the oldest due delivery, with its endpoint; None when there is none."""
    now = timezone.now()
    lease_until = now + timedelta(seconds=LEASE_S)
    with transaction.atomic():
        due = Delivery.objects.filter(endpoint=endpoint_id, state="pending", next_attempt_at__lte=now)
        delivery = due.order_by("next_attempt_at", "pk").first()
        if delivery is None or _free(now).filter(pk=endpoint_id).update(busy_until=lease_until) != 1:
            return None
        changes = {"num_attempts": delivery.num_attempts + 1, "next_attempt_at": lease_until}
        if due.filter(pk=delivery.pk, num_attempts=delivery.num_attempts).update(**changes) != 1:
            transaction.set_rollback(True)  # somebody was first: the endpoint is not ours either
            return None
    return Delivery.objects.select_related("endpoint").get(pk=delivery.pk)


def _keys(endpoint: Endpoint, now: datetime) -> list[str]:
    rotating = endpoint.old_secret and endpoint.old_secret_until and now < endpoint.old_secret_until
    return [endpoint.secret, endpoint.old_secret] if rotating else [endpoint.secret]


# --- what an answer means -------------------------------------------------------------------


def _settle(delivery: Delivery, answer: Answer) -> None:
    """Record the outcome of an attempt, unless its lease ran out and another one was made since."""
    with transaction.atomic():
        mine = Delivery.objects.filter(pk=delivery.pk, state="pending", num_attempts=delivery.num_attempts)
        if mine.update(**_outcome(delivery, answer), **_seen(answer)) != 1:
            log.warning("%s: attempt %s answered after its lease", delivery.webhook_id, delivery.num_attempts)
            return
        endpoint = Endpoint.objects.select_for_update().get(pk=delivery.endpoint_id)
        if answer.ok:
            endpoint.num_failures, endpoint.failing_since, endpoint.busy_until = 0, None, None
        else:
            _rest(endpoint, answer)
        endpoint.save(update_fields=["num_failures", "failing_since", "busy_until"])
        if answer.code == 410:
            switch_off(endpoint, "It answered 410 Gone: it wants no more webhooks.", by=BY)
        elif _is_dead(endpoint, delivery):
            since = f"{endpoint.failing_since:%d %B %Y, %H:%M} UTC"
            switch_off(endpoint, f"Every attempt has failed since {since}.", by=BY)


def _seen(answer: Answer) -> dict[str, object]:
    return {
        "code": answer.code,
        "latency_ms": answer.latency_ms,
        "problem": answer.problem,
        "response_sha256": answer.sha256,
        "response_start": answer.start,
        "updated_at": timezone.now(),
    }


def _outcome(delivery: Delivery, answer: Answer) -> dict[str, object]:
    if answer.ok:
        return {"state": "delivered", "next_attempt_at": None}
    if answer.code == 410 or delivery.num_attempts >= len(DELAYS_S):
        return {"state": "failed", "next_attempt_at": None}
    delay_s = float(DELAYS_S[delivery.num_attempts])
    if delay_s >= 60:
        delay_s += random.uniform(0, JITTER * delay_s)  # noqa: S311 - no secret hangs on it
    delay_s = max(delay_s, _asked_to_wait_s(answer))
    return {"state": "pending", "next_attempt_at": timezone.now() + timedelta(seconds=delay_s)}


def _rest(endpoint: Endpoint, answer: Answer) -> None:
    """Pause the endpoint: 5 s, 10 s, 20 s ... 5 min, or as long as Retry-After asks."""
    now = timezone.now()
    rest_s = min(DELAYS_S[1] * 2.0 ** min(endpoint.num_failures, 10), MAX_REST_S)
    endpoint.num_failures += 1
    endpoint.failing_since = endpoint.failing_since or now
    endpoint.busy_until = now + timedelta(seconds=max(rest_s, _asked_to_wait_s(answer)))


def _asked_to_wait_s(answer: Answer) -> float:
    return answer.retry_after_s or 0.0


def _is_dead(endpoint: Endpoint, delivery: Delivery) -> bool:
    """Whether a whole schedule of attempts went by, over days, without one success."""
    if delivery.num_attempts < len(DELAYS_S) or endpoint.failing_since is None:
        return False
    return timezone.now() - endpoint.failing_since >= OFF_AFTER


# --- what a person does; PermissionDenied without the right to keep webhooks ----------------


def switch_off(endpoint: Endpoint, reason: str, *, by: Actor) -> None:
    """Send nothing more to ``endpoint``; its pending deliveries fail, and can be replayed later."""
    rights.check(by, rights.keep_webhooks, endpoint)
    with transaction.atomic():
        if Endpoint.objects.filter(pk=endpoint.pk, enabled=True).update(enabled=False, disabled_reason=reason) != 1:
            return
        owed = Delivery.objects.filter(endpoint=endpoint, state="pending")
        owed.update(state="failed", next_attempt_at=None, problem="The endpoint was switched off.")
        endpoint.enabled, endpoint.disabled_reason = False, reason
        sentence = f"Webhooks to {endpoint} are switched off. {reason}"
        events.record(kinds.ENDPOINT_DISABLED(), sentence, by=rights.name_of(by), rows=[endpoint])


def switch_on(endpoint: Endpoint, *, by: Actor) -> None:
    """Send to ``endpoint`` again, with its failures forgotten."""
    rights.check(by, rights.keep_webhooks, endpoint)
    fresh = {"enabled": True, "disabled_reason": "", "num_failures": 0, "failing_since": None, "busy_until": None}
    with transaction.atomic():
        if Endpoint.objects.filter(pk=endpoint.pk, enabled=False).update(**fresh) == 1:
            endpoint.enabled = True
            sentence = f"Webhooks to {endpoint} are switched on"
            events.record(kinds.ENDPOINT_ENABLED(), sentence, by=rights.name_of(by), rows=[endpoint])


def rotate(endpoint: Endpoint, *, by: Actor) -> str:
    """Make a new secret. For a day the old one signs as well, so that the receiver can change over without a gap."""
    rights.check(by, rights.keep_webhooks, endpoint)
    endpoint.old_secret, endpoint.old_secret_until = endpoint.secret, timezone.now() + OLD_SECRET
    endpoint.secret = sign.new_secret()
    with transaction.atomic(), watch.told_by_a_verb():
        endpoint.save(update_fields=["secret", "old_secret", "old_secret_until"])
        sentence = f"The secret of {endpoint} was rotated"
        events.record(kinds.ENDPOINT_SECRET_ROTATED(), sentence, by=rights.name_of(by), rows=[endpoint])
    return endpoint.secret


def replay(delivery: Delivery, *, by: Actor) -> None:
    """Send a settled delivery once more: same id, same body, a new schedule. ValueError when it cannot be."""
    rights.check(by, rights.keep_webhooks, delivery.endpoint)
    if not delivery.endpoint.enabled:
        raise ValueError(f"{delivery.endpoint}: is switched off; switch it on to replay its deliveries")
    fresh = {"state": "pending", "num_attempts": 0, "next_attempt_at": timezone.now(), "updated_at": timezone.now()}
    with transaction.atomic():
        if Delivery.objects.filter(pk=delivery.pk).exclude(state="pending").update(**fresh) != 1:
            raise ValueError(f"{delivery.webhook_id}: is still under way")
        transaction.on_commit(lambda: doorbell.control(DELIVER, delivery.endpoint_id))


def forget_old() -> None:
    """Drop settled deliveries after 30 days, a few at a time: no write when there are none."""
    settled = Delivery.objects.filter(created_at__lt=timezone.now() - KEPT).exclude(state="pending")
    if old := list(settled.values_list("pk", flat=True)[:500]):
        Delivery.objects.filter(pk__in=old).delete()
