"""alice's key goes to one host, her wait has an end, her money is counted: whatever is at the other end of the wire."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from research.arms.claude import client as client_module
from research.arms.claude import wire
from tests.research.answers import OPUS_USD, SQUARE, said
from tests.research.briefs import make_brief
from tests.waiting import PATIENCE_S

from .anthropic_server import Script, Server, error, hang_up, message, send, serving, text
from .conftest import Ask

DRAFTS = {"design": "d", "drafts": [said()]}
FULL = {"input_tokens": 1_000, "output_tokens": 500}


def drafted(**over: Any) -> Script:
    return message(text(DRAFTS), **over)


def drip(beginning: bytes) -> Script:
    """``beginning``, then a byte every 20 ms for as long as anybody listens."""

    def script(handler: BaseHTTPRequestHandler) -> None:
        server = handler.server
        assert isinstance(server, Server)
        handler.close_connection = True
        handler.wfile.write(beginning)
        while not server.closing.wait(timeout=0.02):
            try:
                handler.wfile.write(b"a")
            except OSError:
                return

    return script


def reset(handler: BaseHTTPRequestHandler) -> None:
    """A connection that is torn down in the middle of its headers."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-ty")
    handler.connection.close()
    handler.close_connection = True


# --- to that host alone ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_redirect_is_not_followed_and_nothing_is_sent_twice(ask: Ask, code: int, host: str) -> None:
    with serving(drafted()) as other:
        other.gets = {"": drafted()}
        to = f"http://{host}:{other.server_port}/v1/messages"
        proposer, server = ask(send(b"", code, location=to), drafted())
        answer = proposer.draft(make_brief())
    assert (len(server.asked), other.asked, answer.drafts) == (1, [], ())
    assert "points to another, which is not followed; check ANTHROPIC_BASE_URL" in answer.problem
    assert [(u.stop_reason, u.usd) for u in answer.usages] == [(f"http_{code}", Decimal(0))]
    assert answer.retry_after_s == 3_600.0, "a person has to act"


def test_the_key_is_in_no_sentence(ask: Ask) -> None:
    proposer, _ = ask(error(401, "authentication_error", "no such key: sk-secret"), api_key="sk-secret")
    answer = proposer.draft(make_brief())
    assert "no such key: (the key)" in answer.problem
    assert "sk-secret" not in answer.problem + repr(proposer.client)


def test_no_part_of_the_key_is_left_where_a_long_sentence_is_cut(ask: Ask) -> None:
    proposer, _ = ask(error(401, "authentication_error", "x" * 295 + "sk-secret"), api_key="sk-secret")
    assert "sk-s" not in proposer.draft(make_brief()).problem


def test_a_key_from_a_file_may_end_in_a_newline(ask: Ask) -> None:
    proposer, server = ask(drafted(), api_key="sk-secret\n")
    assert proposer.draft(make_brief()).problem == ""
    assert server.asked[0]["authorization"] == "Bearer sk-secret"


# --- in time, and not too much --------------------------------------------------------------------


@pytest.mark.parametrize(
    "beginning", [b"HTTP/1.1 200 OK\r\nx-header: ", b"HTTP/1.1 500 Oops\r\ncontent-length: 99999\r\n\r\n"]
)
def test_neither_headers_nor_an_error_can_trickle_in_beyond_the_deadline(
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    beginning: bytes,
) -> None:
    monkeypatch.setattr(wire, "GRACE_S", 0.1)
    monkeypatch.setattr(client_module, "GRACE_S", 0.1)
    proposer, server = ask(drip(beginning), timeout_s=0.3)
    began = time.monotonic()
    answer = proposer.draft(make_brief())
    assert time.monotonic() - began < PATIENCE_S
    assert answer.problem == "Claude did not answer within 0.3 s."
    assert [(u.stop_reason, u.usd, u.usd_at_most) for u in answer.usages] == [("timeout", None, Decimal("0.52"))] * 3
    assert len(server.asked) == 3


def test_of_a_slow_error_its_status_is_enough(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "ERROR_S", 0.1)
    proposer, server = ask(drip(b'HTTP/1.1 400 Bad\r\ncontent-length: 99999\r\n\r\n{"error'))
    answer = proposer.draft(make_brief())
    assert answer.problem.startswith('Claude could not answer. (400: {"error')
    assert [(u.stop_reason, u.usd) for u in answer.usages] == [("http_400", Decimal(0))]
    assert len(server.asked) == 1


