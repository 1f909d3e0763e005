"""What was proposed: waves, proposals, their revisions, what the gates found and what people decided."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Q

from research import lifecycle
from research.models.campaign import ARMS, USER, Campaign, Incumbent, states


class Wave(models.Model):
    """Proposals that came in one answer and were designed together; each is decided on its own."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="waves")
    arm = models.CharField(max_length=8, choices=ARMS)
    design = models.TextField(blank=True, help_text="What they are to find out together, and how they differ.")
    model = models.CharField(max_length=100, blank=True)
    prompt_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the whole request.")
    templates_sha256 = models.CharField(max_length=64, blank=True, help_text="Of our own words in it.")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"wave {self.pk} of {self.campaign_id}"


class Proposal(models.Model):
    """One proposed experiment. Shown as P-142."""

    ARMS = ARMS

    FROM_OUTSIDE = ("human", "agent")  # arms that the loop does not ask

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="proposals")
    arm = models.CharField(max_length=8, choices=ARMS)
    state = models.CharField(max_length=20, choices=states(lifecycle.PROPOSAL), default="drafted", db_index=True)
    state_at = models.DateTimeField(auto_now_add=True)
    title = models.CharField(max_length=200)
    source = models.CharField(max_length=200, blank=True, help_text="Catalogue entry, or model and prompt hash.")
    author = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT)
    precedents = models.ManyToManyField("self", symmetrical=False, blank=True)
    kept_on_val = models.JSONField(
        null=True, blank=True, editable=False, help_text="The judge's last look on val: final, while sealed is read."
    )
    wave = models.ForeignKey(Wave, null=True, blank=True, on_delete=models.PROTECT, related_name="proposals")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "state"])]

    def __str__(self) -> str:
        return f"P-{self.pk} {self.title}"

    @property
    def revision(self) -> Revision:
        """The newest revision: the only one that can be decided on."""
        return self.revisions.latest("number")


class Revision(models.Model):
    """What exactly is proposed. Immutable: an edit or a rebase is a new revision."""

    RISKS = [
        ("contained", "contained"),
        ("may_diverge", "may diverge"),
        ("heavier", "slower or more memory"),
        ("numerics", "touches numerics"),
    ]
    ORIGINS = [("drafted", "drafted"), ("answered", "answered"), ("rebased", "rebased"), ("edited", "edited")]

    proposal = models.ForeignKey(Proposal, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveSmallIntegerField()
    incumbent = models.ForeignKey(Incumbent, on_delete=models.PROTECT, related_name="revisions")
    hypothesis = models.TextField()
    mechanism = models.TextField(blank=True)
    refuted_if = models.TextField()
    effect_bpb = models.FloatField()
    low_bpb = models.FloatField()
    high_bpb = models.FloatField()
    chance_to_win = models.FloatField()
    risk = models.CharField(max_length=12, choices=RISKS, blank=True)
    time_factor = models.FloatField(
        null=True, blank=True, help_text="Expected seconds for the same tokens, relative to the incumbent."
    )
    memory_factor = models.FloatField(
        null=True, blank=True, help_text="Expected peak memory, relative to the incumbent."
    )
    why_together = models.TextField(blank=True, help_text="Why more than one thing changes at once.")
    returns_from = models.ForeignKey(
        Proposal,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="The rejected one that it takes up again.",
    )
    what_changed = models.TextField(blank=True, help_text="What is different since that one was rejected.")
    model = models.CharField(max_length=100, blank=True, help_text="Which model wrote it.")
    prompt_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the whole request.")
    templates_sha256 = models.CharField(max_length=64, blank=True, help_text="Of our own words in it.")
    overrides = models.JSONField(default=list, help_text="[{key, value, reason}]")
    edits = models.JSONField(default=list, help_text="[{path, search, replace}]")
    patch = models.TextField(blank=True)
    origin = models.CharField(max_length=8, choices=ORIGINS, default="drafted", help_text="What it was made by.")
    author = models.ForeignKey(
        USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+", help_text="Who edited it."
    )
    answers = models.TextField(blank=True, help_text="The comment that this revision answers.")
    reply = models.TextField(blank=True, help_text="How it answers, in the proposer's words.")
    digest = models.CharField(max_length=64)
    approval = models.JSONField(help_text="gpu_runner.contract.Approval, what the digest is taken of.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["proposal", "number"], name="one_revision_per_number"),
            models.CheckConstraint(
                condition=Q(low_bpb__lte=F("effect_bpb")) & Q(effect_bpb__lte=F("high_bpb")),
                name="interval_holds_effect",
            ),
            models.CheckConstraint(
                condition=Q(chance_to_win__gte=0, chance_to_win__lte=1), name="chance_is_a_probability"
            ),
            models.CheckConstraint(
                condition=Q(time_factor__isnull=True) | Q(time_factor__gt=0), name="time_factor_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(memory_factor__isnull=True) | Q(memory_factor__gt=0), name="memory_factor_is_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"P-{self.proposal_id} revision {self.number}"

    @property
    def alpha(self) -> float:
        """The signed alpha; the measured interval is one of 1 - alpha."""
        alpha: float = self.approval["seeds"]["alpha"]
        return alpha

    @property
    def knobs(self) -> dict[str, Any]:
        return {override["key"]: override["value"] for override in self.overrides}


class Gate(models.Model):
    """One check of one revision, with what it measured."""

    OUTCOMES = [("pending", "pending"), ("passed", "passed"), ("warned", "warned"), ("failed", "failed")]

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="gates")
    order = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40)
    outcome = models.CharField(max_length=8, choices=OUTCOMES)
    sentence = models.CharField(max_length=1_000, help_text="What was found, for a person.")
    measured = models.JSONField(default=dict)
    seconds = models.FloatField(null=True, blank=True)

    class Meta:
        ordering = ["order"]
        constraints = [models.UniqueConstraint(fields=["revision", "name"], name="one_row_per_gate")]

    def __str__(self) -> str:
        return f"{self.name}: {self.outcome}"


class Decision(models.Model):
    """Who decided what, why, on which digest. Never changed."""

    ON_A_REVIEW = [("approve", "approve"), ("reject", "reject"), ("request_changes", "request changes")]
    CHOICES = [*ON_A_REVIEW, ("override", "override")]
    CATEGORIES = [
        ("not_worth_it", "Not worth the compute"),
        ("already_known", "Already known or tried"),
        ("flawed", "The reasoning or the change is flawed"),
        ("unsafe", "Unsafe or out of bounds"),
        ("later", "Right idea, wrong time"),
        ("other", "Something else"),
    ]

    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="decisions")
    choice = models.CharField(max_length=16, choices=CHOICES)
    category = models.CharField(max_length=16, choices=CATEGORIES, blank=True)
    reason = models.TextField(blank=True)
    digest = models.CharField(max_length=64)
    gates_sha256 = models.CharField(
        max_length=64, blank=True, help_text="Of the failed gates that it overrides, with all that they found."
    )
    by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["revision", "gates_sha256", "by"],
                condition=Q(choice="override"),
                name="one_signature_per_person",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.choice} P-{self.revision.proposal_id} by {self.by}"
