"""Rows of accounts: tokens, login links, tries. The record of the loop is in ``research.models``."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from research.models import Campaign, Proposal


class AgentToken(models.Model):
    """Lets a program propose, begin campaigns, or only read. It acts as ``agent:NAME``, never as a person.

    Only its hash is stored.
    """

    SCOPES = [
        ("propose", "propose and read"),
        ("read", "read only"),
        ("begin", "begin campaigns, propose and read"),
    ]

    name = models.CharField(max_length=64, unique=True, help_text="Letters, digits, dot, dash, underscore.")
    token_sha256 = models.CharField(max_length=64, unique=True, editable=False)
    scope = models.CharField(max_length=8, choices=SCOPES, default="propose")
    campaign = models.ForeignKey(
        Campaign, null=True, blank=True, on_delete=models.CASCADE, related_name="+", help_text="Empty: all of them."
    )
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    hour_began_at = models.DateTimeField(null=True, blank=True, editable=False)
    num_in_hour = models.PositiveIntegerField(default=0, editable=False, help_text="Requests that propose, since then.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Submission(models.Model):
    """An agent's request and its answer: a retry under the same key gets the same answer."""

    token = models.ForeignKey(AgentToken, on_delete=models.PROTECT, related_name="submissions")
    key = models.CharField(max_length=100, null=True, blank=True, help_text="Its Idempotency-Key.")
    body_sha256 = models.CharField(max_length=64)
    proposal = models.ForeignKey(Proposal, on_delete=models.CASCADE, related_name="+")
    answer = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["token", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"P-{self.proposal_id} by {self.token}"


class LoginLink(models.Model):
    """A link that signs one person in once. Only the hash of its token is stored."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    token_sha256 = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"link for {self.user}, {'used' if self.used_at else 'unused'}"


class Tries(models.Model):
    """How often passwords were tried for one place (``turnstile.Place``), until it expires. ``turnstile`` writes it."""

    place = models.CharField(max_length=64, unique=True, help_text="A keyed hash of what is counted.")
    num = models.PositiveIntegerField(default=0)
    until = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "tries"

    def __str__(self) -> str:
        return f"{self.num} until {self.until:%H:%M}"