@pytest.mark.parametrize(("code", "attempts"), [(200, 1), (400, 1), (500, 3)])
def test_what_swells_when_it_is_unpacked_is_not_unpacked_to_the_end(
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    attempts: int,
) -> None:
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 2**20)
    bomb = gzip.compress(b"x" * 50_000_000)
    proposer, _ = ask(send(bomb, code, content_encoding="gzip"))
    began = time.monotonic()
    answer = proposer.draft(make_brief())
    assert time.monotonic() - began < PATIENCE_S
    assert all(len(usage.body) <= wire.MAX_ERROR_BYTES for usage in answer.usages)
    assert len(answer.usages) == attempts


@pytest.mark.parametrize("script", [reset, hang_up, send(b"no gzip", content_encoding="gzip")])
def test_a_torn_connection_may_have_been_billed(ask: Ask, script: Script) -> None:
    proposer, _ = ask(script)
    answer = proposer.draft(make_brief())
    assert answer.problem.startswith("The connection to Claude failed: ")
    assert [(u.stop_reason, u.usd, u.usd_at_most) for u in answer.usages] == [("connection", None, Decimal("0.52"))] * 3


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"retry_after": "1e15"}, 86_400.0),
        ({"retry_after": "31536000"}, 86_400.0),
        ({"retry_after_ms": "1e300"}, 86_400.0),
        ({"retry_after": "Fri, 31 Dec 9999 00:00:00 GMT"}, 86_400.0),
        ({"retry_after": "Fri, 31 Dec 9999 23:59:59 -2359"}, 60.0),
        ({"retry_after": " "}, 60.0),
        ({"retry_after": "inf"}, 60.0),
        ({"retry_after": "9" * 400}, 86_400.0),
        ({"retry_after_ms": "nan", "retry_after": "90.5"}, 90.5),
        ({"retry_after_ms": "-1", "retry_after": "90"}, 90.0),
    ],
)
def test_no_server_silences_the_proposer_for_longer_than_a_day(
    ask: Ask,
    header: dict[str, str],
    seconds: float,
) -> None:
    proposer, _ = ask(error(429, "rate_limit_error", "Slow", **header))
    assert proposer.draft(make_brief()).retry_after_s == seconds


# --- errors that are no errors of the API ---------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"error": {"message": {"a": 1}}}', '400: {"error": {"message": {"a": 1}}}'),
        (b'{"error": {"message": 5, "details": [1]}}', "400: {"),
        (b'{"error": "no"}', '400: {"error": "no"}'),
        (b"[]", "400: []"),
        (b"", "400: Bad Request"),
        (b"\xff\x00<html>", "400: \ufffd<U+0000><html>"),
        (b'{"error": {"message": "a\\ud800b\\u0000c"}}', "400: a<U+D800>b<U+0000>c"),
    ],
)
@pytest.mark.parametrize("charset", ["utf-8", "hex", "nonsense"])
def test_any_body_of_an_error_is_a_sentence_that_a_database_takes(
    ask: Ask,
    body: bytes,
    sentence: str,
    charset: str,
) -> None:
    proposer, server = ask(send(body, 400, content_type=f"text/html; charset={charset}"))
    answer = proposer.draft(make_brief())
    assert sentence in answer.problem
    assert answer.problem.encode()
    assert [(u.stop_reason, u.usd) for u in answer.usages] == [("http_400", Decimal(0))]
    assert len(server.asked) == 1


# --- what it cost, whatever is wrong with the rest ------------------------------------------------


@pytest.mark.parametrize(
    "over",
    [
        {"content": None},
        {"content": {}},
        {"content": ["a", 1]},
        {"stop_reason": 7},
        {"stop_reason": "x" * 5_000},
        {"stop_reason": "a\0b"},
        {"stop_reason": "pause_turn"},
        {"stop_reason": "tool_use", "content": [{"type": "tool_use", "id": "t", "name": "shell", "input": {}}]},
        {"stop_reason": "refusal", "stop_details": "frontier_llm"},
        {"stop_reason": "refusal", "stop_details": {"category": ["a\0"]}},
        {"content": [{"type": "text", "text": "\ud800"}]},
        {"content": [{"type": "redacted_thinking", "data": "x"}]},
    ],
)
def test_the_bill_is_read_apart_from_the_rest(ask: Ask, over: dict[str, Any]) -> None:
    proposer, _ = ask(drafted(**over))
    answer = proposer.draft(make_brief())
    (usage,) = answer.usages
    assert (usage.usd, usage.output_tokens) == (OPUS_USD, 500)
    assert len(usage.stop_reason) <= 100 and "\0" not in usage.stop_reason + answer.problem
    assert answer.problem and not answer.drafts


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {},
        FULL | {"input_tokens": None},
        FULL | {"input_tokens": -1},
        FULL | {"output_tokens": -(10**9)},
        FULL | {"output_tokens": 10**12},
        FULL | {"output_tokens": 10**30},
        FULL | {"output_tokens": float("nan")},
        FULL | {"output_tokens": float("inf")},
        FULL | {"cache_creation": {"ephemeral_1h_input_tokens": -(10**6)}},
        FULL | {"cache_creation": "all"},
    ],
)
def test_a_bill_that_makes_no_sense_is_unknown_and_the_answer_is_kept(ask: Ask, usage: object) -> None:
    proposer, _ = ask(drafted(usage=usage))
    answer = proposer.draft(make_brief())
    assert [(u.usd, u.usd_at_most) for u in answer.usages] == [(None, Decimal("0.52"))]
    assert len(answer.drafts) == 1, "it is paid for"


