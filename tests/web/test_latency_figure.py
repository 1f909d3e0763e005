"""bob looks at where the time goes and what Claude cost, by model."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from research.judge.latency import ALL, Stage
from research.models import Campaign, Event, Proposal
from research.record import ledger
from research.review import decisions
from tests import builders
from tests.research.answers import use
from tests.web.people import text_of
from webapp.pages.campaigns import latency_figure


def test_how_long_people_took_is_drawn_beside_how_long_machines_did(
    bobs_browser: Client, bob: User, pending: Proposal
) -> None:
    first = Event.objects.get(proposal=pending, kind="proposal.drafted")
    Event.objects.filter(pk=first.pk).update(at=first.at - timedelta(minutes=2))
    came = Event.objects.get(proposal=pending, kind="proposal.pending_review")
    reject = {"choice": "reject", "category": "later", "reason": "Not now."}
    decisions.decide(pending.pk, digest=pending.revision.digest, by=bob, **reject)
    decided = Event.objects.filter(proposal=pending, kind="proposal.rejected")
    decided.update(at=came.at + timedelta(hours=3))
    page = text_of(bobs_browser, f"/campaigns/{pending.campaign.slug}/")
    card = page.split('id="lat-h"')[1].split("</section>")[0]
    assert "Waiting for a person: 3 h, n 1" in card
    assert "In the gates: 2 min" in card
    assert "Running: none is over yet" in card


def test_a_campaign_in_which_nothing_is_over_draws_no_empty_axis(bobs_browser: Client, campaign: Campaign) -> None:
    assert 'id="lat-h"' not in text_of(bobs_browser, f"/campaigns/{campaign.slug}/")


def test_any_number_of_proposals_takes_three_queries(campaign: Campaign) -> None:
    for number in range(6):
        builders.make_proposal(campaign, title=f"Idea {number}")
    with CaptureQueriesContext(connection) as queries:
        latency_figure.stages_of(campaign)
    assert len(queries) == 3


@pytest.mark.parametrize("width", [680, 330])
def test_bars_stay_within_the_figure_and_a_percentile_only_stands_where_it_means_something(width: int) -> None:
    stages = [
        Stage(name="Running", seconds=(1.0, 2.0)),
        Stage(name=ALL, seconds=tuple(map(float, range(1, 90_000, 999)))),
    ]
    figure = latency_figure.latency_figure(stages, width=width)
    assert figure is not None
    few, many = figure.bars
    assert few.p90 is None and few.median is not None
    assert many.median is not None and many.p90 is not None
    assert figure.left <= few.median < many.median < many.p90 <= figure.right
    assert {tick.label.split(" ")[-1] for tick in figure.ticks} == {"0", "h"}


def test_dollars_stand_by_model_and_an_unknown_price_is_no_zero(bobs_browser: Client, campaign: Campaign) -> None:
    other = replace(use("0.25"), model="claude-haiku-5-5")
    lost = replace(use(None, "0.52"), stop_reason="timeout")
    ledger.charge_claude(campaign, (use("0.50"), other, lost), "propose")
    card = text_of(bobs_browser, f"/campaigns/{campaign.slug}/").split('id="acc-h"')[1].split("</section>")[0]
    for said in ("claude-opus-5-5", "$0.50", "claude-haiku-5-5", "$0.25", "1 request, in none", "1 timed out"):
        assert said in card
    assert ledger.account(campaign).usd == Decimal("0.75")
    assert "$0.75" in text_of(bobs_browser, "/campaigns/")
