"""The admin panel: all of the record can be read, little can be changed.

Rows are written by the verbs in ``research``; an edit here would be one that no Event tells of. So the
record is read-only, audit rows may not even be deleted, and what an administrator may set (a campaign's
policy and budget, whether a worker is trusted) is listed field by field.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from gpu_runner import contract
from research.change.visible import visible
from research.models import (
    AuditHead,
    Campaign,
    Decision,
    Event,
    Finding,
    Gate,
    Incumbent,
    LedgerEntry,
    Note,
    Proposal,
    ReportBatch,
    Revision,
    Run,
    Score,
    Turn,
    Verdict,
    Wave,
    Worker,
)
from research.propose import turns
from research.record import campaigns, rights
from research.runs import workers
from webapp.api import tokens
from webapp.models import AgentToken, LoginLink
from webapp.pages.access import person

admin.site.site_header = admin.site.site_title = "Countersign"
admin.site.index_title = "Administration"
admin.site.empty_value_display = "–"


if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]  # generic in the stubs only
    AnyForm = ModelForm[Any]
else:
    AnyAdmin, AnyForm = admin.ModelAdmin, ModelForm

Permission = Callable[..., bool]
SHOWN = "countersign.agent_token"  # from its making to the page that shows it, within one request


def never(*_: object, **__: object) -> bool:
    return False


class RecordAdmin(AnyAdmin):
    """Read-only: no row is added, changed or deleted here."""

    list_per_page = 50
    show_full_result_count = False
    date_hierarchy: ClassVar[str | None] = "created_at"
    has_add_permission: Permission = never
    has_change_permission: Permission = never
    has_delete_permission: Permission = never


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

    That needs ``research.change_campaign``. With the right to steer alone one sets how many proposals wait for people,
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


@admin.register(Incumbent)
class IncumbentAdmin(RecordAdmin):
    list_display = ("__str__", "campaign", "number", "commit", "proposal", "created_at")
    list_filter = ("campaign",)
    list_select_related = ("campaign", "proposal")
    search_fields = ("commit",)


@admin.register(Proposal)
class ProposalAdmin(RecordAdmin):
    list_display = ("id", "title", "arm", "state", "campaign", "wave", "source", "state_at", "created_at")
    list_display_links = ("id", "title")
    list_filter = ("state", "arm", "campaign")
    list_select_related = ("campaign", "wave")
    search_fields = ("=id", "title", "source")


@admin.register(Turn)
class TurnAdmin(RecordAdmin):
    list_display = ("campaign", "arm", "taken_at", "retry_at", "problem", "batch_problem")
    list_filter = ("arm", "campaign")
    list_select_related = ("campaign",)
    date_hierarchy = None


@admin.register(Wave)
class WaveAdmin(RecordAdmin):
    list_display = ("id", "campaign", "arm", "design", "model", "created_at")
    list_filter = ("arm", "campaign")
    list_select_related = ("campaign",)
    search_fields = ("design", "prompt_sha256", "templates_sha256")


@admin.register(Revision)
class RevisionAdmin(RecordAdmin):
    list_display = (
        "__str__",
        "incumbent",
        "effect_bpb",
        "low_bpb",
        "high_bpb",
        "chance_to_win",
        "digest",
        "created_at",
    )
    list_select_related = ("incumbent__campaign",)
    search_fields = ("=proposal__id", "hypothesis", "digest")


@admin.register(Gate)
class GateAdmin(RecordAdmin):
    list_display = ("id", "revision", "name", "outcome", "sentence", "seconds")
    list_filter = ("outcome", "name")
    list_select_related = ("revision",)
    search_fields = ("=revision__proposal__id", "sentence")
    date_hierarchy = None


@admin.register(Decision)
class DecisionAdmin(RecordAdmin):
    list_display = ("id", "revision", "choice", "category", "by", "digest", "created_at")
    list_filter = ("choice", "category", "by")
    list_select_related = ("revision", "by")
    search_fields = ("=revision__proposal__id", "reason", "digest")


@admin.register(Run)
class RunAdmin(RecordAdmin):
    list_display = (
        "id",
        "purpose",
        "seed",
        "state",
        "campaign",
        "revision",
        "worker",
        "attempt",
        "device_s",
        "created_at",
    )
    list_filter = ("state", "purpose", "campaign", "hardware_class")
    list_select_related = ("campaign", "revision", "worker")
    search_fields = ("=id", "=revision__proposal__id", "digest")
    exclude = ("token_sha256",)


@admin.register(ReportBatch)
class ReportBatchAdmin(RecordAdmin):
    list_display = ("id", "run", "seq", "attempt", "num_points", "created_at")
    list_select_related = ("run",)
    search_fields = ("=run__id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReportBatch]:
        batches: QuerySet[ReportBatch] = super().get_queryset(request)
        return batches.defer("body")


@admin.register(Score)
class ScoreAdmin(RecordAdmin):
    list_display = ("id", "run", "outcome", "val_bpb", "self_reported_bpb", "seconds", "created_at")
    list_filter = ("outcome",)
    list_select_related = ("run",)
    search_fields = ("=run__id",)


@admin.register(Verdict)
class VerdictAdmin(RecordAdmin):
    list_display = (
        "id",
        "revision",
        "outcome",
        "effect_bpb",
        "low_bpb",
        "high_bpb",
        "e_value",
        "num_pairs",
        "created_at",
    )
    list_filter = ("outcome", "crashed")
    list_select_related = ("revision",)
    search_fields = ("=revision__proposal__id", "reason")


@admin.register(Finding)
class FindingAdmin(RecordAdmin):
    list_display = ("id", "proposal", "kind", "text", "campaign", "created_at")
    list_filter = ("kind", "campaign")
    list_select_related = ("proposal", "campaign")
    search_fields = ("text",)


@admin.register(Note)
class NoteAdmin(RecordAdmin):
    list_display = ("id", "campaign", "text", "by", "created_at", "retired_at")
    list_filter = ("campaign",)
    list_select_related = ("campaign", "by")
    search_fields = ("text",)


@admin.register(AuditHead)
class AuditHeadAdmin(RecordAdmin):
    list_display = ("num_events", "sha256", "begun", "signature")
    date_hierarchy = None


@admin.register(LedgerEntry)
class LedgerEntryAdmin(RecordAdmin):
    list_display = ("id", "kind", "gpu_s", "usd", "campaign", "run", "created_at")
    list_filter = ("kind", "campaign")
    list_select_related = ("campaign", "run")
    search_fields = ("=run__id",)
    exclude = ("answer",)
    readonly_fields = ("what_came_back",)

    @admin.display(description="what came back", empty_value="–")
    def what_came_back(self, entry: LedgerEntry) -> str:
        """The response body as it came, with invisible characters written out, since others wrote it."""
        return visible(entry.answer)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        entries: QuerySet[LedgerEntry] = super().get_queryset(request)
        return entries.defer("answer")  # up to megabytes each, and no list shows them


@admin.register(Event)
class EventAdmin(RecordAdmin):
    list_display = ("id", "at", "kind", "by", "sentence", "campaign")
    list_filter = ("kind", "campaign")
    list_select_related = ("campaign",)
    search_fields = ("sentence", "by", "=proposal__id", "=run__id")
    ordering = ("-id",)
    date_hierarchy = "at"


@admin.register(LoginLink)
class LoginLinkAdmin(RecordAdmin):
    """A link that was sent to the wrong person can be deleted. Only its token's hash is stored."""

    list_display = ("user", "created_at", "expires_at", "used_at")
    list_select_related = ("user",)
    exclude = ("token_sha256",)

    has_delete_permission: Permission = AnyAdmin.has_delete_permission


