"""alice gives Claude an allowance: by call, by day, by campaign; unpriced calls count with the most they can be."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from research.change.drafts import Usage
from research.models import LedgerEntry
from research.propose import drafting, turns
from research.record import ledger, moves
from tests import builders

from .anthropic_server import message, serving, text
from .test_claude_in_the_loop import make_answer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _without_queues(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.CLAUDE_USD_PER_CALL, settings.CLAUDE_USD_PER_DAY = Decimal(2), Decimal(10)


def use(usd: str | None, at_most: str | None = None) -> Usage:
    return Usage(
        model="claude-opus-5-5",
        input_tokens=0,
        output_tokens=0,
        cache_read_tokens=0,
        cache_write_tokens=0,
        usd=usd and Decimal(usd),
        seconds=1.0,
        stop_reason="end_turn",
        usd_at_most=at_most and Decimal(at_most),
    )


def test_the_day_is_over_all_campaigns_and_ends_at_midnight() -> None:
    campaign, other = builders.make_campaign(budget_usd=None), builders.make_campaign(slug="other", budget_usd=None)
    ledger.charge_claude(campaign, (use("3"),), "propose")
    ledger.charge_claude(other, (use(None, "0.52"),), "propose")
    assert ledger.allowance(campaign).usd_left == Decimal("6.48")
    assert "$10.00 a day" in ledger.allowance(campaign).name
    LedgerEntry.objects.update(created_at=timezone.now() - timedelta(days=1))
    assert ledger.allowance(campaign).usd_left == 10


def test_a_campaign_that_has_less_left_than_the_day_is_what_counts() -> None:
    campaign = builders.make_campaign(budget_usd=Decimal(5))
    ledger.charge_claude(campaign, (use("4"), use(None, "0.52")), "propose")
    allowance = ledger.allowance(campaign)
    assert (allowance.usd_left, allowance.name) == (Decimal("0.48"), "campaign's $5.00")
    assert ledger.exhausted(campaign) == ""
    ledger.charge_claude(campaign, (use(None, "0.52"),), "propose")
    assert ledger.exhausted(campaign) == "$4.00 of $5.00 are spent, up to $1.04 more of unknown price"


def test_the_campaign_says_that_the_day_is_spent_and_asks_nobody(monkeypatch: Any, settings: Any) -> None:
    settings.ANTHROPIC_CONFIGURED = True
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    campaign = builders.make_campaign()
    ledger.charge_claude(campaign, (use("9.90"),), "propose")
    with serving(message(text(make_answer(0.1)))) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        assert drafting.top_up(campaign) == []
        assert anthropic.asked == []
    campaign.refresh_from_db()
    assert "$0.10 are left of the $10.00 a day" in turns.of(campaign).problem
    assert turns.of(campaign).retry_at is not None


def test_the_account_says_what_claude_cost_and_how_much_it_read_from_the_cache() -> None:
    campaign = builders.make_campaign()
    assert ledger.account(campaign).cache_share is None
    read = replace(use("0.30"), input_tokens=1_000, cache_write_tokens=2_000, cache_read_tokens=9_000, output_tokens=50)
    ledger.charge_claude(campaign, (replace(use(None, "0.52"), stop_reason="timeout"), read), "propose")
    ledger.charge_claude(campaign, (replace(use("0.10"), stop_reason="refusal"),), "revise")
    account = ledger.account(campaign)
    assert (account.num_attempts, account.num_failed, account.num_refused) == (3, 1, 1)
    assert account.usd_by_purpose == {"propose": Decimal("0.30"), "revise": Decimal("0.10")}
    assert account.usd_by_model == {"claude-opus-5-5": Decimal("0.40")}
    assert (account.failures, account.num_unpriced) == ({"timeout": 1}, 1)
    assert (account.input_tokens, account.output_tokens, account.cache_share) == (12_000, 50, 0.75)
    assert (account.usd, account.usd_per_keep) == (Decimal("0.40"), None)
    proposal = builders.make_proposal(campaign, arm="claude")
    campaign.incumbents.create(number=1, commit="a" * 40, proposal=proposal)
    assert ledger.account(campaign).usd_per_keep == Decimal("0.40")


# --- manage.py propose ------------------------------------------------------------------------------


def run(*words: str) -> str:
    out = StringIO()
    call_command("propose", *words, stdout=out)
    return out.getvalue()


def test_a_dry_run_shows_the_request_its_tokens_and_its_price(monkeypatch: Any, settings: Any) -> None:
    settings.ANTHROPIC_CONFIGURED = True
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    campaign = builders.make_campaign(program="Try wider heads.")
    with serving(message(text(make_answer(0.1)))) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        said = json.loads(run(campaign.slug, "--dry-run", "--num", "4", "--json"))
        plain = run(campaign.slug, "--dry-run")
        assert anthropic.asked == []
    assert (said["input_tokens"], said["usd_at_most"]) == (15_000, "0.5200")
    assert said["request"]["messages"] == anthropic.counted[0]["messages"]
    assert "exactly 4 of them" in said["request"]["messages"][0]["content"][-1]["text"]
    assert "Try wider heads." in plain
    assert "usd_at_most: 0.5200" in plain
    assert not campaign.proposals.exists()
    assert not campaign.ledger.exists()


def test_without_a_key_a_dry_run_guesses_and_says_so() -> None:
    campaign = builders.make_campaign()
    said = json.loads(run(campaign.slug, "--dry-run", "--json"))
    assert (said["input_tokens"], said["usd_at_most"]) == (None, None)
    assert "guessed from" in said["note"]


def test_a_person_asks_for_proposals_by_hand() -> None:
    campaign = builders.make_campaign(num_waiting=2)
    assert len(run(campaign.slug).splitlines()) == 2
    assert "Nothing to ask for" in run(campaign.slug)


def test_a_campaign_that_is_not_there_is_named_beside_those_that_are() -> None:
    builders.make_campaign(slug="first")
    with pytest.raises(CommandError, match="there is no 'second'; there are first"):
        run("second", "--dry-run")


@pytest.mark.parametrize("state", ["paused", "halted"])
def test_a_campaign_that_rests_says_so_when_proposals_are_asked_for(bob: User, state: str) -> None:
    campaign = builders.make_campaign()
    moves.move_campaign(campaign, state, by=bob, reason="Let us think.")
    sentence = f"First campaign is {state}: nothing is asked for until a person resumes it."
    assert run(campaign.slug).strip() == sentence
    assert json.loads(run(campaign.slug, "--json")) == {"proposals": [], "problem": sentence}
