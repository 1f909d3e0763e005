"""Overnight, alice's campaign asks in batches: half the price, and no restart loses a question or an answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from research.change.drafts import Override
from research.loop import reconcile
from research.models import Campaign, Turn
from research.propose import drafting, turns
from research.record import ledger
from tests import builders
from tests.conftest import Bells

from .anthropic_server import Script, Server, error, hang_up, send, serving, silence
from .test_claude_in_the_loop import make_answer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("with_a_key")]
BATCH = {"id": "msgbatch_1", "type": "message_batch", "results_url": None}


@pytest.fixture
def campaign(db: None) -> Campaign:
    return builders.make_campaign(num_waiting=1, in_batches=True)


def batch(server: Server | None, status: str) -> Script:
    url = f"{server.url}/v1/messages/batches/msgbatch_1/results" if server else None
    return send(json.dumps(BATCH | {"processing_status": status, "results_url": url}).encode())


def ended(server: Server, *rows: object) -> None:
    server.gets = {
        "/results": send("".join(json.dumps(row) + "\n" for row in rows).encode()),
        "/msgbatch_1": batch(server, "ended"),
    }


def succeeded(said: object, **over: Any) -> dict[str, Any]:
    usage = {"input_tokens": 1_000, "output_tokens": 500}
    content = [{"type": "text", "text": json.dumps(said)}]
    body = {"id": "msg_1", "model": "claude-opus-5-5", "content": content, "stop_reason": "end_turn", "usage": usage}
    return {"custom_id": "wave", "result": {"type": "succeeded", "message": body | over}}


def later(campaign: Campaign) -> Campaign:
    """The campaign as another process reads it, when it is time to look again."""
    Turn.objects.update(retry_at=None)
    return Campaign.objects.get(pk=campaign.pk)


def asked(monkeypatch: pytest.MonkeyPatch, server: Server, campaign: Campaign) -> Campaign:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    assert drafting.top_up(campaign) == []
    return later(campaign)


def test_a_batch_is_asked_for_once_and_its_answer_becomes_proposals_after_a_restart(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        assert turns.of(campaign).batch["id"] == "msgbatch_1"
        server.gets = {"/msgbatch_1": batch(server, "in_progress")}
        assert drafting.top_up(campaign) == []
        campaign = later(campaign)
        ended(server, {"custom_id": "another", "result": {"type": "canceled"}}, succeeded(make_answer(0.1)))
        (proposal,) = drafting.top_up(campaign)
    (request,) = server.asked
    assert request["path"] == "/v1/messages/batches"
    assert request["requests"][0]["params"]["messages"] == server.counted[0]["messages"]
    assert (proposal.arm, proposal.revision.knobs) == ("claude", {"warmup_fraction": 0.1})
    campaign.refresh_from_db()
    assert turns.of(campaign).batch is None
    entry = campaign.ledger.get()
    assert entry.usd == Decimal("0.007")  # half of 1,000 tokens at $4 and 500 at $20 a million


def test_it_looks_no_more_than_once_a_minute(monkeypatch: pytest.MonkeyPatch, campaign: Campaign) -> None:
    with serving(batch(None, "in_progress")) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        drafting.top_up(campaign)
        campaign.refresh_from_db()
        assert timedelta(seconds=50) < turns.of(campaign).retry_at - timezone.now() <= timedelta(minutes=1)  # type: ignore[operator]
        assert drafting.num_missing(turns.of(campaign)) == 0


def test_what_is_on_its_way_is_not_spent_a_second_time(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, settings: Any
) -> None:
    settings.CLAUDE_USD_PER_DAY = Decimal(10)
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
    assert ledger.allowance(campaign).usd_left == Decimal("9.74")  # half of $0.52


def test_a_process_that_dies_before_it_hears_of_its_batch_leaves_its_cost_on_record(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    with serving(batch(None, "in_progress")) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        dies = lambda *args: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
        monkeypatch.setattr("research.arms.claude.batches.create", dies)
        with pytest.raises(KeyboardInterrupt):
            drafting.top_up(campaign)
        campaign = later(campaign)
        assert turns.of(campaign).batch["id"] == ""
        assert drafting.top_up(campaign) == []
    campaign.refresh_from_db()
    assert turns.of(campaign).batch is None
    assert "its answer lost" in turns.of(campaign).problem
    entry = campaign.ledger.get()
    assert (entry.usd, entry.usage["usd_at_most"]) == (None, "0.26000")


@pytest.mark.parametrize(
    ("script", "usd", "sentence"),
    [
        (error(401, "authentication_error", "no"), Decimal(0), "refused the API key"),
        (send(b"<html>"), None, "not a batch of the API"),
        (hang_up, None, "connection"),
    ],
)
def test_a_batch_that_could_not_be_asked_for_says_why(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, script: Script, usd: Decimal | None, sentence: str
) -> None:
    with serving(script) as server:
        campaign = asked(monkeypatch, server, campaign)
    assert turns.of(campaign).batch is None
    assert sentence in turns.of(campaign).problem
    assert campaign.ledger.get().usd == usd


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"custom_id": "wave", "result": {"type": "expired"}}, "expired before Claude came to it"),
        (
            {"custom_id": "wave", "result": {"type": "errored", "error": {"error": {"message": "too long"}}}},
            "not answered (errored). too long",
        ),
        ({"custom_id": "wave", "result": {"type": "errored", "error": "what"}}, "not answered (errored)"),
        (succeeded({"design": "", "drafts": []}), "proposed nothing"),
        (
            succeeded({"design": "", "drafts": []}, stop_reason="refusal", stop_details={"category": "frontier_llm"}),
            "frontier_llm",
        ),
        ({"custom_id": "wave", "result": {"type": "succeeded"}}, "without an answer that can be read"),
        ([], "without an answer that can be read"),
    ],
)
def test_every_end_of_a_batch_is_said_and_the_next_may_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, row: object, sentence: str
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server, row)
        assert drafting.top_up(campaign) == []
    campaign.refresh_from_db()
    assert turns.of(campaign).batch is None
    assert sentence in turns.of(campaign).problem
    assert campaign.ledger.count() == 1


@pytest.mark.parametrize("script", [error(529, "overloaded_error", "busy"), error(500, "api_error", "oops"), hang_up])
def test_a_passing_trouble_keeps_the_batch_and_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, script: Script
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        server.gets = {"/msgbatch_1": script}
        assert drafting.top_up(campaign) == []
    campaign.refresh_from_db()
    assert turns.of(campaign).batch["id"] == "msgbatch_1"
    assert not campaign.ledger.exists()


def test_results_are_read_from_the_host_that_was_asked_wherever_a_batch_says_they_are(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    with serving(batch(None, "in_progress")) as server, serving(send(b"")) as other:
        campaign = asked(monkeypatch, server, campaign)
        heard: list[str] = []
        other.gets = {"": lambda handler: heard.append(handler.headers["authorization"])}
        elsewhere = {"processing_status": "ended", "results_url": f"{other.url}/{{x}}/results"}
        server.gets = {
            "/v1/messages/batches/msgbatch_1/results": send(json.dumps(succeeded(make_answer(0.1))).encode()),
            "/msgbatch_1": send(json.dumps(BATCH | elsewhere).encode()),
        }
        assert len(drafting.top_up(campaign)) == 1
    assert heard == [], "the key is ours and Anthropic's"


@pytest.mark.parametrize(
    "script",
    [
        error(401, "authentication_error", "no"),
        error(403, "permission_error", "no"),
        error(429, "rate_limit_error", "Limit", "enforced_spend_limit_reached"),
        error(429, "rate_limit_error", "Slow", retry_after="1e15"),
        send(b"", 302, location="http://127.0.0.1:1/"),
    ],
)
@pytest.mark.parametrize("end", ["/msgbatch_1", "/results"])
def test_a_batch_that_cannot_be_looked_at_is_kept_and_the_page_says_why(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, script: Script, end: str
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server, succeeded(make_answer(0.1)))
        server.gets[end] = script
        assert drafting.top_up(campaign) == []
        campaign.refresh_from_db()
        assert turns.of(campaign).batch["id"] == "msgbatch_1"
        assert turns.of(campaign).batch_problem and not turns.of(campaign).problem
        assert not campaign.ledger.exists(), "nothing is known to be free, or to be lost"
        ended(server)
        server.gets["/msgbatch_1"] = batch(server, "in_progress")
        assert drafting.top_up(later(campaign)) == []
        campaign.refresh_from_db()
        assert turns.of(campaign).batch_problem == "", "it can be looked at again"
        ended(server, succeeded(make_answer(0.1)))
        assert len(drafting.top_up(later(campaign))) == 1
    assert campaign.ledger.get().usd == Decimal("0.007")


@pytest.mark.parametrize(
    ("row", "script"),
    [
        (succeeded(make_answer(0.1), model="claude-next"), None),
        (succeeded(make_answer(0.1), usage=None), None),
        (succeeded(make_answer(0.1), usage={"input_tokens": -(10**7), "output_tokens": 1}), None),
        (None, error(404, "not_found_error", "no such batch")),
        (None, error(400, "invalid_request_error", "what")),
    ],
)
def test_a_batch_of_unknown_price_counts_with_the_most_that_it_can_have_cost(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, row: object, script: Script | None
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server, row)
        server.gets |= {"/results": script} if script else {}
        assert len(drafting.top_up(campaign)) == (1 if row else 0)
    entry = campaign.ledger.get()
    assert (entry.usd, entry.usage["usd_at_most"]) == (None, "0.26000")


def test_looking_at_a_batch_does_not_forget_how_often_a_revision_failed(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    """Else a revision that never comes would be asked for, and paid, without end."""
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        Turn.objects.update(num_problems=2, problem="Claude's answer is not JSON.")
        for script in (batch(server, "in_progress"), error(529, "overloaded_error", "busy")):
            server.gets = {"/msgbatch_1": script}
            assert drafting.top_up(later(campaign)) == []
            campaign.refresh_from_db()
            assert turns.of(campaign).num_problems == 2


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"type": "errored", "error": {"error": "boom"}}, "(errored). boom"),
        ({"type": "errored", "error": {"error": "not sk-test"}}, "(errored). not (the key)"),
        ({"type": "errored", "error": {"error": {"message": {"a": 1}}}}, "(errored)."),
        ({"type": "errored", "error": {"error": {"message": "a\ud800\0"}}}, "(errored). a<U+D800><U+0000>"),
        ({"type": "a\0" * 500}, "was not answered (a<U+0000>a"),
        ({"type": 5}, "was not answered (5)"),
    ],
)
def test_any_error_of_a_batch_is_a_sentence_that_a_database_takes(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, result: object, sentence: str
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server, {"custom_id": "wave", "result": result})
        assert drafting.top_up(campaign) == []
    campaign.refresh_from_db()
    assert sentence in turns.of(campaign).problem
    assert turns.of(campaign).batch is None


@pytest.mark.parametrize("batch_id", ["../../v1/files", "", "a" * 1_000, 7])
def test_an_id_that_is_none_becomes_no_address(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, batch_id: object
) -> None:
    with serving(send(json.dumps(BATCH | {"id": batch_id, "processing_status": "in_progress"}).encode())) as server:
        campaign = asked(monkeypatch, server, campaign)
    assert turns.of(campaign).batch is None
    assert "not a batch of the API" in turns.of(campaign).problem
    assert campaign.ledger.get().usage["usd_at_most"] == "0.26000"


def test_the_answer_to_a_halted_campaign_is_paid_for_and_kept(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, settings: Any, bells: Bells
) -> None:
    """Else what it can cost would be off everybody's allowance, day after day."""
    settings.CLAUDE_USD_PER_DAY = Decimal(10)
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        Campaign.objects.update(state="halted")
        reconcile.reconcile()
        assert bells == [("control.propose", (campaign.pk,))]
        ended(server, succeeded(make_answer(0.1)))
        (proposal,) = drafting.top_up(later(campaign))
        assert drafting.top_up(later(campaign)) == []
    assert len(server.asked) == 1, "a halted campaign asks for nothing new"
    assert proposal.state == "drafted"
    assert ledger.allowance(campaign).usd_left == Decimal("9.993")


