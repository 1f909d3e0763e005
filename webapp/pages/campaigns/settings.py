"""``/campaigns/SLUG/settings/``: what may be changed of a campaign, what that makes stale, its Programs, clone."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.forms.models import model_to_dict
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from research.begin import consequences, forecast
from research.models import Campaign, Program
from research.record import campaigns, rights
from research.record.rights import Right
from webapp.beginning.form import CampaignForm, tidy
from webapp.beginning.shown import FIXED
from webapp.pages.access import campaign_for, person, reader
from webapp.pages.forms import CloneForm

MAX_PROGRAMS = 50
CONTEXT_LINES = 2


@require_http_methods(["GET", "HEAD", "POST"])
@reader
def settings(request: HttpRequest, slug: str) -> HttpResponse:
    """Set what may be set; a change that makes something stale asks once more."""
    chosen = campaign_for(person(request), slug)
    form = _form(request, chosen)
    if request.method == "POST" and not form.fields:
        rights.check(person(request), rights.set_pace, chosen)
    said: list[str] = []
    if request.method == "POST" and form.is_valid():
        wanted = form.changed
        said = consequences.of(chosen, wanted)
        if not said or "knowingly" in request.POST:
            campaigns.change(campaign_for(person(request), slug), by=person(request), **wanted)
            messages.success(request, f"Set: {', '.join(_in_words(wanted))}" if wanted else "Nothing was changed")
            return redirect("campaign-settings", slug)
    context = _context(request, chosen, form) | {"consequences": said}
    return render(request, "campaigns/settings.html", context, status=422 if form.errors else 409 if said else 200)


@require_POST
@reader
def costs(request: HttpRequest, slug: str) -> HttpResponse:
    """What the numbers in the form will cost, and what they make stale."""
    chosen = campaign_for(person(request), slug)
    form = _form(request, chosen)
    form.is_valid()
    said = {"consequences": consequences.of(chosen, form.changed), "costs": _sentences(chosen, form)}
    return render(request, "campaigns/_costs.html", said)


@require_safe
@reader
def program(request: HttpRequest, slug: str) -> HttpResponse:
    """``/campaigns/SLUG/program/``: every Program it had, who wrote it, and what changed."""
    chosen = campaign_for(person(request), slug)
    context = {"section": "campaigns", "campaign": chosen, "programs": _programs(chosen)}
    return render(request, "campaigns/program.html", context)


@require_POST
@reader
def clone(request: HttpRequest, slug: str) -> HttpResponse:
    """``POST /campaigns/SLUG/clone/``: the same settings on the present incumbent, planned."""
    chosen = campaign_for(person(request), slug)
    form = CloneForm(request.POST)
    if form.is_valid():
        try:
            made = campaigns.clone(chosen, by=person(request), **form.cleaned_data)
        except ValueError as error:
            form.take(error)
        else:
            messages.success(request, f"{made.name} is planned: check it, then start it")
            return redirect("campaign-check", made.slug)
    context = _context(request, chosen, _form(request, chosen, unbound=True)) | {"clone_form": form}
    return render(request, "campaigns/settings.html", context, status=422)


# --- the form ------------------------------------------------------------------------------------


def _form(request: HttpRequest, chosen: Campaign, *, unbound: bool = False) -> CampaignForm:
    """With the fields that the reader may not set left out; ``chosen`` itself is not written to."""
    of_it = Campaign.objects.get(pk=chosen.pk)
    given: dict[str, Any] | None = None
    if request.method == "POST" and not unbound:  # a field that the page did not send stays as it is
        kept = {name: value for name, value in tidy(model_to_dict(of_it)).items() if value is not None}
        given = kept | request.POST.dict()
    form = CampaignForm(given, instance=of_it, initial=tidy(model_to_dict(of_it)))
    for name in list(form.fields):
        right: Right[Campaign] = rights.set_pace if name in campaigns.PACE else rights.set_policy
        if not rights.may(person(request), right, chosen):
            del form.fields[name]
    return form


def _context(request: HttpRequest, chosen: Campaign, form: CampaignForm) -> dict[str, object]:
    fixed = [(name.replace("_", " "), getattr(chosen, name)) for name in FIXED]
    return {
        "section": "campaigns",
        "campaign": chosen,
        "form": form,
        "costs": forecast.sentences(chosen) if not form.is_bound else _sentences(chosen, form),
        "fixed": [(name, value) for name, value in fixed if value not in ("", None)],
        "num_programs": chosen.programs.count(),
        "can_begin": rights.may(person(request), rights.begin, None),
        "clone_form": CloneForm(initial={"slug": f"{chosen.slug[:44]}-2", "name": f"{chosen.name}, again"[:120]}),
    }


def _sentences(chosen: Campaign, form: CampaignForm) -> dict[str, str]:
    tried = Campaign.objects.get(pk=chosen.pk)
    for name, value in form.cleaned_data.items():
        setattr(tried, name, value)
    return forecast.sentences(tried)


def _in_words(wanted: dict[str, object]) -> list[str]:
    return [name.replace("_", " ") for name in wanted]


# --- Programs -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Written:
    """One Program, and the lines by which it differs from the one before: (kind, text), kind add, del or same."""

    program: Program
    lines: list[tuple[str, str]]


def _programs(chosen: Campaign) -> list[Written]:
    """The newest first; each with its difference from the one before, the first one whole."""
    rows = list(chosen.programs.select_related("by").order_by("number"))
    if not rows:
        rows = [Program(campaign=chosen, number=0, text=chosen.program, by=chosen.created_by)]
    before = ["", *(row.text for row in rows)]
    told = [Written(program=row, lines=_difference(old, row.text)) for old, row in zip(before, rows, strict=False)]
    return told[::-1][:MAX_PROGRAMS]


def _difference(old: str, new: str) -> list[tuple[str, str]]:
    kinds = {"+": "add", "-": "del", " ": "same"}
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=CONTEXT_LINES)
    return [(kinds[line[0]], line[1:]) for line in list(lines)[2:] if line[0] in kinds]
