"""Somebody sends one wrong token after another; those with a right one are let in as before."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from research.record.rights import COMMAND_LINE
from research.runs import workers
from tests import builders
from tests.api.test_worker_api import CLAIM
from webapp.api import tokens
from webapp.api.spoken import WRONG_TOKENS

pytestmark = pytest.mark.django_db


def ask(address: str, token: str, whence: str = "203.0.113.7") -> Any:
    headers = {"authorization": f"Bearer {token}"}
    if address.startswith("/api/v1/"):
        return Client().get(address, headers=headers, REMOTE_ADDR=whence)
    body = CLAIM.model_dump_json()
    return Client().post(address, body, content_type="application/json", headers=headers, REMOTE_ADDR=whence)


@pytest.mark.parametrize(
    "address", ["/api/v1/campaigns/first/brief", "/api/worker/hello", "/api/worker/claim", "/api/worker/runs/1/report"]
)
def test_an_address_that_guesses_is_told_to_wait_and_nobody_else_is(address: str) -> None:
    seen = [ask(address, f"guess-{n}").status_code for n in range(WRONG_TOKENS + 1)]
    assert seen == [401] * WRONG_TOKENS + [429]
    refused = ask(address, "guess")
    assert refused["Retry-After"] == "60"
    assert "wrong tokens came from your address within a minute" in refused.json()["error"]
    assert ask(address, "guess", whence="198.51.100.9").status_code == 401


def test_a_right_token_is_let_in_from_beside_whoever_guesses() -> None:
    campaign = builders.make_campaign()
    for n in range(WRONG_TOKENS + 5):
        ask("/api/worker/claim", f"guess-{n}")
    assert ask("/api/worker/claim", workers.enrol("box", by=COMMAND_LINE)).status_code in (200, 204)
    token = tokens.make("scout", campaign=campaign, by=COMMAND_LINE)
    assert ask("/api/v1/campaigns/first/brief", token).status_code == 200
