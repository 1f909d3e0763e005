"""Experiments that other loops ran before this record: what was imported, from where, and each of its rows."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from research.history.past import KINDS
from research.models.campaign import USER, Campaign


class Import(models.Model):
    """One source that was read into a campaign. Archived, not deleted; its numbers are the source's own."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="imports")
    kind = models.CharField(max_length=16, choices=list(KINDS.items()))
    source = models.CharField(max_length=200, help_text="The file or folder, by name.")
    sha256 = models.CharField(max_length=64, help_text="Of what was read.")
    columns = models.JSONField(default=list, help_text="[[their name, our field]]")
    metric = models.CharField(max_length=120, blank=True)
    direction = models.CharField(max_length=8, choices=[("lower", "lower"), ("higher", "higher")])
    num_read = models.PositiveIntegerField(help_text="Rows; each is an experiment or refused.")
    refused = models.JSONField(default=list, help_text="[{line, reason, text}]")
    notes = models.JSONField(default=list, help_text="What was done in reading it, in sentences.")
    by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    archived_at = models.DateTimeField(null=True, blank=True)
    archived_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["campaign", "sha256"], condition=Q(archived_at=None), name="one_import_of_each_source"
            )
        ]

    def __str__(self) -> str:
        return f"{self.source} into {self.campaign}"

    @property
    def num_refused(self) -> int:
        return len(self.refused)

    @property
    def num_mapped(self) -> int:
        return self.num_read - self.num_refused


class PastExperiment(models.Model):
    """One experiment of an import: self-reported, one seed, no verdict of ours. Shown as H-12."""

    OUTCOMES = [("kept", "Kept"), ("discarded", "Discarded"), ("crashed", "Crashed"), ("unsaid", "Not said")]

    imported = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="experiments")
    number = models.PositiveIntegerField(help_text="Counted from 1 over all imports of its campaign.")
    line = models.PositiveIntegerField(help_text="Of its source.")
    key = models.CharField(max_length=32, db_index=True, help_text="Hash of what it says.")
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    commit = models.CharField(max_length=60, blank=True)
    outcome = models.CharField(max_length=10, choices=OUTCOMES)
    said = models.CharField(max_length=40, blank=True, help_text="The source's own word for it.")
    value = models.FloatField(null=True, blank=True, help_text="Of the import's metric.")
    memory_mib = models.FloatField(null=True, blank=True)
    train_s = models.FloatField(null=True, blank=True)
    parameters = models.JSONField(default=dict, blank=True)
    extras = models.JSONField(default=dict, blank=True)
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    is_git_s = models.BooleanField(default=False, help_text="Git says what it stands on, not the order of the rows.")
    patch = models.TextField(blank=True, help_text="The diff of its commit, where that still exists.")
    message = models.TextField(blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["imported", "line"], name="one_experiment_a_line")]

    def __str__(self) -> str:
        return f"H-{self.number} {self.title}"