def test_nothing_of_a_batch_is_thrown_away_because_people_filled_the_queue_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign = builders.make_campaign(num_waiting=2, in_batches=True)
    first, second = (make_answer(value)["drafts"][0] for value in (0.1, 0.2))
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        builders.make_proposal(campaign, arm="human", overrides=(Override(key="depth", value=2, reason="less"),))
        ended(server, succeeded({"design": "d", "drafts": [first, second]}))
        assert len(drafting.top_up(later(campaign))) == 2


def test_a_batch_that_never_ends_is_given_up_after_a_day(monkeypatch: pytest.MonkeyPatch, campaign: Campaign) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        old = (datetime.now(UTC) - timedelta(hours=27)).isoformat()
        Turn.objects.update(batch=turns.of(campaign).batch | {"at": old})
        server.gets = {"/msgbatch_1": batch(server, "in_progress")}
        assert drafting.top_up(later(campaign)) == []
    campaign.refresh_from_db()
    assert turns.of(campaign).batch is None
    assert "given up" in turns.of(campaign).problem
    assert campaign.ledger.get().usage["usd_at_most"] == "0.26000"


def test_silence_is_bounded(monkeypatch: pytest.MonkeyPatch, campaign: Campaign) -> None:
    monkeypatch.setattr("research.arms.claude.batches.COUNT_S", 0.3)
    with serving(silence) as server:
        campaign = asked(monkeypatch, server, campaign)
    assert "did not answer within" in turns.of(campaign).problem


