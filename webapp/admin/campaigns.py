"""Campaigns, to be read, with a door to their settings; and what an administrator may set: is a worker trusted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from research.models import Campaign, Worker
from research.propose import turns
from research.record import campaigns
from research.runs import workers
from webapp.admin.read_only import AnyAdmin, Permission, RecordAdmin
from webapp.pages.access import person


@admin.register(Campaign)
class CampaignAdmin(RecordAdmin):
    """All of a campaign, to be read. What may be set has its page, ``/campaigns/SLUG/settings/``."""

    list_display = ("name", "slug", "state", "recipe", "dataset", "hardware_class", "budget_gpu_hours", "budget_usd")
    list_filter = ("state", "recipe")
    search_fields = ("name", "slug", "goal")
    FIXED = ("recipe", "origin", "origin_commit", "hardware_class", *campaigns.MEASURED)
    PROBLEMS = ("proposer_problem", "batch_problem", "proposer_retry_at")
    NOW = ("state", "state_reason", *PROBLEMS, "created_by", "created_at")
    fieldsets = (
        (None, {"fields": ("slug", *campaigns.GOAL)}),
        ("Budget", {"fields": campaigns.BUDGET}),
        ("Policy", {"fields": campaigns.POLICY}),
        ("Pace", {"fields": campaigns.PACE}),
        ("Fixed when it began", {"fields": FIXED}),
        ("Now", {"fields": NOW}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Campaign | None = None) -> Any:
        """With the address of the page where it is changed on top."""
        address = "" if obj is None else reverse("campaign-settings", args=[obj.slug])
        said = format_html('What may be changed is changed on <a href="{}">its own page</a>.', address)
        first, *others = self.fieldsets
        return [(first[0], {**first[1], "description": said}), *others]

    @admin.display
    def proposer_problem(self, campaign: Campaign) -> str:
        return " ".join(turn.problem for turn in turns.shown(campaign))

    @admin.display
    def batch_problem(self, campaign: Campaign) -> str:
        return " ".join(turn.batch_problem for turn in turns.shown(campaign))

    @admin.display
    def proposer_retry_at(self, campaign: Campaign) -> datetime | None:
        return next((turn.retry_at for turn in turns.shown(campaign)), None)


@admin.register(Worker)
class WorkerAdmin(RecordAdmin):
    """A worker can be switched off: its next request is refused and its lease runs out."""

    list_display = ("name", "enabled", "hardware_class", "sandbox_level", "seen_at", "created_at")
    list_filter = ("enabled", "hardware_class")
    search_fields = ("name",)
    SAID = ("hardware_class", "sandbox_level", "hardware", "datasets", "environments", "lock_sha256")
    fields = ("name", "enabled", *SAID, "seen_at", "created_at")
    readonly_fields = ("name", *SAID, "seen_at", "created_at")

    has_change_permission: Permission = AnyAdmin.has_change_permission

    def save_model(self, request: HttpRequest, obj: Worker, form: ModelForm[Worker], change: bool) -> None:
        assert change, "workers are not added here"
        if form.changed_data:
            workers.switch(obj, form.cleaned_data["enabled"], by=person(request))
