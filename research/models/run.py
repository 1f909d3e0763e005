"""What was run, where, and what came of it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from research import lifecycle
from research.models.campaign import USER, Campaign, Incumbent, states
from research.models.proposal import Revision


class Worker(models.Model):
    """A GPU machine's supervisor. It holds a token; only the hash is stored here."""

    name = models.CharField(max_length=64, unique=True)
    token_sha256 = models.CharField(max_length=64, unique=True)
    enabled = models.BooleanField(default=True)
    hardware_class = models.CharField(max_length=60, blank=True)
    hardware = models.JSONField(default=dict, blank=True)
    sandbox_level = models.CharField(max_length=20, blank=True)
    lock_sha256 = models.CharField(max_length=64, blank=True)
    environments = models.JSONField(default=dict, blank=True, help_text="{name: sha256 of its packages}")
    seen_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Run(models.Model):
    """One seed of one revision, or of the incumbent, on one machine. Shown as R-388."""

    STOPS = [
        (lifecycle.Stop.PERSON.value, "by a person"),
        (lifecycle.Stop.HALTED.value, "with its campaign: it is run again when that goes on"),
        (lifecycle.Stop.POSTPONED.value, "until its turn: it is run again then"),
        (lifecycle.Stop.UNWANTED.value, "because it was not wanted any more"),
    ]
    PURPOSES = [("smoke", "Smoke"), ("baseline", "Incumbent"), ("candidate", "Candidate")]
    # States after which the same seed may be run again. A candidate's crash is an answer; the incumbent's is not.
    REPLACEABLE = {
        "smoke": ("cancelled",),
        "candidate": ("cancelled",),
        "baseline": ("cancelled", "failed", "timed_out"),
    }

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="runs")
    incumbent = models.ForeignKey(Incumbent, on_delete=models.PROTECT, related_name="runs")
    revision = models.ForeignKey(Revision, null=True, blank=True, on_delete=models.CASCADE, related_name="runs")
    purpose = models.CharField(max_length=10, choices=PURPOSES)
    seed = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=states(lifecycle.RUN), default="queued", db_index=True)
    state_at = models.DateTimeField(auto_now_add=True)
    approval = models.JSONField(help_text="gpu_runner.contract.Approval that the worker must reproduce.")
    digest = models.CharField(max_length=64)
    reads_sealed = models.BooleanField(default=False, help_text="Its scorer reads the sealed split, too.")
    set_aside = models.BooleanField(
        default=False, help_text="Of the incumbent's own: its score was disputed, and its seed is measured again."
    )
    rank = models.PositiveSmallIntegerField(default=50, help_text="Lower is claimed first.")

    worker = models.ForeignKey(Worker, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs")
    hardware_class = models.CharField(max_length=60, blank=True)
    sandbox_level = models.CharField(max_length=20, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    token_sha256 = models.CharField(max_length=64, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    rung_at = models.DateTimeField(null=True, blank=True)
    stop_kind = models.CharField(
        max_length=10, choices=STOPS, blank=True, help_text="Set: the next report is answered with stop."
    )
    stop_reason = models.CharField(max_length=200, blank=True)

    last_seq = models.PositiveIntegerField(default=0)
    progress = models.JSONField(null=True, blank=True)
    latest = models.JSONField(default=dict, blank=True, help_text="Newest value of each metric, with its step.")
    started = models.JSONField(null=True, blank=True)
    failure = models.JSONField(null=True, blank=True)
    device_s = models.FloatField(null=True, blank=True)
    train_s = models.FloatField(null=True, blank=True)
    peak_memory_mib = models.FloatField(null=True, blank=True)
    num_steps = models.PositiveIntegerField(null=True, blank=True)
    num_tokens = models.PositiveBigIntegerField(null=True, blank=True)
    spent = models.JSONField(null=True, blank=True, help_text="gpu_runner.contract.Spent: measured outside of the run.")

    created_at = models.DateTimeField(auto_now_add=True)
    leased_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["state", "rank", "id"]), models.Index(fields=["campaign", "purpose", "state"])]
        constraints = [
            models.UniqueConstraint(
                fields=["incumbent", "seed", "digest"],
                condition=Q(purpose="baseline", set_aside=False) & ~Q(state__in=("cancelled", "failed", "timed_out")),
                name="one_baseline_per_seed",
            ),
            models.UniqueConstraint(
                fields=["revision", "seed", "purpose"],
                condition=Q(purpose__in=("candidate", "smoke")) & ~Q(state="cancelled"),
                name="one_run_per_revision_and_seed",
            ),
        ]

    def __str__(self) -> str:
        return f"R-{self.pk} {self.purpose} seed {self.seed}"


class ReportBatch(models.Model):
    """One accepted report: columns of points and log lines, compressed. No row per point.

    ``body`` is zlib-compressed canonical JSON of {points, log}; (run, seq) makes a retry harmless.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="batches")
    seq = models.PositiveIntegerField()
    attempt = models.PositiveSmallIntegerField()
    num_points = models.PositiveIntegerField()
    watched = models.BooleanField(null=True, help_text="Holds a measurement on the watch text; NULL: written before.")
    body = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="one_batch_per_seq")]
        verbose_name_plural = "report batches"

    def __str__(self) -> str:
        return f"R-{self.run_id} batch {self.seq}"


class Score(models.Model):
    """What the trusted scorer measured on a run's checkpoint."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, related_name="score")
    outcome = models.CharField(max_length=16)
    val_bpb = models.FloatField(null=True, blank=True)
    sealed_bpb = models.FloatField(null=True, blank=True)
    self_reported_bpb = models.FloatField(null=True, blank=True)
    self_reported = models.JSONField(
        null=True, blank=True, help_text="gpu_runner.contract.SelfReported: a foreign trainer's own word; no val_bpb."
    )
    reasons = models.JSONField(default=list)
    evidence = models.JSONField(null=True, blank=True, help_text="gpu_runner.contract.Evidence: what challenges found.")
    effort = models.JSONField(null=True, blank=True, help_text="gpu_runner.contract.Effort: what being scored took.")
    provenance = models.JSONField(default=dict)
    seconds = models.FloatField()
    settled_by = models.ForeignKey(
        USER,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Who took it out of quarantine.",
    )
    settled_reason = models.TextField(blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"R-{self.run_id}: {self.val_bpb} ({self.outcome})"