def test_without_a_key_the_catalogue_answers_at_once(campaign: Campaign, settings: Any) -> None:
    settings.ANTHROPIC_CONFIGURED = False
    assert [proposal.arm for proposal in drafting.top_up(campaign)] == ["offline"]


# --- JSON Lines -----------------------------------------------------------------------------------

OTHER = {"custom_id": "another", "result": {"type": "canceled"}}


def raw(row: object) -> bytes:
    """As a server may write it: letters as they are, separators included."""
    return json.dumps(row, ensure_ascii=False).encode()


def with_words(words: str) -> dict[str, Any]:
    """A paid answer whose hypothesis holds ``words``."""
    answer, row = make_answer(0.1), succeeded("")
    answer["drafts"][0]["hypothesis"] += words
    row["result"]["message"]["content"][0]["text"] = json.dumps(answer, ensure_ascii=False, indent="\t")
    return row


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_paid_answer_is_whole_whatever_stands_in_its_text(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, separator: str, end: bytes
) -> None:
    line = raw(with_words(f" They say:{separator}less is more."))
    assert len(line.decode().splitlines()) == 2, "Python ends a line there, JSON Lines do not"
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server)
        server.gets["/results"] = send(raw(OTHER) + b"\n" + line + end)
        (proposal,) = drafting.top_up(campaign)
    assert proposal.revision.knobs == {"warmup_fraction": 0.1}
    assert proposal.revision.hypothesis.endswith("less is more.")
    assert campaign.ledger.get().usd == Decimal("0.007")


