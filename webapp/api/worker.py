"""The worker API: claim, report, end. Bearer tokens only; JSON parsed strictly by the contract."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from pydantic import ValidationError

from gpu_runner import contract
from research.models import Campaign, Run, Worker
from research.record import approval, events, kinds, repository, rights
from research.runs import leasing, report, workers
from webapp.api.bearer import Refused, bearer, sentence_of, wrong_token

log = logging.getLogger(__name__)
MAX_BODY = 2 * 2**20
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it; PostgreSQL keeps it in no text
View = Callable[..., HttpResponse]


def _spoken(view: View) -> View:
    """Wraps a view: answers every refusal with a code and one sentence that names the field."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Refused as refused:
            return _refusal(refused)
        except report.WrongToken as wrong:
            return _refusal(wrong_token(request, str(wrong)))
        except report.Superseded as superseded:
            return JsonResponse({"error": str(superseded)}, status=409)
        except ValidationError as error:
            return JsonResponse({"error": sentence_of(error)}, status=400)

    return csrf_exempt(answer)


def _refusal(refused: Refused) -> JsonResponse:
    return JsonResponse({"error": str(refused)}, status=refused.code, headers=refused.headers)


def _worker(request: HttpRequest) -> Worker:
    """The worker that holds this token. 401 unknown, 403 switched off."""
    worker = Worker.objects.filter(token_sha256=contract.sha256(bearer(request).encode())).first()
    if worker is None:
        raise wrong_token(request, "no worker has this token; make one with `manage.py worker NAME`")
    if not worker.enabled:
        raise Refused(403, f"{worker.name} is switched off in the admin panel")
    return worker


def _body(request: HttpRequest, kind: type[contract.W]) -> contract.W:
    if len(request.body) > MAX_BODY:
        raise Refused(400, f"body: {len(request.body):,} bytes; at most {MAX_BODY:,}")
    if NUL.search(request.body):
        raise Refused(400, "body: a text holds the character NUL, which the record cannot keep; send it without")
    return contract.parse(kind, request.body)


@require_POST
@_spoken
def hello(request: HttpRequest) -> HttpResponse:
    worker, said = _worker(request), _body(request, contract.Hello)
    facts = {
        "hardware_class": said.hardware_class,
        "sandbox_level": said.sandbox_level,
        "lock_sha256": said.lock_sha256,
        "environments": said.environments,
    }
    with transaction.atomic():
        now = timezone.now()
        Worker.objects.filter(pk=worker.pk).update(hardware=said.hardware, datasets=said.datasets, seen_at=now, **facts)
        workers.describe(worker, said.summaries)
        sentence = f"{worker.name} is here: {said.hardware_class}, sandbox {said.sandbox_level}"
        events.record(kinds.WORKER_HELLO(worker=worker.pk), sentence, by=rights.worker(worker))
    return JsonResponse(
        {"worker": worker.pk, "datasets": dict(Campaign.objects.values_list("dataset", "dataset_sha256"))}
    )


@require_POST
@_spoken
def claim(request: HttpRequest) -> HttpResponse:
    worker, wanted = _worker(request), _body(request, contract.Claim)
    if wanted.lock_sha256 != approval.lock_sha256():  # it would take runs only to refuse them
        raise Refused(403, f"{worker.name} is installed from another constraints.txt: check out the web side's commit")
    Worker.objects.filter(pk=worker.pk).update(seen_at=timezone.now())
    lease = leasing.claim(worker, wanted)
    return HttpResponse(status=204) if lease is None else _json(lease)


@require_GET
@_spoken
def source(request: HttpRequest, run_id: int) -> HttpResponse:
    run = report.leased(run_id, bearer(request))
    return HttpResponse(repository.bundle(run.campaign, run.incumbent.commit), content_type="application/octet-stream")


def _from_lease(kind: type[contract.W], verb: Callable[[Run, contract.W], contract.Order]) -> View:
    """A POST under a lease: parse it, find the lease by its token, call the verb, answer with the order."""

    @require_POST
    @_spoken
    def view(request: HttpRequest, run_id: int) -> HttpResponse:
        run = report.leased(run_id, bearer(request))
        order = verb(run, _body(request, kind))
        Worker.objects.filter(runs=run).update(seen_at=timezone.now())
        return _json(order)

    return view


def _json(answer: contract.Wire) -> HttpResponse:
    return HttpResponse(answer.model_dump_json(), content_type="application/json")


urlpatterns = [
    path("hello", hello, name="hello"),
    path("claim", claim, name="claim"),
    path("runs/<int:run_id>/source", source, name="source"),
    path("runs/<int:run_id>/report", _from_lease(contract.Report, report.accept), name="report"),
    path(
        "runs/<int:run_id>/beat",
        _from_lease(contract.Beat, lambda run, beat: report.beat(run, beat.fence)),
        name="beat",
    ),
    path("runs/<int:run_id>/end", _from_lease(contract.RunEnd, report.end), name="end"),
]
