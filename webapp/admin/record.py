"""The record as it stands, row by row."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from research.change.visible import visible
from research.models import (
    AuditHead,
    Decision,
    Event,
    Finding,
    Gate,
    Import,
    Incumbent,
    LedgerEntry,
    Note,
    PastExperiment,
    Proposal,
    ReportBatch,
    Revision,
    Run,
    Score,
    Turn,
    Verdict,
    Wave,
)
from webapp.admin.read_only import RecordAdmin


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


@admin.register(Import)
class ImportAdmin(RecordAdmin):
    list_display = ("id", "campaign", "kind", "source", "num_mapped", "num_refused", "by", "created_at", "archived_at")
    list_filter = ("campaign", "kind")
    list_select_related = ("campaign", "by")
    search_fields = ("source", "sha256")


@admin.register(PastExperiment)
class PastExperimentAdmin(RecordAdmin):
    list_display = ("number", "title", "outcome", "value", "commit", "imported")
    list_filter = ("outcome", "imported__campaign")
    list_select_related = ("imported__campaign",)
    search_fields = ("=number", "title", "commit")
    date_hierarchy = None


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
