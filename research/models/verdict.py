"""What was judged, what we believe since, and what people note for the proposer."""

from __future__ import annotations

from django.db import models

from research.models.campaign import USER, Campaign
from research.models.proposal import Proposal, Revision


class Verdict(models.Model):
    """What the judge decided over paired seeds. Never changed."""

    OUTCOMES = [("keep", "Kept"), ("discard", "Discarded"), ("inconclusive", "Within noise"), ("disputed", "Disputed")]

    revision = models.OneToOneField(Revision, on_delete=models.PROTECT, related_name="verdict")
    outcome = models.CharField(max_length=12, choices=OUTCOMES)
    reason = models.CharField(max_length=600)
    effect_bpb = models.FloatField(null=True, blank=True)
    low_bpb = models.FloatField(null=True, blank=True)
    high_bpb = models.FloatField(null=True, blank=True)
    e_value = models.FloatField(null=True, blank=True)
    crashed = models.BooleanField(default=False)
    num_pairs = models.PositiveSmallIntegerField(default=0)
    pairs = models.JSONField(default=list, help_text="[{seed, candidate_bpb, incumbent_bpb, difference_bpb, e_value}]")
    candidate_bpb = models.FloatField(null=True, blank=True, help_text="Mean over the pairs.")
    incumbent_bpb = models.FloatField(null=True, blank=True)
    sealed_effect_bpb = models.FloatField(
        null=True, blank=True, help_text="Estimated on the sealed text; not for Claude."
    )
    sealed = models.JSONField(
        null=True,
        blank=True,
        help_text="{seed, candidate_bpb, incumbent_bpb, candidate_sealed_bpb, incumbent_sealed_bpb}",
    )
    self_reported = models.JSONField(
        null=True,
        blank=True,
        help_text="Where it rests on self-reported numbers: {metric, unit, direction, effect, low, high, candidate,"
        " incumbent, pairs}. All bpb above are empty then.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.outcome} P-{self.revision.proposal_id}"


class Finding(models.Model):
    """What we now believe about a proposal, in a sentence that reaches the next prompt."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="findings")
    proposal = models.OneToOneField(Proposal, on_delete=models.CASCADE, related_name="finding")
    kind = models.CharField(
        max_length=16, help_text="kept, discarded, inconclusive, disputed, crashed, rejected, blocked"
    )
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.text[:80]


class Note(models.Model):
    """A person's steering note for the proposer while the loop runs. Retired, not deleted."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="notes")
    text = models.TextField()
    by = models.ForeignKey(USER, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.text[:60]
