"""``/campaigns/new/``: begin a campaign, with what it will cost beside the form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from gpu_runner import contract
from research.begin import datasets, forecast
from research.models import Campaign
from research.record import recipe_source, rights
from webapp.beginning.form import BeginForm, filled, of_recipe, tidy
from webapp.pages.access import person, reader

# What the page's recipe says anew each time that it is read; the rest stays as it was typed.
OF_THE_RECIPE = ("run_budget_kind", "run_budget_amount", "deadline_s", "metric", "metric_unit", "direction")
MAX_FACTS = 8


@require_http_methods(["GET", "HEAD", "POST"])
@reader
def new(request: HttpRequest) -> HttpResponse:
    """A form with defaults; read the recipe again, make the campaign, or make and start it."""
    rights.check(person(request), rights.begin, None)
    if request.method != "POST" or "read" in request.POST:
        form = BeginForm(initial=_initial((request.POST or request.GET).dict()))
        return _drawn(request, form, form.initial)
    form = BeginForm(filled(request.POST.dict()))
    if form.is_valid():
        starts = "start" in request.POST
        campaign = form.begin(by=person(request), starts=starts)
        if campaign is not None:
            messages.success(request, f"{campaign.name} {'began' if starts else 'is planned: check it, then start it'}")
            return redirect("campaign" if starts else "campaign-check", campaign.slug)
    return _drawn(request, form, request.POST.dict())


@require_POST
@reader
def costs(request: HttpRequest) -> HttpResponse:
    """What the numbers in the form will cost, in words."""
    rights.check(person(request), rights.begin, None)
    form = BeginForm(filled(request.POST.dict(), reads_recipe=False))
    said = _sentences(form, str(request.POST.get("read_name", "")))
    return render(request, "campaigns/_costs.html", {"costs": said})


def _initial(typed: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in the form: what was typed, and the recipe's own words on what is a recipe's to say."""
    kept = {name: value for name, value in typed.items() if name in BeginForm.base_fields}
    if "read" in typed:
        kept = {name: value for name, value in kept.items() if name not in OF_THE_RECIPE}
    return tidy(filled(kept))


def _drawn(request: HttpRequest, form: BeginForm, typed: Mapping[str, Any]) -> HttpResponse:
    recipe = _Read(str(typed.get("recipe") or ""), str(typed.get("recipe_commit") or ""))
    context = {
        "section": "campaigns",
        "form": form,
        "recipe": recipe,
        "shipped": recipe_source.names(),
        "classes": sorted(set(datasets.here().values_list("hardware_class", flat=True)) - {""}),
        "known": [one for one in datasets.known() if one.workers],
        "costs": _sentences(BeginForm(filled(typed, reads_recipe=False)), recipe.name),
    }
    return render(request, "campaigns/begin.html", context, status=422 if form.errors else 200)


def _sentences(form: BeginForm, recipe_name: str) -> dict[str, str]:
    """By setting; what is typed wrong counts as the default until it is mended."""
    form.is_valid()
    settings = {field.name for field in Campaign._meta.concrete_fields} - {"recipe", "id"}
    usable = {name: value for name, value in form.cleaned_data.items() if name in settings}
    usable = {"run_budget_amount": 1.0} | usable | {"recipe": recipe_name}
    return forecast.sentences(Campaign(**usable)) if form.cleaned_data.get("run_budget_amount") else {}


class _Read:
    """What the page says of the recipe that was named."""

    def __init__(self, where: str, at: str) -> None:
        self.problem, self.name, self.facts, self.remarks = "", "", dict[str, str](), tuple[str, ...]()
        try:
            with recipe_source.opened(where, at) as source:
                self._take(source)
        except ValueError as error:
            self.problem = str(error).partition(": ")[2] or str(error)

    def _take(self, source: recipe_source.Source) -> None:
        recipe: contract.Recipe = source.recipe
        self.name, self.about, self.remarks = source.name, recipe.about, source.remarks
        self.facts = {
            "Is": "trained by its own command" if recipe.kind == "command" else "trained by the harness",
            "Number": "self-reported by the trainer" if recipe.is_self_reported else "measured by the trusted scorer",
            "Claude edits": _first(recipe.editable) or "nothing: it only turns knobs",
            "Knobs": _first(knob.key for knob in recipe.knobs) or "none: it only edits files",
            "Files": f"{len(source.entries):,}, {source.num_bytes / 1e6:,.2f} MB",
        } | ({"Commit": source.commit[:10]} if source.commit else {})
        self.says = of_recipe(recipe)


def _first(names: Iterable[str]) -> str:
    """As many as fit on a line or two."""
    all_of_them = list(names)
    return ", ".join(all_of_them[:MAX_FACTS]) + (" …" if all_of_them[MAX_FACTS:] else "")
