"""A run's measurements over HTTP: the socket's frame as JSON, and everything as CSV."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Callable
from functools import wraps
from typing import Any

from channels.db import database_sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from research.models import Run
from research.record.rights import is_member
from research.runs.points import read_batches
from webapp.live import frames

CSV_BATCHES = 200  # read at a time
View = Callable[..., HttpResponseBase]


def _watchers_only(view: View) -> View:
    """As for sockets: 401 and 403 as JSON, since a redirect to the login page would be parsed as points."""

    @wraps(view)
    def guarded(request: HttpRequest, run_id: int) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _refusal(401, "Log in first.")
        if not is_member(request.user):
            return _refusal(403, "You may not see runs. An administrator can allow it.")
        if run_id >= 2**63 or not Run.objects.filter(pk=run_id).exists():
            return _refusal(404, f"There is no run {run_id}.")
        return view(request, run_id)

    return guarded


def _refusal(code: int, sentence: str) -> JsonResponse:
    return JsonResponse({"error": sentence}, status=code)


@require_safe
@never_cache
@_watchers_only
def run_points(request: HttpRequest, run_id: int) -> HttpResponse:
    """``?since=SEQ`` (0 without): the same frame as the socket's. 400 when since is no whole number."""
    since = request.GET.get("since", "0")
    if not (since.isascii() and since.isdigit() and len(since) < 19):
        return _refusal(400, f"since: must be a whole number, not {since[:40]!r}.")
    frame = frames.run_frame(run_id, int(since))
    return HttpResponse(frames.as_json(frame), content_type="application/json")


@require_safe
@never_cache
@_watchers_only
def run_csv(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """Every point of every attempt, one row each; a metric not taken at a step is an empty cell."""
    return StreamingHttpResponse(
        _csv_rows(run_id),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="R-{run_id}.csv"'},
    )


async def _csv_rows(run_id: int) -> AsyncIterator[str]:
    """Two passes in bounded memory, since a metric may first appear in the last batch and the header comes first."""
    names: dict[str, None] = {}
    async for _, points in _all_points(run_id):
        names.update(dict.fromkeys(points["metrics"]))
    line = _Line()
    yield line.write(["attempt", "step", "tokens", "elapsed_s", *names])
    async for attempt, points in _all_points(run_id):
        empty = [None] * len(points["step"])
        columns = [points["metrics"].get(name, empty) for name in names]
        rows = zip(points["step"], points["tokens"], points["elapsed_s"], *columns, strict=True)
        yield "".join(line.write([attempt, *row]) for row in rows)


async def _all_points(run_id: int) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    read = database_sync_to_async(read_batches)
    since = 0
    while batches := await read(run_id, since, CSV_BATCHES):
        for since, attempt, body in batches:  # noqa: B007 - the last seq is where the next read starts
            if body["points"] is not None:
                yield attempt, body["points"]


class _Line:
    """A file for csv.writer that hands each row back. None becomes an empty cell."""

    def __init__(self) -> None:
        self._writer = csv.writer(self)

    def write(self, row: Any) -> Any:
        return row if isinstance(row, str) else self._writer.writerow(row)
