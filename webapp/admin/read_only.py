"""What every list of the panel begins with: rows that are looked at and not touched."""

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

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]  # generic in the stubs only
    AnyForm = ModelForm[Any]
else:
    AnyAdmin, AnyForm = admin.ModelAdmin, ModelForm

Permission = Callable[..., bool]

def never(*_: object, **__: object) -> bool:
    return False


class RecordAdmin(AnyAdmin):
    """Look, do not touch: no row is added, changed or deleted here."""

    list_per_page = 50
    show_full_result_count = False
    date_hierarchy: ClassVar[str | None] = "created_at"
    has_add_permission: Permission = never
    has_change_permission: Permission = never
    has_delete_permission: Permission = never