@pytest.mark.parametrize(
    "broken",
    [
        b"{",
        b"null",
        b"[]",
        b"<html>oops</html>",
        b"\xff\xfe",
        b'{"custom_id": "wave"}',
        b'{"custom_id": "wave", "result": null}',
        b'{"custom_id": "wave", "result": {"type": "succeeded"}}',
        b"[" * 100_000,
    ],
)
def test_a_broken_line_takes_no_other_along(monkeypatch: pytest.MonkeyPatch, campaign: Campaign, broken: bytes) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server)
        server.gets["/results"] = send(b"\n".join([raw(OTHER), broken, raw(with_words("")), b""]))
        assert len(drafting.top_up(campaign)) == 1
    assert campaign.ledger.get().usd == Decimal("0.007")


def test_a_raw_tab_in_a_text_loses_nothing_that_was_paid_for(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    line = raw(with_words("")).replace(b"\\t", b"\t")
    assert b"\t" in line
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server)
        server.gets["/results"] = send(line)
        assert len(drafting.top_up(campaign)) == 1


def test_an_answer_that_is_broken_itself_is_told_kept_and_charged(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server)
        server.gets["/results"] = send(raw(OTHER) + b'\n{"custom_id": "wave", "result": {"type": "succ\n')
        assert drafting.top_up(campaign) == []
    campaign.refresh_from_db()
    assert turns.of(campaign).batch is None
    assert "1 of its lines are broken; it counts with the most that it can have cost" in turns.of(campaign).problem
    entry = campaign.ledger.get()
    assert (entry.usd, entry.usage["usd_at_most"]) == (None, "0.26000")
    assert '"succ' in entry.answer


def cut_without_a_word(body: bytes) -> Script:
    """No length, and the connection ends: nobody can tell from the wire that more was to come."""

    def script(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/x-jsonl")
        handler.send_header("connection", "close")
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return script


PAGE = b"<!DOCTYPE html><html><head><title>Sign in &middot; Corp Proxy</title></head></html>"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (cut_without_a_word(raw(OTHER) + b"\n" + raw(with_words(""))[:-40]), "broke off in the middle"),
        (hang_up, "connection"),
        (
            send(PAGE, content_type="text/html; charset=utf-8"),
            "(200, text/html: Sign in \u00b7 Corp Proxy)",
        ),
        (send(PAGE), "in its place (200, application/json: Sign in"),
        (send(b"", 204), "in its place (204, application/json: empty)"),
        (send(b"upstream gone", content_type="text/plain"), "in its place (200, text/plain: upstream gone)"),
    ],
)
def test_answers_that_did_not_come_through_are_read_again(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign, script: Script, sentence: str
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        ended(server, with_words(""))
        good, server.gets["/results"] = server.gets["/results"], script
        assert drafting.top_up(campaign) == []
        campaign.refresh_from_db()
        assert turns.of(campaign).batch["id"] == "msgbatch_1"
        assert sentence in turns.of(campaign).batch_problem
        assert not campaign.ledger.exists(), "nothing is known to be lost"
        server.gets["/results"] = good
        assert len(drafting.top_up(later(campaign))) == 1
    assert campaign.ledger.get().usd == Decimal("0.007")


def test_answers_that_never_come_through_are_given_up_after_a_day(
    monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:
    with serving(batch(None, "in_progress")) as server:
        campaign = asked(monkeypatch, server, campaign)
        old = (datetime.now(UTC) - timedelta(hours=27)).isoformat()
        Turn.objects.update(batch=turns.of(campaign).batch | {"at": old})
        ended(server)
        server.gets["/results"] = send(PAGE, content_type="text/html")
        assert drafting.top_up(later(campaign)) == []
    campaign.refresh_from_db()
    assert turns.of(campaign).batch is None
    assert campaign.ledger.get().usage["usd_at_most"] == "0.26000"
