"""The admin panel: whoever saves something in it is who the event names."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponseBase

from research import events

if TYPE_CHECKING:
    from django.contrib.admin.sites import _ViewType as View


class Panel(AdminSite):
    """Every page of it, of Django's own models, too."""

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        @wraps(view)
        def named(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            with events.acting(f"user:{request.user}"):
                return view(request, *args, **kwargs)

        return super().admin_view(cast("View", named), cacheable)