class AgentTokenForm(AnyForm):
    days = forms.IntegerField(
        min_value=1, max_value=tokens.MAX_DAYS, initial=tokens.DAYS, help_text="Until it expires."
    )

    class Meta:
        model = AgentToken
        fields = ("name", "scope", "campaign")

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        try:
            tokens.check_name(name)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return name


@admin.register(AgentToken)
class AgentTokenAdmin(RecordAdmin):
    """The token is shown once, on the page after it is made."""

    form = AgentTokenForm
    list_display = ("name", "scope", "campaign", "standing", "last_used_at", "expires_at", "created_at")
    list_filter = ("scope", "campaign")
    list_select_related = ("campaign",)
    search_fields = ("name",)
    actions = ("replace", "revoke")
    has_add_permission: Permission = AnyAdmin.has_add_permission

    @admin.display
    def standing(self, token: AgentToken) -> str:
        if token.revoked_at:
            return f"Revoked {token.revoked_at:%d %b %Y}"
        return "Works" if token.expires_at > timezone.now() else "Expired"

    def get_fields(self, request: HttpRequest, obj: AgentToken | None = None) -> tuple[str, ...]:
        if obj is None:
            return ("name", "scope", "campaign", "days")
        return ("name", "scope", "campaign", "standing", "expires_at", "last_used_at", "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: AgentToken | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def save_model(self, request: HttpRequest, obj: AgentToken, form: ModelForm[AgentToken], change: bool) -> None:
        assert not change, "a token is replaced or revoked, not changed"
        said = form.cleaned_data
        request.META[SHOWN] = tokens.make(
            said["name"], campaign=said["campaign"], by=person(request), scope=said["scope"], days=said["days"]
        )
        obj.pk = AgentToken.objects.get(name=said["name"]).pk

    def response_add(self, request: HttpRequest, obj: AgentToken, *_: Any, **__: Any) -> HttpResponse:
        return self._show(request, obj, request.META[SHOWN])

    def _show(self, request: HttpRequest, row: AgentToken, token: str) -> HttpResponse:
        """Show the token in this response, without a redirect: a message would store it in a cookie or a session."""
        context = {
            **self.admin_site.each_context(request),
            "title": "The token, shown once",
            "row": row,
            "token": token,
        }
        response = TemplateResponse(request, "admin/agent_token.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Replace (the old token stops working)", permissions=["add"])
    def replace(self, request: HttpRequest, queryset: QuerySet[AgentToken]) -> HttpResponse | None:
        row = queryset.first()
        if row is None or queryset.count() != 1:
            self.message_user(request, "Choose exactly one token to replace.", messages.ERROR)
            return None
        token = tokens.make(row.name, campaign=row.campaign, by=person(request), scope=row.scope)
        return self._show(request, row, token)

    @admin.action(description="Revoke", permissions=["add"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[AgentToken]) -> None:
        for row in queryset:
            try:
                tokens.revoke(row, by=person(request))
            except ValueError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"The token of {row} is revoked.", messages.SUCCESS)
