"""mallory has a worker's token and speaks the wire herself: no code of ours cleaned what she says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.serializers.json import DjangoJSONEncoder
from django.test import Client

from gpu_runner import contract
from research.arms.claude import prompt
from research.gates import process
from research.loop import tasks
from research.models import Campaign, Run, Score, Worker
from research.propose import briefing
from research.record import approval
from research.record.rights import COMMAND_LINE
from research.runs import dispatch, workers
from research.runs.points import read_batches
from tests import builders
from tests.api.worker import lease_one
from webapp.notify.models import KINDS, Delivery, Endpoint

pytestmark = pytest.mark.django_db(transaction=True)

# Terminal escapes, a C1 control, bidi, zero-width, separators that break lines, fillers, a tag and a selector.
HIDDEN = "\x1b\x07\x85\x9b\u202e\u2066\u200b\u2060\ufeff\u2028\u2029\u115f\u3164\u00ad\u180f\U000e0041\U000e0101\ue000"
HOSTILE = f"fine{HIDDEN}\x1b[2J\x1b]0;title\x07word"


@pytest.fixture
def token() -> str:
    return workers.enrol("box", by=COMMAND_LINE)


@pytest.fixture
def superuser(alice: User) -> User:
    alice.is_superuser = True
    alice.save()
    return alice


class Mallory:
    """A worker's side of the wire, by hand."""

    def __init__(self, client: Client, token: str) -> None:
        self.client, self.token = client, token

    def says(self, path: str, body: object, token: str = "") -> Any:
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        told = {"authorization": f"Bearer {token or self.token}"}
        return self.client.post(f"/api/worker/{path}", text, content_type="application/json", headers=told)

    def hello(self, **over: Any) -> Any:
        machine = {"hardware_class": "cpu-x86_64", "sandbox_level": "bubblewrap", "lock_sha256": approval.lock_sha256()}
        return self.says("hello", {"name": "box", "hardware": {HOSTILE: HOSTILE}} | machine | over)

    def report(self, lease: contract.Lease, **over: Any) -> Any:
        batch = {"fence": lease.spec.fence, "seq": lease.spec.next_seq, "phase": "training"}
        return self.says(f"runs/{lease.spec.run_id}/report", batch | over, lease.token)

    def end(self, lease: contract.Lease, **over: Any) -> Any:
        last = {"fence": lease.spec.fence, "device_s": 1.0} | over
        answer = self.says(f"runs/{lease.spec.run_id}/end", last, lease.token)
        tasks.run_ended(lease.spec.run_id)
        return answer


@pytest.fixture
def mallory(client: Client, token: str) -> Mallory:
    return Mallory(client, token)


def everything_kept() -> str:
    """Every field of every row, and what is compressed in them."""
    models = [model for name in ("research", "notify") for model in apps.get_app_config(name).get_models()]
    rows = [row for model in models for row in model._default_manager.values()]
    batches = [read_batches(run.pk, 0, 100) for run in Run.objects.all()]
    return json.dumps([rows, batches], cls=Encoder, ensure_ascii=False)


class Encoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        return "" if isinstance(o, bytes | memoryview) else super().default(o)


def hidden_in(text: str) -> set[str]:
    escaped = json.dumps(HIDDEN)[1:-1].replace("\\u", " \\u").split()  # as JSON with ASCII only would write them
    return {c for c in HIDDEN if c in text} | {code for code in escaped if code in text.lower()}


def smoke_run(mallory: Mallory, campaign: Campaign) -> contract.Lease:
    process.check(builders.make_proposal(campaign).revision)
    return lease_one(mallory.client, mallory.token)


STARTED = {"device_name": HOSTILE, HOSTILE: [HOSTILE], "knobs": {HOSTILE: HOSTILE}}
FAILURE = {"kind": "recipe_error", "message": f"{HOSTILE}\nlast line", "todo": HOSTILE}