def test_what_is_new_in_a_bill_is_passed_over(ask: Ask) -> None:
    more = {"server_tool_use": {"web_search_requests": 2}, "service_tier": "priority", "cache_read_input_tokens": None}
    proposer, _ = ask(drafted(usage=FULL | more))
    assert [u.usd for u in proposer.draft(make_brief()).usages] == [Decimal("0.014")]


@pytest.mark.parametrize("model", ["", "m" * 5_000, "a\0b", "<script>"])
def test_a_model_of_any_name_is_one_without_a_price(ask: Ask, model: str) -> None:
    proposer, _ = ask(drafted(model=model))
    answer = proposer.draft(make_brief())
    assert [(u.usd, u.usd_at_most) for u in answer.usages] == [(None, Decimal("0.52"))]
    (draft,) = answer.drafts
    assert len(draft.source) <= 100 and "\0" not in draft.source


def test_an_error_in_the_guise_of_an_answer_is_said(ask: Ask) -> None:
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    proposer, _ = ask(send(json.dumps(body).encode()))
    assert proposer.draft(make_brief()).problem == "Claude's answer is not a message of the API (Overloaded)."


@pytest.mark.parametrize("count", [0, -5, 1.5, True, None, 10**30])
def test_a_count_that_is_none_is_not_believed(ask: Ask, count: object) -> None:
    proposer, server = ask(drafted())
    server.count = send(json.dumps({"input_tokens": count}).encode())
    answer = proposer.draft(make_brief())
    assert (server.asked, answer.problem) == ([], "Claude's answer is not a count of tokens.")


# --- what it said ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        f"```json\n{json.dumps(DRAFTS)}\n```",
        f"{json.dumps(DRAFTS)}\nI hope this helps!",
        json.dumps(DRAFTS).replace("-0.01", "1" * 5_000),
    ],
)
def test_what_is_not_json_from_end_to_end_is_none(ask: Ask, words: str) -> None:
    proposer, _ = ask(message(text(words)))
    answer = proposer.draft(make_brief())
    assert (answer.drafts, answer.problem) == ((), "Claude's answer is not JSON.")


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), "0.03", True, [1], None])
def test_a_value_that_no_knob_can_take_drops_its_draft_alone(ask: Ask, value: object) -> None:
    bad = said(overrides=[{"key": "matrix_lr", "value": value, "reason": "r"}])
    proposer, _ = ask(message(text({"design": "d", "drafts": [bad, SQUARE]})))
    answer = proposer.draft(make_brief())
    assert [d.title for d in answer.drafts] == ["Squared"]
    assert "was dropped" in answer.problem


def test_a_thousand_drafts_are_as_many_as_were_asked_for_and_the_page_says_so(ask: Ask) -> None:
    proposer, _ = ask(message(text({"design": "d", "drafts": [said(), SQUARE] * 500})))
    answer = proposer.draft(make_brief())
    assert [d.title for d in answer.drafts] == ["Warmer matrices", "Squared"]
    assert answer.problem == "It held 998 more than were asked for; they were left out."


# --- a success that is none -------------------------------------------------------------------------

