"""Webhooks: Endpoint (which address is told of which events) and Delivery (every message to one, the outbox)."""

from __future__ import annotations

from django.db import models

from research.models import Event
from research.record import kinds
from webapp.notify import sign

# What an endpoint may ask for -> the events that are sent under this type.
KINDS: dict[str, frozenset[str]] = {
    kinds.PROPOSAL["pending_review"]: frozenset({kinds.PROPOSAL["pending_review"]}),
    kinds.RUN["finished"]: frozenset({kinds.RUN["finished"]}),
    kinds.RUN["failed"]: frozenset({kinds.RUN["failed"], kinds.RUN["timed_out"]}),
    kinds.VERDICT: frozenset({kinds.VERDICT}),
}
TEST = "test"
DELIVER = "notify.deliver"  # the task that sends what one endpoint is owed


class Endpoint(models.Model):
    """An address that is told of events. Its secret is shown once, when it is made or rotated."""

    description = models.CharField(max_length=120, help_text="What stands behind the address, as Experiment tracker.")
    url = models.CharField(max_length=500)
    kinds = models.JSONField(default=list, help_text="Which types of message it gets.")
    secret = models.CharField(max_length=200, default=sign.new_secret, editable=False)
    old_secret = models.CharField(max_length=200, blank=True, editable=False)
    old_secret_until = models.DateTimeField(null=True, blank=True, editable=False)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=300, blank=True, editable=False)

    num_failures = models.PositiveIntegerField(default=0, editable=False, help_text="Failed attempts in a row.")
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    busy_until = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="No attempt before: one is under way, or it has to rest."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.description


class Delivery(models.Model):
    """One message to one endpoint. Written in the event's transaction; its body and id never change again."""

    STATES = [("pending", "pending"), ("delivered", "delivered"), ("failed", "failed")]

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    webhook_id = models.CharField(max_length=40, unique=True, default=sign.new_id)
    kind = models.CharField(max_length=40)
    body = models.TextField()
    state = models.CharField(max_length=10, choices=STATES, default="pending")
    num_attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)

    code = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Of the last attempt.")
    latency_ms = models.PositiveIntegerField(null=True, blank=True)
    problem = models.CharField(max_length=300, blank=True)
    response_sha256 = models.CharField(max_length=64, blank=True, help_text="Of its first 64 KiB.")
    response_start = models.CharField(max_length=1_024, blank=True, help_text="Its first 256 bytes, escaped.")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "deliveries"
        indexes = [models.Index(fields=["state", "next_attempt_at"])]

    def __str__(self) -> str:
        return f"{self.kind} to {self.endpoint}"
