"""A GPU machine talks to the web side over HTTP; so does whoever found its address."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from gpu_runner import contract
from research.models import Campaign, Manifest, Run, Worker
from research.record.rights import COMMAND_LINE
from research.runs import dispatch, workers
from tests import builders
from tests.api.worker import CLAIM, lease_one, post

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def campaign() -> Campaign:
    campaign = builders.make_campaign()
    dispatch.advance(campaign)
    return campaign


@pytest.fixture
def token() -> str:
    return workers.enrol("box", by=COMMAND_LINE)


def test_a_worker_claims_fetches_the_source_reports_and_ends(
    client: Client, campaign: Campaign, token: str, tmp_path: Path
) -> None:
    lease = lease_one(client, token)
    base = f"runs/{lease.spec.run_id}"
    bundle = client.get(f"/api/worker/{base}/source", headers={"authorization": f"Bearer {lease.token}"})
    (tmp_path / "source.bundle").write_bytes(bundle.content)
    subprocess.run(
        ["git", "clone", "-q", "-b", "main", "source.bundle", "source"], cwd=tmp_path, check=True, timeout=30
    )
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path / "source", capture_output=True, text=True, check=True
    )
    assert head.stdout.strip() == lease.spec.approval.base_commit
    assert lease.spec.approval.digest() == lease.spec.digest

    batch = contract.Report(fence=1, seq=1, phase="training", points=builders.make_points())
    order = contract.parse(contract.Order, post(client, f"{base}/report", batch, lease.token).content)
    assert (order.order, order.acked_seq) == ("continue", 1)
    last = contract.RunEnd(fence=1, outcome="finished", score=builders.make_score(1.6), device_s=31.0)
    assert post(client, f"{base}/end", last, lease.token).status_code == 200
    run = Run.objects.get(pk=lease.spec.run_id)
    assert (run.state, run.score.val_bpb) == ("finished", 1.6)
    assert campaign.ledger.get().gpu_s == 31.0
    # The answer may have been lost on the way: the second end is told that it is over, and charges nothing.
    assert post(client, f"{base}/end", last, lease.token).status_code == 409
    assert campaign.ledger.count() == 1


@pytest.mark.parametrize("path", ["hello", "claim", "runs/1/report", "runs/1/beat", "runs/1/end"])
def test_charlie_without_a_token_is_turned_away(client: Client, campaign: Campaign, token: str, path: str) -> None:
    assert post(client, path, CLAIM, "guess").status_code == 401
    assert client.post(f"/api/worker/{path}", "{}", content_type="application/json").status_code == 401
    assert not Run.objects.exclude(state="queued").exists()


def test_what_a_worker_says_of_its_datasets_is_kept_and_a_name_that_is_none_is_refused(
    client: Client, token: str
) -> None:
    machine = {"hardware_class": "cpu-x86_64", "sandbox_level": "landlock", "lock_sha256": "", "hardware": {}}
    said = {"name": "box", **machine, "datasets": {"stdlib": "d" * 64}}
    assert post(client, "hello", json.dumps(said), token).status_code == 200
    assert Worker.objects.get(name="box").datasets == {"stdlib": "d" * 64}
    for wrong in ({"../etc": "d" * 64}, {"stdlib": "not a hash"}, {f"d{n}": "" for n in range(201)}):
        assert post(client, "hello", json.dumps(said | {"datasets": wrong}), token).status_code == 400
    assert Worker.objects.get(name="box").datasets == {"stdlib": "d" * 64}


def test_a_dataset_is_described_once_and_only_by_a_worker_that_has_it(client: Client, token: str) -> None:
    machine = {"hardware_class": "cpu-x86_64", "sandbox_level": "landlock", "lock_sha256": "", "hardware": {}}
    summary = builders.make_summary(samples=["a\x1b[31m red\u202e word\nand more"], source={"te\u202ext": "<b>"})
    said = {"name": "box", **machine, "datasets": {"stdlib": "d" * 64}}

    def hello(**over: Any) -> int:
        one = {**summary.model_dump(mode="json"), **over}
        return int(post(client, "hello", json.dumps(said | {"summaries": [one]}), token).status_code)

    assert hello() == 200
    assert hello(samples=["another story"]) == 200, "a worker that starts again says it again"
    row = Manifest.objects.get()
    assert (row.sha256, row.name, row.reported_by) == ("d" * 64, "stdlib", Worker.objects.get(name="box"))
    assert row.summary["samples"] == ["a red word\nand more"]
    assert row.summary["source"] == {"text": "<b>"}
    wrong: list[dict[str, Any]] = [
        {"sha256": "e" * 64}, {"name": "other"}, {"samples": ["x"] * 4}, {"samples": ["x" * 801]}, {"splits": {}},
        {"source": {str(n): n for n in range(21)}}, {"source": {"text": "x" * 301}}, {"vocab": 0}, {"val_text": "held"},
    ]  # fmt: skip
    for over in wrong:
        assert hello(**over) == 400, over
    assert Manifest.objects.count() == 1


def test_a_worker_that_was_switched_off_gets_nothing(client: Client, campaign: Campaign, token: str) -> None:
    Worker.objects.update(enabled=False)
    answer = post(client, "claim", CLAIM, token)
    assert (answer.status_code, answer.json()["error"]) == (403, "box is switched off in the admin panel")


def test_a_worker_with_other_packages_gets_no_run_that_it_would_only_refuse(
    client: Client, campaign: Campaign, token: str
) -> None:
    answer = post(client, "claim", CLAIM.model_copy(update={"lock_sha256": "0" * 64}), token)
    assert answer.status_code == 403
    assert "constraints.txt" in answer.json()["error"]
    assert not Run.objects.exclude(state="queued").exists()


def test_a_new_token_ends_the_old_one(client: Client, campaign: Campaign, token: str) -> None:
    fresh = workers.enrol("box", by=COMMAND_LINE)
    assert post(client, "claim", CLAIM, token).status_code == 401
    assert post(client, "claim", CLAIM, fresh).status_code == 200


def test_one_runs_token_opens_no_other_run(client: Client, campaign: Campaign, token: str) -> None:
    mine, other = lease_one(client, token), lease_one(client, token)
    assert post(client, f"runs/{other.spec.run_id}/beat", contract.Beat(fence=1), mine.token).status_code == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [("{", "Invalid JSON"), ("{}", "seq: Field required"), ('{"fence":1,"seq":"x","phase":"training"}', "seq:")],
)
def test_a_malformed_report_is_answered_with_its_field(
    client: Client, campaign: Campaign, token: str, body: str, field: str
) -> None:
    lease = lease_one(client, token)
    answer = post(client, f"runs/{lease.spec.run_id}/report", body, lease.token)
    assert answer.status_code == 400
    assert field in answer.json()["error"]
    assert Run.objects.get(pk=lease.spec.run_id).last_seq == 0


def test_a_failure_that_no_database_can_keep_is_refused_and_one_that_only_speaks_of_it_is_kept(
    client: Client, campaign: Campaign, token: str
) -> None:
    lease = lease_one(client, token)

    def end(message: str) -> Any:
        ended = {"fence": 1, "outcome": "failed", "failure": {"kind": "recipe_error", "message": message}}
        return post(client, f"runs/{lease.spec.run_id}/end", json.dumps(ended | {"device_s": 1.0}), lease.token)

    for hostile in ("\0", "a \0 b", "\\\0"):
        answer = end(hostile)
        assert (answer.status_code, "NUL" in answer.json()["error"]) == (400, True)
    assert Run.objects.get(pk=lease.spec.run_id).state == "leased"
    assert end(r"bad byte \u0000 in a shard").status_code == 200
    assert Run.objects.get(pk=lease.spec.run_id).failure["message"] == r"bad byte \u0000 in a shard"


def test_an_old_fence_is_told_to_drop_the_run(client: Client, campaign: Campaign, token: str) -> None:
    lease = lease_one(client, token)
    Run.objects.filter(pk=lease.spec.run_id).update(fence=2)
    answer = post(client, f"runs/{lease.spec.run_id}/beat", contract.Beat(fence=1), lease.token)
    assert answer.status_code == 409
    assert "drop it" in answer.json()["error"]


def test_a_queue_that_is_empty_answers_with_nothing(client: Client, campaign: Campaign, token: str) -> None:
    for _ in range(campaign.min_pairs):
        lease_one(client, token)
    assert post(client, "claim", CLAIM, token).status_code == 204
