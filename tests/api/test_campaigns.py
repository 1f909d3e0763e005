"""scout, an agent from outside, begins a campaign over HTTP; a person starts it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from research.models import Campaign
from research.record.rights import COMMAND_LINE
from tests import builders
from webapp.api import tokens

pytestmark = pytest.mark.django_db
SHA = "d" * 64
NEW = {"slug": "night", "name": "Night", "goal": "Less.", "run_budget_kind": "seconds", "run_budget_amount": 300}


def ask(client: Client, token: str, path: str, body: object = None) -> tuple[int, Any]:
    headers = {"authorization": f"Bearer {token}"}
    if body is None:
        answer = client.get(f"/api/v1/{path}", headers=headers)
    else:
        text = body if isinstance(body, str) else json.dumps(body)
        answer = client.post(f"/api/v1/{path}", text, content_type="application/json", headers=headers)
    return answer.status_code, answer.json()


@pytest.fixture
def token(campaign: Campaign) -> str:
    builders.make_worker(datasets={"stdlib": SHA}, sandbox_level="bubblewrap", seen_at=timezone.now())
    return tokens.make("scout", campaign=None, by=COMMAND_LINE, scope="begin")


def test_scout_begins_a_campaign_that_waits_for_a_person_to_start_it(client: Client, token: str) -> None:
    code, said = ask(client, token, "campaigns", NEW)
    assert (code, said["state"], said["run_budget_amount"], said["dataset_sha256"]) == (201, "planned", 300.0, SHA)
    assert said["url"].endswith("/campaigns/night/")
    code, listed = ask(client, token, "campaigns")
    assert (code, [one["slug"] for one in listed["campaigns"]]) == (200, ["night", "first"])
    code, shown = ask(client, token, "campaigns/night")
    assert (code, shown["goal"], shown["spent"]) == (200, "Less.", {"gpu_hours": 0.0, "usd": 0.0})
    assert Campaign.objects.get(slug="night").created_by is None


REFUSED: dict[str, tuple[object, str, set[str]]] = {
    "a slug that is taken": (NEW | {"slug": "first"}, "There is a campaign 'first' already", {"slug"}),
    "two fields at once": (NEW | {"alpha": 2, "deadline_s": 0}, "deadline_s: Must be 1", {"alpha", "deadline_s"}),
    "a folder of the web machine": (NEW | {"recipe": "/etc"}, "an agent takes a shipped one (gpt)", {"recipe"}),
    "a dataset that nobody has": (NEW | {"dataset": "pile"}, "no worker has one called 'pile'", {"dataset"}),
    "a field that is none": (NEW | {"state": "active"}, "state: is no field; fields are alpha,", set()),
    "a list": (NEW | {"goal": ["a"]}, "goal: must be a string, a number", set()),
    "no object": ([NEW], "body: must be one object of fields", set()),
    "no JSON": ("{", "body: is not JSON", set()),
}


def test_refusals_name_their_fields(client: Client, token: str) -> None:
    for what, (body, sentence, fields) in REFUSED.items():
        code, said = ask(client, token, "campaigns", body)
        assert (code, Campaign.objects.count()) == (422, 1), what
        assert sentence in said["error"], what
        assert set(said.get("fields", {})) == fields, what


def test_tokens_that_propose_read_and_do_not_begin(client: Client, campaign: Campaign) -> None:
    builders.make_campaign(slug="second")
    mine = tokens.make("reader", campaign=campaign, by=COMMAND_LINE, scope="propose")
    assert ask(client, mine, "campaigns", NEW)[0] == 403
    assert [one["slug"] for one in ask(client, mine, "campaigns")[1]["campaigns"]] == ["first"]
    assert ask(client, mine, "campaigns/second")[0] == 404
    with pytest.raises(ValueError, match="scope: begin is for a token of every campaign"):
        tokens.make("scout", campaign=campaign, by=COMMAND_LINE, scope="begin")
