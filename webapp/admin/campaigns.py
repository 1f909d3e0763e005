"""What an administrator may set: a campaign's policy and budget, whether a worker is trusted."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import pydantic
from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import models
from django.forms import ModelForm
from django.http import HttpRequest

from gpu_runner import contract
from research.models import (
    Campaign,
    Worker,
)
from research.propose import turns
from research.record import campaigns, rights
from research.runs import workers
from webapp.admin.read_only import AnyAdmin, AnyForm, Permission, RecordAdmin
from webapp.pages.access import person


class Prose(forms.CharField):
    """Text of several lines. Browsers send line ends as CRLF, which must not count as a change."""

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").replace("\r\n", "\n")

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)


class CampaignForm(AnyForm):
    """Refuses a policy that no RunSpec could carry or no loop could follow, before it is saved."""

    BOUNDS: ClassVar[dict[str, tuple[int, int]]] = {
        "budget_gpu_hours": (0, 10_000_000),
        "budget_usd": (0, 99_999_999),  # what the column holds
        "usd_per_gpu_hour": (0, 9_999),  # a price below zero would give spent budget back
        "deadline_s": (1, 30 * 24 * 3600),
        "approval_ttl_h": (1, 365 * 24),
        "max_pairs": (1, contract.MAX_PAIRS),  # beyond are the sealed pair's seed, and the next incumbent's
        "num_waiting": (0, 100),  # Claude is asked for as many at once
    }

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = {**(super().clean() or {})}
        for name, (low, high) in self.BOUNDS.items():
            if values.get(name) is not None and not low <= values[name] <= high:
                self.add_error(name, f"Must be {low:,} to {high:,}.")
        policy: dict[str, Any] = {
            name: values.get(name) for name in ("min_pairs", "max_pairs", "alpha", "min_effect_bpb")
        }
        if None not in policy.values() and not policy.keys() & self.errors.keys():
            try:
                contract.SeedPolicy(**policy)
            except pydantic.ValidationError as error:
                raise ValidationError("; ".join(str(found["msg"]) for found in error.errors())) from error
        return values


@admin.register(Campaign)
class CampaignAdmin(RecordAdmin):
    """Goal, Program, budget and policy may be set; they hold for what is proposed from then on.

    That needs ``research.change_campaign``. With the right to steer alone one sets the pace (``campaigns.PACE``),
    and reads the rest. ``research.record.campaigns.create`` creates campaigns, since it also makes their repository. A
    save leaves an event with the old and the new values: see ``research.record.watch``.
    """

    list_display = ("name", "slug", "state", "recipe", "dataset", "hardware_class", "budget_gpu_hours", "budget_usd")
    list_filter = ("state", "recipe")
    search_fields = ("name", "slug", "goal")
    MEASURED = ("recipe", "dataset", "dataset_sha256", "run_budget_kind", "run_budget_amount", "score_tokens")
    MACHINE = ("smoke_steps", "sandbox_level", "hardware_class")
    PROBLEMS = ("proposer_problem", "batch_problem", "proposer_retry_at")
    NOW = ("state", "state_reason", *PROBLEMS, "created_by", "created_at")
    fieldsets = (
        (None, {"fields": ("slug", *campaigns.GOAL)}),
        ("Budget", {"fields": campaigns.BUDGET}),
        ("Policy", {"fields": campaigns.POLICY}),
        ("Pace", {"fields": campaigns.PACE}),
        ("Fixed when it began", {"fields": MEASURED + MACHINE}),
        ("Now", {"fields": NOW}),
    )
    readonly_fields = ("slug", *MEASURED, *MACHINE, *NOW)
    form = CampaignForm
    formfield_overrides: ClassVar[dict[type[models.Field[Any, Any]], Any]] = {models.TextField: {"form_class": Prose}}

    @admin.display
    def proposer_problem(self, campaign: Campaign) -> str:
        return " ".join(turn.problem for turn in turns.shown(campaign))

    @admin.display
    def batch_problem(self, campaign: Campaign) -> str:
        return " ".join(turn.batch_problem for turn in turns.shown(campaign))

    @admin.display
    def proposer_retry_at(self, campaign: Campaign) -> datetime | None:
        return next((turn.retry_at for turn in turns.shown(campaign)), None)

    def has_change_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        return any(rights.may(person(request), right, obj) for right in (rights.set_policy, rights.set_pace))

    def has_view_permission(self, request: HttpRequest, obj: Campaign | None = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Campaign | None = None) -> tuple[str, ...]:
        if rights.may(person(request), rights.set_policy, obj):
            return self.readonly_fields
        return (*self.readonly_fields, *campaigns.GOAL, *campaigns.BUDGET, *campaigns.POLICY)

    def save_model(self, request: HttpRequest, obj: Campaign, form: ModelForm[Campaign], change: bool) -> None:
        assert change, "campaigns are not added here"
        if form.changed_data:
            wanted = {name: form.cleaned_data[name] for name in form.changed_data}
            campaigns.change(obj, by=person(request), **wanted)


@admin.register(Worker)
class WorkerAdmin(RecordAdmin):
    """A worker can be switched off: its next request is refused and its lease runs out."""

    list_display = ("name", "enabled", "hardware_class", "sandbox_level", "seen_at", "created_at")
    list_filter = ("enabled", "hardware_class")
    search_fields = ("name",)
    fields = ("name", "enabled", "hardware_class", "sandbox_level", "hardware", "lock_sha256", "seen_at", "created_at")
    readonly_fields = ("name", "hardware_class", "sandbox_level", "hardware", "lock_sha256", "seen_at", "created_at")

    has_change_permission: Permission = AnyAdmin.has_change_permission

    def save_model(self, request: HttpRequest, obj: Worker, form: ModelForm[Worker], change: bool) -> None:
        assert change, "workers are not added here"
        if form.changed_data:
            workers.switch(obj, form.cleaned_data["enabled"], by=person(request))
