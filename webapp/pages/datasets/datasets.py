"""``/datasets/`` and ``/datasets/NAME/``: what there is to train on, and which workers have it."""

from __future__ import annotations

from itertools import groupby

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from research.begin import catalogue
from webapp.pages.access import is_fragment, reader
from webapp.pages.datasets.dataset_page import Shown, clash_of


@require_safe
@reader
def datasets(request: HttpRequest) -> HttpResponse:
    """One row for each manifest: a name may stand for different ones."""
    rows = [Shown(entry) for entry in catalogue.entries()]
    by_name = {name: list(group) for name, group in groupby(rows, key=lambda row: row.entry.name)}
    clashes = {name: clash for name, group in by_name.items() if (clash := clash_of(group))}
    context = {"section": "datasets", "rows": rows, "clashes": clashes}
    return render(request, "datasets/_datasets.html" if is_fragment(request) else "datasets/datasets.html", context)


@require_safe
@reader
def dataset(request: HttpRequest, name: str) -> HttpResponse:
    """Every manifest of one name, whole."""
    rows = [Shown(entry) for entry in catalogue.entries(name)]
    if not rows:
        raise Http404(f"No worker has a dataset {name}, and no campaign uses one.")
    context = {"section": "datasets", "name": name, "rows": rows, "clash": clash_of(rows)}
    return render(request, "datasets/_dataset.html" if is_fragment(request) else "datasets/dataset.html", context)
