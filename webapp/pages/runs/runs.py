"""Views of runs: live, queued and finished ones; one run; stopping it; deciding on its score."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from research import lifecycle
from research.lifecycle import IllegalMove, LostRace
from research.models import Run
from research.review.quarantined import resolve
from research.runs import ending
from webapp.pages.access import is_fragment, person, reader, run_for
from webapp.pages.errors import lost_race
from webapp.pages.forms import SettleForm, StopForm
from webapp.pages.runs.logbook import Logbook

A_PAGE = 40


@require_safe
@reader
def runs(request: HttpRequest) -> HttpResponse:
    rows = Run.objects.select_related("campaign", "incumbent", "worker", "revision__proposal", "score")
    over = rows.filter(state__in=lifecycle.RUN_OVER).order_by("-ended_at", "-pk")
    context: dict[str, Any] = {
        "section": "runs",
        "live": rows.filter(state__in=lifecycle.RUN_LIVE).order_by("pk"),
        "queued": rows.filter(state__in=("queued", "lost")).order_by("rank", "pk"),
        "over": Paginator(over, A_PAGE).get_page(request.GET.get("page")),
    }
    return render(request, "runs/_runs.html" if is_fragment(request) else "runs/runs.html", context)


@require_safe
@reader
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """One run. Curves and log come over the socket or ``points.json``; facts are in the page, in two fragments."""
    return _page(request, pk)


def _page(request: HttpRequest, pk: int, *, form: SettleForm | None = None, status: int = 200) -> HttpResponse:
    """The run's page; ``form`` is a refused one, with what was typed."""
    book = Logbook(run_for(person(request), pk))
    template = "runs/run.html"
    if is_fragment(request):
        template = "runs/_side.html" if request.headers.get("HX-Target") == "div#side" else "runs/_run.html"
    context = {
        "section": "runs",
        "book": book,
        "run": book.run,
        "form": form or SettleForm(),
        "may_settle": book.may_settle(person(request)),
    }
    return render(request, template, context, status=status)


@require_POST
@reader
def score(request: HttpRequest, pk: int) -> HttpResponse:
    """``POST /runs/7/score/``: accepts or disputes a quarantined score."""
    chosen, form = run_for(person(request), pk), SettleForm(request.POST)
    if not form.is_valid():
        return _page(request, pk, form=form, status=422)
    try:
        resolved = resolve(chosen.pk, by=person(request), **form.cleaned_data)
    except LostRace as race:
        return lost_race(request, str(race), reverse("run", args=[pk]))
    except ValueError as error:
        form.take(error)
        return _page(request, pk, form=form, status=422)
    if is_fragment(request):
        return _page(request, pk)  # says itself what was decided
    messages.success(request, f"The score of R-{pk} is {resolved.outcome}")
    return redirect("run", pk)


@require_POST
@reader
def stop(request: HttpRequest, pk: int) -> HttpResponse:
    chosen = run_for(person(request), pk)
    form = StopForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    words = reason or f"stopped by {person(request).get_username()}"
    try:
        ending.stop_run(chosen, kind=lifecycle.Stop.PERSON, by=person(request), reason=words)
    except (LostRace, IllegalMove) as race:
        return lost_race(request, str(race), reverse("run", args=[pk]))
    messages.success(request, f"R-{pk} is told to stop")
    return redirect("run", pk)
