"""The start page: leads to what waits for the reader."""

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
    """Counts and budget of the frame, fetched again when something changed. ``at`` is the marked section."""
    return render(request, "_navigation.html", {"section": request.GET.get("at", "")})
