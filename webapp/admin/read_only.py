"""What every list of the panel begins with: rows that are looked at and not touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.forms import ModelForm

if TYPE_CHECKING:
    AnyAdmin = admin.ModelAdmin[Any]  # generic in the stubs only
    AnyForm = ModelForm[Any]
else:
    AnyAdmin, AnyForm = admin.ModelAdmin, ModelForm

Permission = Callable[..., bool]


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
