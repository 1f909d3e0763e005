"""Views of a campaign's past experiments: what was imported, a preview, the import, one experiment."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from research.lifecycle import LostRace
from research.models import Campaign, PastExperiment
from research.propose import histories
from research.record import rights
from webapp.drawing import diffs
from webapp.pages.access import campaign_for, person, reader
from webapp.pages.errors import lost_race
from webapp.pages.history.history_page import HistoryPage
from webapp.pages.history.preview import Preview
from webapp.pages.history.upload import HeldForm, UploadForm, packed, reading_of
from webapp.templatetags.shown import plural

A_PAGE = 50


@require_safe
@reader
def history(request: HttpRequest, slug: str) -> HttpResponse:
    return _history(request, campaign_for(person(request), slug), UploadForm())


@require_POST
@reader
def read(request: HttpRequest, slug: str) -> HttpResponse:
    """``POST /campaigns/SLUG/history/read/``: what an uploaded table holds. Nothing is kept."""
    chosen = campaign_for(person(request), slug)
    rights.check(person(request), rights.import_history, chosen)
    if "held" in request.POST:
        held = HeldForm(request.POST)
        if held.is_valid():
            return _preview(request, chosen, held.cleaned_data | {"body": held.cleaned_data["held"]})
        return _history(request, chosen, UploadForm(), problem=_first_error(held))
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return _history(request, chosen, form)
    file = form.cleaned_data["file"]
    about = {"kind": form.cleaned_data["kind"], "name": file.name or "table", "body": file.read(), "direction": ""}
    return _preview(request, chosen, about)


@require_POST
@reader
def bring(request: HttpRequest, slug: str) -> HttpResponse:
    """``POST /campaigns/SLUG/history/import/``: imports the table that the preview showed, as it showed it."""
    chosen, form = campaign_for(person(request), slug), HeldForm(request.POST)
    if not form.is_valid():
        return _history(request, chosen, UploadForm(), problem=_first_error(form))
    said = form.cleaned_data
    try:
        reading = reading_of(chosen, said["kind"], said["held"], said["name"], request.POST, said["direction"])
        made = histories.bring(chosen, reading, by=person(request))
    except ValueError as error:
        return _preview(request, chosen, said | {"body": said["held"]}, problem=str(error))
    messages.success(request, f"{plural(made.num_mapped, 'past experiment')} imported from {made.source}")
    return redirect("history", slug)


@require_POST
@reader
def archive(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """``POST /campaigns/SLUG/history/imports/7/archive/``: takes an import out of every prompt."""
    chosen = campaign_for(person(request), slug)
    try:
        made = histories.archive(chosen, pk, by=person(request))
    except LostRace as race:
        return lost_race(request, str(race), reverse("history", args=[slug]))
    messages.success(request, f"{made.source} is archived; nobody is told of it any more")
    return redirect("history", slug)


@require_safe
@reader
def experiment(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """``/campaigns/SLUG/history/12/``: one past experiment, with the diff of its commit."""
    chosen = campaign_for(person(request), slug)
    rows = PastExperiment.objects.select_related("imported__by", "parent__imported")
    row = get_object_or_404(rows, imported__campaign=chosen, number=number)
    context = {
        "section": "campaigns",
        "campaign": chosen,
        "x": row,
        "gain": histories.gain_of(row),
        "files": diffs.parse(row.patch),
        "children": row.children.order_by("number")[:50],
    }
    return render(request, "history/experiment.html", context)


# --- pages ----------------------------------------------------------------------------------------


def _history(request: HttpRequest, chosen: Campaign, form: UploadForm, problem: str = "") -> HttpResponse:
    page = HistoryPage(chosen)
    context = {
        "section": "campaigns",
        "campaign": chosen,
        "s": page,
        "rows": Paginator(page.rows, A_PAGE).get_page(request.GET.get("page")),
        "form": form,
        "problem": problem,
        "may_import": rights.may(person(request), rights.import_history, chosen),
    }
    return render(request, "history/history.html", context, status=422 if form.errors or problem else 200)


def _preview(request: HttpRequest, chosen: Campaign, about: dict[str, Any], problem: str = "") -> HttpResponse:
    """The preview. With a mapping that cannot be, it is shown without, and says so; what is no table goes back."""
    kind, body, name = about["kind"], about["body"], about["name"]
    posted, direction = request.POST, about["direction"]
    try:
        reading = reading_of(chosen, kind, body, name, posted, direction)
    except ValueError as error:
        problem = str(error)
        try:
            reading = reading_of(chosen, kind, body, name, {}, "")
        except ValueError as unreadable:
            return _history(request, chosen, UploadForm(), problem=str(unreadable))
    context = {
        "section": "campaigns",
        "campaign": chosen,
        "s": Preview(chosen, reading),
        "held": packed(body),
        "direction": direction,
        "problem": problem,
    }
    return render(request, "history/preview.html", context, status=422 if problem else 200)


def _first_error(form: HeldForm) -> str:
    return next(str(sentence) for sentences in form.errors.values() for sentence in sentences)
