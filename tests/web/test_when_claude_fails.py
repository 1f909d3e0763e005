"""Whatever Claude or the wire does: alice reads a sentence on the campaign's page, and the ledger has every attempt."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils.html import escape

from research.arms.claude import batches
from research.arms.claude import client as client_module
from research.arms.claude.client import Client
from research.models import Campaign, Turn
from research.propose import drafting, turns
from tests import builders
from tests.research.anthropic_server import (
    Script,
    Server,
    error,
    hang_up,
    message,
    send,
    serving,
    silence,
    text,
    trickle,
)  # fmt: skip
from tests.research.test_claude_in_the_loop import make_answer
from tests.web.people import browser_of, text_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("with_a_key")]

PAID = Decimal("0.045")  # 1,000 in + 500 out + 10,000 read + 1,000 written for 5 min + 3,000 for 1 h
ZERO, UNKNOWN = Decimal(0), None
DRAFT = make_answer(0.1)["drafts"][0]
Usages = list[tuple[str, Decimal | None]]


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 2**20)
    monkeypatch.setattr(Client, "__post_init__", _impatient(Client.__post_init__))


def _impatient(begin: Callable[[Client], None]) -> Callable[[Client], None]:
    def begun(client: Client) -> None:
        begin(client)
        client.timeout_s, client.sleep = 0.5, lambda seconds: None

    return begun


def answered(*drafts: object) -> Script:
    return message(text({"design": "d", "drafts": list(drafts)}))


CASES: dict[str, tuple[Script, str, Usages]] = {
    "schema mismatch": (message(text({"ideas": []})), "does not follow the schema", [("end_turn", PAID)]),
    "a draft out of shape": (answered(DRAFT | {"risk": "none"}), "Draft 1 was dropped: risk", [("end_turn", PAID)]),
    "two things without a reason": (
        answered(DRAFT | {"overrides": [*DRAFT["overrides"], {"key": "matrix_lr", "value": 0.01, "reason": "r"}]}),
        "changes 2 things at once (warmup_fraction, matrix_lr) and does not say why",
        [("end_turn", PAID)],
    ),
    "bad JSON": (message(text("{broken")), "is not JSON", [("end_turn", PAID)]),
    "JSON nested beyond reason": (message(text("[" * 100_000)), "is not JSON", [("end_turn", PAID)]),
    "empty drafts": (answered(), "Claude proposed nothing this time.", [("end_turn", PAID)]),
    "no text at all": (message(), "is not JSON", [("end_turn", PAID)]),
    "only unknown blocks": (message({"type": "hologram", "rays": [1]}), "is not JSON", [("end_turn", PAID)]),
    "truncation": (
        message(text('{"design'), stop_reason="max_tokens"),
        "cut off (max_tokens after 500 tokens)",
        [("max_tokens", PAID)],
    ),
    "window exceeded": (
        message(text("{"), stop_reason="model_context_window_exceeded"),
        "cut off (model_context_window_exceeded",
        [("model_context_window_exceeded", PAID)],
    ),
    "refusal": (
        message(stop_reason="refusal", stop_details={"type": "refusal", "category": "frontier_llm"}),
        "declined to answer (category frontier_llm)",
        [("refusal", PAID)],
    ),
    "refusal without a category": (
        message(stop_reason="refusal"),
        "declined to answer (category not given)",
        [("refusal", PAID)],
    ),
    "unknown stop reason": (message(stop_reason="tired"), "stop_reason tired", [("tired", PAID)]),
    "overload": (error(529, "overloaded_error", "Overloaded"), "is overloaded", [("http_529", ZERO)] * 3),
    "rate limit": (
        error(429, "rate_limit_error", "Slow", retry_after="1800"),
        "rate limit is reached",
        [("http_429", ZERO)],
    ),
    "spend limit": (
        error(429, "rate_limit_error", "Limit", "enforced_spend_limit_reached"),
        "The spend limit of this Anthropic account is reached",
        [("http_429", ZERO)],
    ),
    "server error": (error(500, "api_error", "oops"), "could not answer. (500: oops)", [("http_500", UNKNOWN)] * 3),
    "bad request": (error(400, "invalid_request_error", "no such field"), "(400: no such field)", [("http_400", ZERO)]),
    "too large a prompt": (
        error(413, "request_too_large", "32 MB"),
        "larger than the API accepts",
        [("http_413", ZERO)],
    ),
    "bad key": (error(401, "authentication_error", "no"), "set a valid ANTHROPIC_API_KEY", [("http_401", ZERO)]),
    "no right": (error(403, "permission_error", "not yours"), "(403: not yours)", [("http_403", ZERO)]),
    "unknown model": (error(404, "not_found_error", "model"), "does not know this model", [("http_404", ZERO)]),
    "timeout": (silence, "did not answer within 0.5 s", [("timeout", UNKNOWN)] * 3),
    "a byte now and then": (trickle, "did not answer within 0.5 s", [("timeout", UNKNOWN)] * 3),
    "cut stream": (hang_up, "The connection to Claude failed", [("connection", UNKNOWN)] * 3),
    "huge answer": (message(text("x" * 2**21)), "larger than 1 MiB", [("too_large", UNKNOWN)]),
    "a proxy's page": (send(b"<html>hello</html>"), "is not a message of the API", [("unreadable", UNKNOWN)]),
    "an event stream": (
        send(b"event: message_start\ndata: {}\n\n", content_type="text/event-stream"),
        "is not a message of the API",
        [("unreadable", UNKNOWN)],
    ),
    "a redirect": (
        send(b"", 307, location="http://localhost:1/"), "points to another, which is not followed", [("http_307", ZERO)]
    ),
    "a pause for ever": (
        error(429, "rate_limit_error", "Slow", retry_after="1e15"), "rate limit is reached", [("http_429", ZERO)]
    ),
    "an error that is none": (send(b'{"error": {"message": []}}', 422), "(422: {", [("http_422", ZERO)]),
    "an error that holds the key": (
        error(401, "authentication_error", "not sk-test"), "401: not (the key)", [("http_401", ZERO)]
    ),
    "no content": (message(content=None), "is not a message of the API", [("end_turn", PAID)]),
    "a tool that nobody gave": (
        message({"type": "tool_use", "id": "t", "name": "shell", "input": {}}, stop_reason="tool_use"),
        "stop_reason tool_use",
        [("tool_use", PAID)],
    ),
    "letters that no database takes": (
        message(text("{}"), stop_reason="\ud800\0"), "stop_reason <U+D800><U+0000>", [("<U+D800><U+0000>", PAID)]
    ),
    "a negative bill": (
        message(text("{"), usage={"input_tokens": -(10**9), "output_tokens": 1}), "is not JSON", [("end_turn", UNKNOWN)]
    ),
    "a bill that no ledger holds": (
        message(text("{"), usage={"input_tokens": 10**30, "output_tokens": 1}), "is not JSON", [("end_turn", UNKNOWN)]
    ),
    "a number beyond numbers": (
        answered(DRAFT | {"overrides": [{"key": "depth", "value": 10**400, "reason": "r"}]}),
        "depth: is larger than any number here",
        [("end_turn", PAID)],
    ),
    "unknown price": (message(text("{"), model="claude-next"), "is not JSON", [("end_turn", UNKNOWN)]),
}  # fmt: skip


def usages_of(campaign: Campaign) -> Usages:
    rows = campaign.ledger.filter(kind="claude").order_by("pk")
    return [(entry.usage["stop_reason"], entry.usd) for entry in rows]


@pytest.mark.parametrize("case", CASES)
def test_one_sentence_on_the_page_and_every_attempt_in_the_ledger(
    monkeypatch: pytest.MonkeyPatch, alice: User, case: str
) -> None:
    script, sentence, usages = CASES[case]
    campaign = builders.make_campaign()
    with serving(script) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert drafting.top_up(campaign) == []
    page = text_of(browser_of(alice), f"/campaigns/{campaign.slug}/")
    assert "The proposer has a problem" in page
    assert escape(sentence) in page
    assert "It is asked again" in page
    assert usages_of(campaign) == usages
    campaign.refresh_from_db()
    assert campaign.state == "active"
    assert turns.of(campaign).taken_at is None
    unpriced = campaign.ledger.filter(usd=None)
    assert all(Decimal(entry.usage["usd_at_most"]) > 0 for entry in unpriced), "caps need a bound"


def test_a_retry_after_of_half_an_hour_is_said_and_kept(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    campaign = builders.make_campaign()
    with serving(CASES["rate limit"][0]) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        drafting.top_up(campaign)
    assert ">in 30 min</time>" in text_of(browser_of(alice), f"/campaigns/{campaign.slug}/")


def test_a_model_without_a_price_is_not_asked_and_the_page_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, alice: User, settings: Any
) -> None:
    settings.ANTHROPIC_MODEL = "claude-unheard-of"
    campaign = builders.make_campaign()
    with serving(answered(DRAFT)) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        drafting.top_up(campaign)
    assert (server.asked, usages_of(campaign)) == ([], [])
    page = text_of(browser_of(alice), f"/campaigns/{campaign.slug}/")
    assert "has no price in research/arms/claude/prices.toml" in page


def test_what_was_left_out_of_an_answer_is_said_without_alarm(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    campaign = builders.make_campaign(num_waiting=2)
    with serving(answered(DRAFT, DRAFT | {"title": ""})) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert len(drafting.top_up(campaign)) == 1
    page = text_of(browser_of(alice), f"/campaigns/{campaign.slug}/")
    assert "Part of the last answer was left out" in page
    assert "The proposer has a problem" not in page
    assert "Draft 2 was dropped" in page


# --- batches --------------------------------------------------------------------------------------

BATCHES: dict[str, tuple[dict[str, Any] | None, str, Usages]] = {
    "expired": ({"type": "expired"}, "expired before Claude came to it", [("batch_expired", ZERO)]),
    "errored": (
        {"type": "errored", "error": {"error": {"message": "too long"}}},
        "was not answered (errored). too long",
        [("batch_errored", ZERO)],
    ),
    "lost": (None, "given up", [("batch_lost", UNKNOWN)]),
    "canceled": ({"type": "canceled"}, "was not answered (canceled)", [("batch_canceled", ZERO)]),
    "an error that is none": ({"type": "errored", "error": {"error": 1}}, "(errored)", [("batch_errored", ZERO)]),
}  # fmt: skip


@pytest.mark.parametrize("case", BATCHES)
def test_so_it_is_with_a_batch(monkeypatch: pytest.MonkeyPatch, alice: User, case: str) -> None:
    ended, sentence, usages = BATCHES[case]
    campaign = builders.make_campaign(in_batches=True)
    status = "in_progress" if ended is None else "ended"
    with serving(_batch(None, "in_progress")) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        drafting.top_up(campaign)
        server.gets = {"/msgbatch_1": _batch(server, status), "/results": _rows({"custom_id": "wave", "result": ended})}
        if ended is None:
            monkeypatch.setattr(batches.Pending, "is_overdue", True)
        Turn.objects.update(retry_at=None)
        campaign.refresh_from_db()
        drafting.top_up(campaign)
    assert sentence in text_of(browser_of(alice), f"/campaigns/{campaign.slug}/")
    assert usages_of(campaign) == usages


def _batch(server: Server | None, status: str) -> Script:
    url = f"{server.url}/v1/messages/batches/msgbatch_1/results" if server else None
    body = {"id": "msgbatch_1", "type": "message_batch", "processing_status": status, "results_url": url}
    return send(json.dumps(body).encode())


def _rows(*rows: object) -> Script:
    return send("".join(json.dumps(row) + "\n" for row in rows).encode())


def test_alice_reads_of_a_batch_that_is_on_its_way_and_of_why_it_cannot_be_looked_at(alice: User) -> None:
    campaign = builders.make_campaign(in_batches=True)
    pending = {"id": "msgbatch_1", "num_wanted": 3, "usd_at_most": "0.52"}
    Turn.objects.create(campaign=campaign, arm="claude", batch=pending, batch_problem="It answers 529.")
    page = text_of(browser_of(alice), f"/campaigns/{campaign.slug}/")
    assert "A batch is on its way" in page and "3 proposals" in page
    assert "It answers 529." in page
