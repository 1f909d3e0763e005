"""How sure an interval is stands beside it, as it was signed: alpha can be set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from research import levels
from research.arms.claude import prompt
from research.models import Campaign, Event, Proposal, Verdict
from research.propose import briefing
from research.record.rights import COMMAND_LINE
from research.review import decisions
from tests import builders
from webapp.api import tokens
from webapp.notify import outbox

from .people import judge_times, text_of

pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def campaign() -> Campaign:
    """Its team wants to be surer than most."""
    return builders.make_campaign(alpha=0.1, min_pairs=3, max_pairs=4)


@pytest.fixture
def kept(campaign: Campaign, bob: User) -> Proposal:
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    while Proposal.objects.get(pk=proposal.pk).state != "judged":
        lease = builders.claim(builders.make_worker())
        assert lease is not None
        gain = 0.1 if lease.spec.purpose == "candidate" else 0.0
        builders.finish(lease, val_bpb=1.6 + 0.001 * (lease.spec.seed % 7) - gain)
    return proposal


def test_where_alpha_is_a_tenth_every_page_says_90(kept: Proposal, campaign: Campaign, bobs_browser: Client) -> None:
    page = text_of(bobs_browser, f"/proposals/{kept.pk}/")
    assert "Effect, 90 % at any time" in page
    assert re.search(r"Measured .0\.1000, 90 % interval", page), "for whoever hears the chart"
    table = text_of(bobs_browser, f"/campaigns/{campaign.slug}/")
    assert '<th scope="col">90 % interval</th>' in table
    assert "bars: 90 % interval of the step" in table
    assert 'aria-label="90 % interval' in table
    assert "95 %" not in page + table


def test_verdicts_that_were_signed_at_several_levels_are_told_apart(
    kept: Proposal, campaign: Campaign, bobs_browser: Client
) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(alpha=0.05)
    kept.campaign.refresh_from_db()
    judge_times(kept, 1)
    table = text_of(bobs_browser, f"/campaigns/{campaign.slug}/")
    assert '<th scope="col">90 % or 95 % interval</th>' in table
    assert ('aria-label="90 % interval' in table, 'aria-label="95 % interval' in table) == (True, True)


def test_claude_agents_and_webhooks_are_told_how_sure_it_is(kept: Proposal, campaign: Campaign, client: Client) -> None:
    asked = str(prompt.propose(briefing.brief(campaign, 1)))
    assert '"interval_percent": 90.0' in asked.replace('\\"', '"')
    assert "an interval of 80 %, and the chance" in asked
    scout = {"authorization": f"Bearer {tokens.make('scout', campaign=campaign, by=COMMAND_LINE)}"}
    verdict = client.get(f"/api/v1/proposals/{kept.pk}", headers=scout).json()["verdict"]
    (row,) = client.get("/api/v1/campaigns/first/brief", headers=scout).json()["ledger"]
    body = json.loads(json.dumps(outbox.body_of("verdict", Event.objects.get(kind="verdict"))))
    assert {verdict["interval_percent"], row["interval_percent"]} == {90.0}
    assert body["data"]["verdict"] == verdict
    assert "(90 % interval" in Verdict.objects.get().reason


@pytest.mark.parametrize(("alpha", "words"), [(0.05, "95 %"), (0.01, "99 %"), (0.001, "99.9 %"), (1e-7, "99.99999 %")])
def test_a_level_is_written_without_rounding_it_up_to_certainty(alpha: float, words: str) -> None:
    assert levels.measured(alpha) == words
    assert levels.several([]) == ""


def test_no_page_chart_or_prompt_says_a_level_by_itself() -> None:
    """One place gives the words; what a stated interval is, docs may say."""
    places = [*ROOT.glob("webapp/**/*.html"), *ROOT.glob("research/arms/claude/prompts/*.md")]
    places += [*ROOT.glob("static/js/*.js"), *ROOT.glob("webapp/**/*.py"), *ROOT.glob("research/**/*.py")]
    said = [place.name for place in places if re.search(r"\b(80|90|95|99)\s?(%|per ?cent)", place.read_text())]
    assert sorted(said) == ["levels.py", "shown.py"], "whose docstrings give examples"