SIGN_IN = b"<!DOCTYPE html><html><head><title>Sign in to Corp Proxy</title></head><body>...</body></html>"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (send(SIGN_IN, content_type="text/html"), "(200, text/html: Sign in to Corp Proxy)"),
        (send(SIGN_IN, content_type="text/html; charset=iso-8859-1"), "(200, text/html: Sign in to Corp Proxy)"),
        (send(SIGN_IN, content_type="text/html; charset=nonsense"), "(200, text/html: Sign in to Corp Proxy)"),
        (send(SIGN_IN), "(200, application/json: Sign in to Corp Proxy)"),
        (send(gzip.compress(SIGN_IN), content_encoding="gzip", content_type="text/html"), "Sign in to Corp Proxy"),
        (send(b"OK", content_type="text/plain"), "(200, text/plain: OK)"),
        (send(b"", content_type="text/html"), "(200, text/html: empty)"),
        (send(b"", 204), "(204, application/json: empty)"),
        (send(b"null"), "not a message of the API"),
        (send(b"[]"), "not a message of the API"),
        (send(b"{}"), "not a message of the API"),
        (send(b'"a message"'), "not a message of the API"),
        (send(b'{"id": "msg_1", "type": "mess'), "not a message of the API (not JSON)"),
    ],
)
def test_a_200_that_is_no_message_is_a_sentence_and_is_asked_for_once(ask: Ask, script: Script, sentence: str) -> None:
    """The SDK gives its caller a str for a page, and None, a list or a Message without anything for the others."""
    proposer, server = ask(script)
    answer = proposer.draft(make_brief())
    assert answer.drafts == ()
    assert answer.problem.startswith("Claude's answer is not a message of the API")
    assert sentence in answer.problem
    assert len(server.asked) == 1, "it may have been billed"
    assert [(u.stop_reason, u.usd, u.usd_at_most) for u in answer.usages] == [("unreadable", None, Decimal("0.52"))]
    assert answer.retry_after_s is None, "the campaign asks again after a minute, then two, at last once an hour"


def test_a_page_in_place_of_a_count_sends_nothing(ask: Ask) -> None:
    proposer, server = ask(drafted())
    server.count = send(SIGN_IN, content_type="text/html")
    answer = proposer.draft(make_brief())
    assert (server.asked, answer.usages) == ([], ())
    assert answer.problem.startswith("Claude's answer is not a count of tokens. Something on the way to it")


def test_the_key_is_in_no_page_that_was_answered_in_its_place(ask: Ask) -> None:
    proposer, _ = ask(send(b"<title>for sk-secret</title>", content_type="text/html"), api_key="sk-secret")
    answer = proposer.draft(make_brief())
    assert "for (the key)" in answer.problem
    assert "sk-secret" not in answer.problem + answer.usages[0].body


def test_a_proxy_that_wants_a_password_is_a_matter_for_a_person(ask: Ask) -> None:
    proposer, server = ask(send(b"", 407, proxy_authenticate="Basic"))
    answer = proposer.draft(make_brief())
    assert "put them into HTTPS_PROXY" in answer.problem
    assert (answer.retry_after_s, len(server.asked)) == (3_600.0, 1)
    assert [u.usd for u in answer.usages] == [Decimal(0)]


# --- how long, and how often ------------------------------------------------------------------------


def test_a_server_that_says_not_to_ask_again_is_not_asked_again_at_once(ask: Ask) -> None:
    proposer, server = ask(error(529, "overloaded_error", "Full", x_should_retry="false", retry_after="2"), drafted())
    answer = proposer.draft(make_brief())
    assert len(server.asked) == 1
    assert "overloaded" in answer.problem
    assert answer.retry_after_s == 2.0, "but by the next wave"


@pytest.mark.parametrize("code", [400, 409, 422])
def test_a_server_that_says_to_ask_again_is_asked_again(ask: Ask, code: int) -> None:
    proposer, server = ask(error(code, "api_error", "again", x_should_retry="true", retry_after="0.25"), drafted())
    assert len(proposer.draft(make_brief()).drafts) == 1
    assert len(server.asked) == 2


def test_a_spend_limit_stays_one_whatever_else_is_said(ask: Ask) -> None:
    limit = error(429, "rate_limit_error", "L", "enforced_spend_limit_reached", x_should_retry="true", retry_after="0")
    proposer, server = ask(limit)
    assert "spend limit" in proposer.draft(make_brief()).problem
    assert len(server.asked) == 1


@pytest.mark.parametrize(("asked_for", "seconds"), [("43.323", 43.323), ("61.5", 61.5), ("600", 600.0)])
def test_a_long_wait_is_left_to_the_campaign_to_the_fraction(ask: Ask, asked_for: str, seconds: float) -> None:
    proposer, server = ask(error(429, "rate_limit_error", "Slow", retry_after=asked_for))
    answer = proposer.draft(make_brief())
    assert (answer.retry_after_s, len(server.asked)) == (seconds, 1)
