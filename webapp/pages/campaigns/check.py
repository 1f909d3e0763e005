"""``/campaigns/SLUG/check/``: can it run? Each line green or with its way out, and pushed while the few steps run."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from research.begin import checklist, forecast
from research.lifecycle import LostRace
from research.record import rights
from webapp.pages.access import campaign_for, is_fragment, person, reader
from webapp.pages.errors import lost_race


@require_http_methods(["GET", "HEAD", "POST"])
@reader
def check(request: HttpRequest, slug: str) -> HttpResponse:
    """The lines; a POST queues the few steps."""
    chosen = campaign_for(person(request), slug)
    if request.method == "POST":
        try:
            tried = checklist.try_out(chosen, by=person(request))
        except LostRace as race:
            return lost_race(request, str(race), reverse("campaign", args=[slug]))
        messages.success(request, f"R-{tried.pk} tries a few steps, as soon as a worker takes it")
        return redirect("campaign-check", slug)
    lines = checklist.lines(chosen)
    context = {
        "section": "campaigns",
        "campaign": chosen,
        "lines": lines,
        "is_green": checklist.is_green(lines),
        "is_running": any(line.light == "running" for line in lines),
        "can_try": rights.may(person(request), rights.try_out, chosen),
        "night": forecast.sentences(chosen)["night"],
    }
    return render(request, "campaigns/_check.html" if is_fragment(request) else "campaigns/check.html", context)
