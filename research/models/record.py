"""What was paid, what happened, and where the audit chain stands."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from research.models.campaign import Campaign
from research.models.proposal import Proposal
from research.models.run import Run


class LedgerEntry(models.Model):
    """Money or GPU-seconds spent. Dollars of unknown price are NULL, never 0."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="ledger")
    kind = models.CharField(max_length=8, choices=[("gpu", "GPU time"), ("claude", "Claude")])
    gpu_s = models.FloatField(null=True, blank=True)
    usd = models.DecimalField(max_digits=12, decimal_places=6, null=True, blank=True)
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.SET_NULL)
    usage = models.JSONField(default=dict, blank=True)
    answer = models.TextField(blank=True, help_text="What Claude's side sent back, as it came but for our key.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "ledger entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.gpu_s or ''} {self.usd or ''}"


class Event(models.Model):
    """What happened, by whom. Append-only; written in the transaction that it happened in."""

    kind = models.CharField(max_length=60, db_index=True)
    by = models.CharField(max_length=120, help_text="user:NAME, worker:NAME, or the room that acted, as judge.")
    campaign = models.ForeignKey(Campaign, null=True, blank=True, on_delete=models.SET_NULL, related_name="events")
    proposal = models.ForeignKey(Proposal, null=True, blank=True, on_delete=models.SET_NULL, related_name="events")
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="events")
    sentence = models.CharField(max_length=600)
    payload = models.JSONField(default=dict)
    rows = models.JSONField(default=dict, editable=False, help_text="{table: {key: {part: hash}}} of what it tells of.")
    at = models.DateTimeField(default=timezone.now, editable=False)
    seal = models.CharField(max_length=104, unique=True, null=True, editable=False, help_text="See record.seal.")
    position = models.PositiveBigIntegerField(null=True, editable=False, unique=True, help_text="In the audit chain.")
    sha256 = models.CharField(max_length=64, blank=True, editable=False, help_text="Of this event and all before it.")

    class Meta:
        indexes = [models.Index(fields=["campaign", "-id"])]

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


class AuditHead(models.Model):
    """The audit chain's length and last hash, in one row, so that a cut end is noticed."""

    num_events = models.PositiveBigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True)
    begun = models.PositiveBigIntegerField(default=0, help_text="From this position on every event is sealed.")
    signature = models.CharField(max_length=72, blank=True, help_text="See record.seal.")

    def __str__(self) -> str:
        return f"{self.num_events} events, {self.sha256[:12]}"
