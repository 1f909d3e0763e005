"""What is sent to Claude is in the ledger before it leaves: no death and no fault of ours hides what it cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from django.utils import timezone

from research.arms.claude.attempt import no_tokens
from research.arms.claude.client import Client
from research.loop import reconcile
from research.models import Event, LedgerEntry, Turn
from research.propose import briefing, drafting, repeats, turns
from research.record import ledger
from tests import builders
from tests.conftest import Bells

from .anthropic_server import error, message, send, serving, text
from .test_claude_in_the_loop import make_answer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("with_a_key")]
ANSWER = message(text(make_answer(0.1)))
AT_MOST = "0.5200"  # 15,000 tokens written to the dearest cache, 20,000 of output


def rows() -> list[tuple[str, Decimal | None, str | None]]:
    entries = LedgerEntry.objects.order_by("pk")
    return [(e.usage["stop_reason"], e.usd, e.usage.get("usd_at_most")) for e in entries]


def test_an_attempt_is_in_the_ledger_while_it_is_under_way_and_is_one_row_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign = builders.make_campaign(budget_usd=Decimal(10))
    seen: list[object] = []

    def script(handler: BaseHTTPRequestHandler) -> None:
        seen.extend([*rows(), ledger.allowance(campaign).usd_left, ledger.spent(campaign).num_unpriced])
        ANSWER(handler)

    with serving(script) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert len(drafting.top_up(campaign)) == 1
    assert seen == [("sent", None, AT_MOST), Decimal(10) - Decimal(AT_MOST), 0], "promised, and not spent yet"
    assert rows() == [("end_turn", Decimal("0.045"), None)]


def test_a_process_that_dies_while_claude_answers_leaves_the_cost_and_the_next_one_asks(
    monkeypatch: pytest.MonkeyPatch, bells: Bells
) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    with serving(ANSWER) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        with monkeypatch.context() as dying:
            dying.setattr(Client, "_attempt", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
            dying.setattr(turns, "end", lambda *args: None)  # kill -9 runs no finally
            with pytest.raises(KeyboardInterrupt):
                drafting.top_up(campaign)
        assert rows() == [("sent", None, AT_MOST)]
        reconcile.reconcile()
        assert ("control.propose", (campaign.pk,)) not in bells, "it may be alive"
        Turn.objects.update(taken_at=timezone.now() - timedelta(minutes=16))
        reconcile.reconcile()
        assert ("control.propose", (campaign.pk,)) in bells
        campaign.refresh_from_db()
        assert len(drafting.top_up(campaign)) == 1
    assert rows() == [("lost", None, AT_MOST), ("end_turn", Decimal("0.045"), None)]
    assert ledger.spent(campaign).num_unpriced == 1
    assert Event.objects.filter(kind="proposer.lost").count() == 1


def test_what_came_back_is_kept_to_the_letter_before_anything_is_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    page = "<html>\0Proxy \N{RIGHT-TO-LEFT OVERRIDE}says sk-test</html>"
    script = send(page.encode(), request_id="req_011 sk-test")
    with serving(script) as server, monkeypatch.context() as dying:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        dying.setattr(turns, "note_answer", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            drafting.top_up(campaign)
    entry = LedgerEntry.objects.get()
    assert rows() == [("unreadable", None, AT_MOST)]
    assert entry.answer == page.replace("\0", "\N{REPLACEMENT CHARACTER}").replace("sk-test", "(the key)")
    assert entry.usage["request_id"] == "req_011 (the key)"


def test_gpu_time_is_spent_whether_or_not_claude_is_being_asked() -> None:
    campaign = builders.make_campaign(usd_per_gpu_hour=Decimal(36))
    LedgerEntry.objects.create(campaign=campaign, kind="gpu", gpu_s=100.0, usd=Decimal(1))
    LedgerEntry.objects.create(campaign=campaign, kind="claude", usage={"stop_reason": "sent", "usd_at_most": "0.5"})
    spent = ledger.spent(campaign)
    assert (spent.gpu_s, spent.usd, spent.num_unpriced) == (100.0, Decimal(1), 0)


def test_who_was_taken_for_dead_does_not_end_the_asking_of_who_took_over() -> None:
    campaign = builders.make_campaign()
    first = turns.begin(campaign)
    assert first is not None
    assert turns.begin(campaign) is None, "one at a time"
    Turn.objects.update(taken_at=first.taken_at - timedelta(minutes=16))
    second = turns.begin(campaign)
    turns.end(first)
    assert second is not None
    assert turns.of(campaign).taken_at == second.taken_at


def test_two_campaigns_that_ask_at_once_do_not_spend_the_same_dollar(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """Both were told of the same dollar; what the first one may cost is on record before the second one sends."""
    settings.CLAUDE_USD_PER_DAY = Decimal("1.00")
    one, two = builders.make_campaign(slug="one"), builders.make_campaign(slug="two")
    with serving(ANSWER) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        second = turns.proposer(turns.of(two))
        ledger.enter(
            one, replace(no_tokens("claude-opus-5-5", 0.0, "sent", None), usd_at_most=Decimal(AT_MOST)), "propose"
        )
        refused = second.draft(briefing.brief(two, 1))
    assert server.asked == []
    assert refused.problem.startswith("Others are asking, and what they may cost leaves too little of the $1.00 a day")
    assert (refused.usages, refused.retry_after_s) == ((), 60.0)
    assert len(rows()) == 1


def test_the_cap_of_a_day_is_reached_to_the_cent_and_not_passed(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.CLAUDE_USD_PER_DAY = Decimal("0.52")
    campaign = builders.make_campaign(num_waiting=1)
    with serving(ANSWER) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert len(drafting.top_up(campaign)) == 1
    settings.CLAUDE_USD_PER_DAY = Decimal("0.5649")
    other = builders.make_campaign(slug="other", num_waiting=1)
    with serving(ANSWER) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert drafting.top_up(other) == []
    assert server.asked == []


def test_a_fault_of_ours_over_an_answer_is_said_paid_and_not_repeated_in_a_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign = builders.make_campaign()
    monkeypatch.setattr(repeats, "screened", lambda *args, **options: 1 // 0)
    with serving(ANSWER) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert drafting.top_up(campaign) == []
        campaign.refresh_from_db()
        assert drafting.top_up(campaign) == [], "not before its pause is over"
    assert len(server.asked) == 1
    assert "a fault of ours (ZeroDivisionError, see the log)" in turns.of(campaign).problem
    assert rows() == [("end_turn", Decimal("0.045"), None)]


def test_three_attempts_are_three_rows_however_they_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("research.arms.claude.client._pause", lambda *args: 0.0)
    campaign = builders.make_campaign()
    with serving(error(529, "overloaded_error", "busy"), error(500, "api_error", "oops"), ANSWER) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        assert len(drafting.top_up(campaign)) == 1
    assert rows() == [("http_529", 0, None), ("http_500", None, AT_MOST), ("end_turn", Decimal("0.045"), None)]
    answers = LedgerEntry.objects.order_by("pk").values_list("answer", flat=True)
    assert [word in answer for word, answer in zip(("busy", "oops", "msg_1"), answers, strict=True)] == [True] * 3
