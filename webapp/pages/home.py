"""The way in: straight to what waits for a person."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from webapp.pages.access import reader


@require_safe
@reader
def home(request: HttpRequest) -> HttpResponse:
    return redirect("review")


@require_safe
@reader
def navigation(request: HttpRequest) -> HttpResponse:
    """The frame's counts and budget, refetched when something changed. ``at`` is the section that stays marked."""
    return render(request, "_navigation.html", {"section": request.GET.get("at", "")})
