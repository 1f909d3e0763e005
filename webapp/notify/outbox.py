"""The outbox: writes deliveries in the transaction of their event, so that neither exists without the other."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from research.models import Campaign, Event, Proposal, Run, Score, Verdict
from research.record import doorbell, kinds, repairs, rights, withheld
from research.record.rights import Actor
from webapp.notify.models import DELIVER, KINDS, TEST, Delivery, Endpoint

MAX_BODY = 20_000  # bytes; every text in a body is bounded by its column


def on_event(event: Event, **_: Any) -> None:
    """Write one Delivery for each endpoint that listens to the event, and ring when the transaction commits."""
    kind = next((kind for kind, events in KINDS.items() if event.kind in events), None)
    if kind is None:
        return
    body = ""
    for endpoint in Endpoint.objects.filter(enabled=True):
        with repairs.repair(f"A webhook to {endpoint}", event.campaign), transaction.atomic():
            if kind in endpoint.kinds:
                body = body or _as_text(body_of(kind, event))
                put(endpoint, kind, body, event=event)


def put_test(endpoint: Endpoint, *, by: Actor) -> Delivery:
    """Write a test message. ValueError when the endpoint is switched off, or PermissionDenied."""
    rights.check(by, rights.keep_webhooks, endpoint)
    if not endpoint.enabled:
        raise ValueError(f"{endpoint}: is switched off; switch it on to send it a test")
    data = {
        "endpoint": endpoint.description,
        "sentence": "This is a test. Nothing happened.",
        "url": settings.PUBLIC_URL,
    }
    return put(endpoint, TEST, _as_text({"type": TEST, "timestamp": _iso(timezone.now()), "data": data}))


def put(endpoint: Endpoint, kind: str, body: str, *, event: Event | None = None) -> Delivery:
    """Write one message, to be sent at once."""
    delivery = Delivery.objects.create(
        endpoint=endpoint, event=event, kind=kind, body=body, next_attempt_at=timezone.now()
    )
    transaction.on_commit(lambda: doorbell.control(DELIVER, endpoint.pk))
    return delivery


def body_of(kind: str, event: Event) -> dict[str, Any]:
    """The body: type, timestamp, data.

    ``sequence`` rises from event to event of a campaign, as deliveries may arrive in any order.
    """
    occurred_at = _iso(event.at)
    data: dict[str, Any] = {
        "sequence": event.pk,
        "occurred_at": occurred_at,
        "sentence": withheld.sentence_of(event),
        "by": event.by,
        "campaign": _campaign(event.campaign) if event.campaign else None,
        "proposal": _proposal(event.proposal) if event.proposal else None,
    }
    if event.run is not None:
        data["run"] = _run(event.run)
    if kind == kinds.VERDICT and event.proposal is not None:
        data["verdict"] = _verdict(event.proposal)
    stripped: dict[str, Any] = withheld.stripped({"type": kind, "timestamp": occurred_at, "data": data})
    return stripped


def _campaign(campaign: Campaign) -> dict[str, Any]:
    return {"slug": campaign.slug, "name": campaign.name, "url": f"{settings.PUBLIC_URL}/campaigns/{campaign.slug}/"}


def _proposal(proposal: Proposal) -> dict[str, Any]:
    return {
        "id": proposal.pk,
        "title": proposal.title,
        "arm": proposal.arm,
        "state": proposal.state,
        "url": f"{settings.PUBLIC_URL}/proposals/{proposal.pk}/",
    }


def _run(run: Run) -> dict[str, Any]:
    score = Score.objects.filter(run=run).first()
    return {
        "id": run.pk,
        "purpose": run.purpose,
        "seed": run.seed,
        "state": run.state,
        "score": score.outcome if score else None,
        "val_bpb": score.val_bpb if score else None,
        "self_reported": score.self_reported if score else None,
        "failure": (run.failure or {}).get("kind"),
        "device_s": run.device_s,
        "url": f"{settings.PUBLIC_URL}/runs/{run.pk}/",
    }


def _verdict(proposal: Proposal) -> dict[str, Any] | None:
    newest = Verdict.objects.filter(revision__proposal=proposal).select_related("revision__proposal__finding")
    verdict = newest.order_by("-pk").first()
    return None if verdict is None else withheld.verdict(verdict)


def _as_text(body: dict[str, Any]) -> str:
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    assert len(text.encode()) < MAX_BODY, "a webhook body must stay small: link to what is long"
    return text


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