def test_what_hides_is_kept_nowhere_and_shown_nowhere(
    mallory: Mallory, campaign: Campaign, superuser: User, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    Endpoint.objects.create(description="Tracker", url="https://tracker.example/", kinds=list(KINDS))
    assert mallory.hello().status_code == 200
    lease = smoke_run(mallory, campaign)
    log = [{"at_s": 0.5, "level": "error", "text": HOSTILE}]
    assert mallory.report(lease, log=log, started=STARTED).status_code == 200
    assert mallory.end(lease, outcome="failed", failure=FAILURE).status_code == 200
    dispatch.advance(campaign)
    baseline = lease_one(client, mallory.token)
    score = {
        "val_bpb": None,
        "outcome": "failed",
        "reasons": [HOSTILE],
        "provenance": {HOSTILE: HOSTILE},
        "seconds": 1.0,
    }
    assert mallory.end(baseline, outcome="finished", score=score).status_code == 200

    run = Run.objects.get(pk=lease.spec.run_id)
    assert (run.started["device_name"], run.failure["todo"]) == ("fine  word", "fine  word")
    assert run.failure["message"] == "fine  word\nlast line"
    assert read_batches(run.pk, 0, 9)[0][2]["log"][0]["text"] == "fine  word"
    assert Score.objects.get().reasons == ["fine  word"]
    assert Worker.objects.get().hardware == {"fine  word": "fine  word"}
    assert Delivery.objects.filter(kind="run.failed").count() == 2
    assert not hidden_in(everything_kept())
    assert not hidden_in(caplog.text)

    client.force_login(superuser)
    pages = [f"/runs/{run.pk}/", f"/runs/{run.pk}/points.json?since=0", f"/runs/{baseline.spec.run_id}/", "/runs/"]
    pages += ["/", "/campaigns/first/", f"/admin/research/worker/{Worker.objects.get().pk}/change/"]
    pages += [f"/admin/research/run/{run.pk}/change/", "/admin/research/event/", "/admin/notify/delivery/"]
    for page in pages:
        answer = client.get(page, follow=True)
        assert answer.status_code == 200, page
        assert not hidden_in(answer.content.decode()), page
    asked = prompt.propose(briefing.brief(campaign, 1))
    assert "fine  word" in json.dumps(asked.messages)
    assert not hidden_in(json.dumps(asked.messages, ensure_ascii=False))


@pytest.mark.parametrize(
    "text", [rb'"\ud800"', rb'"\udc00 half"', b'"\xed\xa0\x80"', b'"\xff\xfe"', rb'"a \u0000 b"', b'"a \x00 b"']
)
def test_what_no_text_can_hold_is_refused_in_a_sentence(mallory: Mallory, campaign: Campaign, text: bytes) -> None:
    lease = smoke_run(mallory, campaign)
    start = b'{"fence":1,"seq":%d,"phase":"training",' % lease.spec.next_seq
    bodies = [
        (f"runs/{lease.spec.run_id}/report", start + b'"log":[{"at_s":1.0,"level":"info","text":' + text + b"}]}"),
        (f"runs/{lease.spec.run_id}/report", start + b'"started":{' + text + b":1}}"),
        (f"runs/{lease.spec.run_id}/report", start + b'"started":{"device":' + text + b"}}"),
        (
            f"runs/{lease.spec.run_id}/end",
            b'{"fence":1,"outcome":"lost","device_s":1.0,"failure":{"kind":"lost_contact","message":' + text + b"}}",
        ),
    ]
    for path, body in bodies:
        answer = mallory.says(path, body, lease.token)
        assert answer.status_code == 400, (path, body)
        assert answer.json()["error"].startswith("body: ")
    assert Run.objects.get(pk=lease.spec.run_id).last_seq == lease.spec.next_seq - 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hardware_class", f"cpu{HOSTILE}"),
        ("hardware_class", "c" * 61),
        ("hardware_class", ""),
        ("sandbox_level", "bubble wrap"),
        ("sandbox_level", "b" * 21),
        ("lock_sha256", "x" * 64),
        ("lock_sha256", "a" * 65),
    ],
)
def test_what_names_a_machine_is_a_name(mallory: Mallory, campaign: Campaign, field: str, value: str) -> None:
    dispatch.advance(campaign)
    machine = {"hardware_class": "cpu-x86_64", "sandbox_level": "bubblewrap", "lock_sha256": approval.lock_sha256()}
    for path, body in (("hello", {"name": "box", "hardware": {}}), ("claim", {})):
        answer = mallory.says(path, body | machine | {field: value})
        assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (400, field)
    assert Worker.objects.get().hardware_class == ""


