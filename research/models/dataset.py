"""What there is to train on, as the machines that have it describe it. The text itself stays with them."""

from __future__ import annotations

from django.db import models

from research.models.run import Worker


class Manifest(models.Model):
    """A dataset by the hash of its manifest. Described once, by whichever worker said it first."""

    sha256 = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=60, db_index=True, help_text="As that worker calls it.")
    summary = models.JSONField(help_text="gpu_runner.contract.DatasetSummary: counts, and samples of training text.")
    reported_by = models.ForeignKey(Worker, null=True, blank=True, on_delete=models.SET_NULL, related_name="manifests")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.name} {self.sha256[:12]}"
