"""What alice paid for and did not get whole: each byte of it and its id are kept, and what is whole is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from research.arms.claude import client as client_module
from research.arms.claude import wire
from research.models import Campaign, Turn
from research.propose import drafting, turns
from tests import builders

from .anthropic_server import Script, Server, error, message, send, serving, text
from .conftest import Ask
from .test_batches import OTHER, asked, batch, ended, later, raw, succeeded, with_words
from .test_claude import OPUS_USD, make_brief, said
from .test_claude_in_the_loop import make_answer

BODY = json.dumps(
    {
        "id": "msg_1",
        "model": "claude-opus-5-5",
        "content": [text({"design": "d", "drafts": [said()]})],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1_000, "output_tokens": 500},
    }
).encode()
USD = Decimal("0.014")  # 1,000 tokens at $4 and 500 at $20 a million


def silent_after(script: Script) -> Script:
    def scripts(handler: BaseHTTPRequestHandler) -> None:
        script(handler)
        assert isinstance(handler.server, Server)
        handler.server.closing.wait(timeout=60)

    return scripts


def torn(body: bytes, *, code: int = 200, chunked: bool = False, then: bytes = b"") -> Script:
    """``body`` of an answer that was to be longer; then the end, or ``then`` every 20 ms while anybody listens."""

    def script(handler: BaseHTTPRequestHandler) -> None:
        server = handler.server
        assert isinstance(server, Server)
        handler.close_connection = True
        handler.send_response(code)
        handler.send_header("content-type", "application/json")
        handler.send_header("request-id", "req_011")
        handler.send_header(*(("transfer-encoding", "chunked") if chunked else ("content-length", "9999999")))
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if chunked else body)
        while then and not server.closing.wait(timeout=0.02):
            try:
                handler.wfile.write(then)
            except OSError:
                return

    return script


# --- a question that is asked at once ---------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_what_came_of_a_torn_answer_is_kept_with_its_id(ask: Ask, chunked: bool) -> None:
    proposer, _ = ask(torn(BODY[:-9], chunked=chunked))
    answer = proposer.draft(make_brief())
    assert answer.problem.startswith("The connection to Claude failed: ")
    kept = [(u.stop_reason, u.usd, u.request_id, u.body.encode()) for u in answer.usages]
    assert kept == [("connection", None, "req_011", BODY[:-9])] * 3


def test_what_came_of_an_answer_that_took_too_long_is_kept_with_its_id(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "GRACE_S", 5.0)
    proposer, _ = ask(torn(b'{"id": "msg_1"', then=b" "), timeout_s=0.3)
    answer = proposer.draft(make_brief())
    assert [(u.stop_reason, u.request_id, u.body.strip()) for u in answer.usages] == [
        ("timeout", "req_011", '{"id": "msg_1"')
    ] * 3


def test_it_is_kept_too_where_it_fell_silent_in_the_middle(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "GRACE_S", 0.1)

    proposer, _ = ask(silent_after(torn(b'{"id": "msg_1"')), timeout_s=0.3)
    (usage, *_) = proposer.draft(make_brief()).usages
    assert (usage.stop_reason, usage.request_id, usage.body) == ("timeout", "req_011", '{"id": "msg_1"')


def test_the_beginning_of_what_is_too_large_is_kept_with_its_id(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 2**20)
    proposer, server = ask(send(b'{"id": "msg_1"' + b"x" * 2**21, request_id="req_011"))
    (usage,) = proposer.draft(make_brief()).usages
    assert (usage.stop_reason, usage.usd, usage.request_id) == ("too_large", None, "req_011")
    assert usage.body.startswith('{"id": "msg_1"xxx')
    assert len(usage.body) == wire.MAX_ERROR_BYTES
    assert len(server.asked) == 1


@pytest.mark.parametrize(("chunked", "then"), [(False, b""), (True, b""), (False, b" ")])
def test_an_answer_that_lacks_nothing_but_its_end_is_an_answer(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, chunked: bool, then: bytes
) -> None:
    monkeypatch.setattr(client_module, "GRACE_S", 5.0)
    proposer, server = ask(torn(BODY, chunked=chunked, then=then), timeout_s=1.0)
    answer = proposer.draft(make_brief())
    assert (len(answer.drafts), answer.problem) == (1, "")
    assert [(u.stop_reason, u.usd) for u in answer.usages] == [("end_turn", USD)]
    assert len(server.asked) == 1, "it was paid for once"


@pytest.mark.parametrize("body", [b"\xef\xbb\xbf" + BODY, BODY.replace(b'"msg_1"', b'"msg\t\x0b\x01"')])
def test_no_stray_character_costs_alice_an_answer_and_its_bill(ask: Ask, body: bytes) -> None:
    proposer, _ = ask(send(body))
    answer = proposer.draft(make_brief())
    assert (len(answer.drafts), [u.usd for u in answer.usages]) == (1, [USD])


def test_a_raw_tab_in_what_claude_says_costs_nobody_the_drafts(ask: Ask) -> None:
    proposer, _ = ask(message(text(json.dumps({"design": "a, b", "drafts": [said()]}).replace(", b", "\tb"))))
    answer = proposer.draft(make_brief())
    assert (len(answer.drafts), answer.design, [u.usd for u in answer.usages]) == (1, "a\tb", [OPUS_USD])


def test_no_part_of_the_key_is_left_where_an_answer_breaks_off(ask: Ask) -> None:
    proposer, _ = ask(torn(b'{"key": "sk-ant-api03-abcdef'), api_key="sk-ant-api03-abcdefgh")
    assert {u.body for u in proposer.draft(make_brief()).usages} == {'{"key": "'}


def test_an_error_that_falls_silent_is_told_by_its_status_at_once(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ERROR_S", 0.1)
    proposer, _ = ask(silent_after(torn(b'{"error', code=400)), timeout_s=60.0)
    (usage,) = proposer.draft(make_brief()).usages
    assert (usage.stop_reason, usage.usd, usage.request_id, usage.body) == (
        "http_400",
        Decimal(0),
        "req_011",
        '{"error',
    )
    assert usage.seconds < 30, "of the 60 that its server is silent"


# --- a batch ----------------------------------------------------------------------------------------


@pytest.fixture
def campaign(transactional_db: None, with_a_key: None) -> Campaign:
    return builders.make_campaign(num_waiting=1, in_batches=True)


@pytest.mark.parametrize("script", [torn(b'{"id": "msgbatch_'), send(b'{"id": "msgbatch_', request_id="req_011")])
def test_a_batch_that_may_exist_leaves_its_id_in_the_ledger(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, script: Script
) -> None:
    with serving(script) as server:
        campaign = asked(monkeypatch, server, campaign)
    entry = campaign.ledger.get()
    assert (entry.usd, entry.usage["usd_at_most"]) == (None, "0.26000")
    assert (entry.usage["request_id"], entry.answer) == ("req_011", '{"id": "msgbatch_')


@pytest.mark.parametrize("created", [json.dumps({"id": "msgbatch_1", "processing_status": "in_progress"}).encode()])
@pytest.mark.parametrize("kind", ["marked", "torn"])
def test_a_batch_that_was_made_is_found_again(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, created: bytes, kind: str
) -> None:
    with serving(torn(created) if kind == "torn" else send(b"\xef\xbb\xbf" + created)) as server:
        campaign = asked(monkeypatch, server, campaign)
    assert turns.of(campaign).batch["id"] == "msgbatch_1"


def outcome(monkeypatch: pytest.MonkeyPatch, campaign: Campaign, answers: Script, num_proposals: int) -> Any:
    """The row of the ledger, and the campaign as it is then."""
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server)
        server.gets["/results"] = answers
        assert len(drafting.top_up(campaign)) == num_proposals
    campaign.refresh_from_db()
    return campaign.ledger.get()


@pytest.mark.parametrize(
    ("lines", "num_proposals", "usd"),
    [
        ([b"\xef\xbb\xbf" + raw(with_words(""))], 1, "0.007"),
        ([raw(with_words("")), raw(OTHER)], 1, "0.007"),
        ([b"", raw(OTHER), b" \r", raw(with_words("")) + b"\r", b"\r", b""], 1, "0.007"),
        ([b"{", raw(with_words(""))], 1, "0.007"),  # no newline at the end, and nothing lacks there
        ([raw({"custom_id": "wave", "result": {"type": "errored"}}), raw(with_words(""))], 1, "0.007"),
        ([raw(with_words("")), raw({"custom_id": "wave", "result": {"type": "expired"}})], 1, "0.007"),
        ([b"{", raw(OTHER)], 0, None),
        ([raw({"custom_id": "wave", "result": {"type": "canceled"}})], 0, "0"),
        ([raw({"custom_id": "wave", "result": {"type": "paused"}})], 0, None),
    ],
)
def test_of_all_lines_the_one_that_was_paid_for_is_found_and_all_are_kept(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, lines: list[bytes], num_proposals: int, usd: str | None
) -> None:
    body = b"\n".join(lines)
    entry = outcome(monkeypatch, campaign, send(body, request_id="req_012"), num_proposals)
    assert entry.usd == (None if usd is None else Decimal(usd))
    assert entry.usage.get("usd_at_most") == ("0.26000" if usd is None else None), "nobody knows that it was free"
    assert (entry.answer, entry.usage["request_id"]) == (body.decode(), "req_012")


def test_answers_that_are_too_large_are_accounted_for_with_their_id(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 2**20)
    entry = outcome(monkeypatch, campaign, send(b"{" + b" " * 2**21, request_id="req_012"), 0)
    assert (entry.usd, entry.usage["usd_at_most"], entry.usage["request_id"]) == (None, "0.26000", "req_012")
    assert len(entry.answer) == wire.MAX_ERROR_BYTES


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        (torn(b'{"custom_id": "wave", "res'), ("req_011", '{"custom_id": "wave", "res')),
        (error(529, "overloaded_error", "busy", request_id="req_012"), ("req_012", None)),
    ],
)
def test_what_was_heard_last_of_a_batch_that_is_given_up_is_kept(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, script: Script, kept: tuple[str, str | None]
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server)
        server.gets["/results"] = script
        assert drafting.top_up(campaign) == []
        campaign.refresh_from_db()
        assert turns.of(campaign).batch["id"] == "msgbatch_1", "it is read again"
        assert not campaign.ledger.exists()
        old = (datetime.now(UTC) - timedelta(hours=27)).isoformat()
        Turn.objects.update(batch=turns.of(campaign).batch | {"at": old})
        assert drafting.top_up(later(campaign)) == []
    entry = campaign.ledger.get()
    assert (entry.usd, entry.usage["usd_at_most"], entry.usage["request_id"]) == (None, "0.26000", kept[0])
    assert entry.answer == kept[1] or "busy" in entry.answer


def test_a_single_answer_that_lacks_only_its_end_is_read(monkeypatch: pytest.MonkeyPatch, campaign: Campaign) -> None:
    entry = outcome(monkeypatch, campaign, torn(raw(succeeded(make_answer(0.1)))), 1)
    assert entry.usd == Decimal("0.007")