ODD_FACTS: list[dict[str, Any]] = [
    {"num_params": "lots", "device_name": ["a", 1], "dtype": {"a": None}, "compile": 0.5, "threads": True},
    {"num_params": [1, 2], "device": {"cuda": 1}, "knobs": [1, 2]},
    {"num_params": {"a": 1}, "knobs": "none"},
    {"num_params": True, "knobs": 7, "torch": -(2**53)},
    {"num_params": 1e308, "knobs": {"width": None}},
]


@pytest.mark.parametrize("facts", ODD_FACTS)
def test_a_run_that_started_oddly_still_has_a_page(
    mallory: Mallory, campaign: Campaign, facts: dict[str, Any], bobs_browser: Client
) -> None:
    lease = smoke_run(mallory, campaign)
    assert mallory.report(lease, started=facts).status_code == 200
    assert bobs_browser.get(f"/runs/{lease.spec.run_id}/").status_code == 200


HUGE = [1e308, -1e308, 1.7976931348623157e308, 5e-324]


@pytest.mark.parametrize("number", HUGE)
def test_a_number_without_measure_still_has_a_page(
    mallory: Mallory, campaign: Campaign, number: float, bobs_browser: Client
) -> None:
    lease = smoke_run(mallory, campaign)
    points = {
        "step": [1],
        "tokens": [2**53],
        "elapsed_s": [number],
        "metrics": {"watch_bpb": [number], "mfu_percent": [number]},
    }
    progress = {"fraction": 0.5, "eta_s": number, "step": 2**53, "num_steps": 2**53}
    log = [{"at_s": number, "level": "info", "text": "here"}]
    assert mallory.report(lease, points=points, progress=progress, log=log).status_code == 200
    for page in (f"/runs/{lease.spec.run_id}/", f"/runs/{lease.spec.run_id}/points.json?since=0", "/runs/", "/"):
        assert bobs_browser.get(page, follow=True).status_code == 200


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"started": {"deep": {"a": {"b": 1}}}}, "started"),
        ({"started": {"many": 10**400}}, "started"),
        ({"progress": {"fraction": 0.5, "eta_s": 1.0, "step": 10**400, "num_steps": None}}, "progress.step"),
        ({"progress": {"fraction": 0.5, "eta_s": 1.0, "step": 1, "num_steps": 2**60}}, "progress.num_steps"),
        ({"log": [{"at_s": 1.0, "level": "info", "text": "\t" * 1_000}]}, "log.0.text"),
    ],
)
def test_what_no_page_could_show_is_refused_by_its_field(
    mallory: Mallory, campaign: Campaign, over: dict[str, Any], field: str
) -> None:
    lease = smoke_run(mallory, campaign)
    answer = mallory.report(lease, **over)
    assert (answer.status_code, field in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("number", [10**30, -(10**30), 2**63])
def test_numbers_of_other_runs_are_no_crash(mallory: Mallory, campaign: Campaign, number: int) -> None:
    dispatch.advance(campaign)
    wanted = {"hardware_class": "cpu-x86_64", "sandbox_level": "bubblewrap", "lock_sha256": approval.lock_sha256()}
    assert mallory.says("claim", wanted | {"run_id": number}).status_code == 400, "nobody asks for a run by number"
    lease = smoke_run(mallory, builders.make_campaign(slug="second"))
    assert mallory.says(f"runs/{lease.spec.run_id}/beat", {"fence": number}, lease.token).status_code == 409
    assert mallory.report(lease, fence=number).status_code == 409
    assert mallory.report(lease, seq=abs(number)).status_code == 200
    assert mallory.says(f"runs/{abs(number)}/beat", {"fence": 1}, lease.token).status_code == 401
