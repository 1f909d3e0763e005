"""People are led to what they may decide on, and what is counted as theirs is theirs."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from research.models import Campaign, Proposal, Revision, Run, Score
from research.review import quarantined
from tests import builders
from webapp.pages.review import queue

from .people import browser_of, text_of

pytestmark = pytest.mark.django_db


def badge(browser: Client) -> int:
    """Beside Review, in the frame of every page."""
    found = re.search(r'badge hot">(\d+)<span class="sr"> waiting', text_of(browser, "/navigation/"))
    return int(found[1]) if found else 0


def tile(browser: Client, campaign: Campaign) -> int:
    found = re.search(r'Waits for you</div>\s*<div class="v">(\d+)', text_of(browser, f"/campaigns/{campaign.slug}/"))
    assert found is not None
    return int(found[1])


@pytest.fixture
def own(campaign: Campaign, bob: User) -> Proposal:
    """bob's, and the oldest that waits."""
    return builders.make_pending(campaign, arm="human", author=bob)


@pytest.fixture
def others(own: Proposal, campaign: Campaign) -> Proposal:
    return builders.make_pending(campaign, title="Warm up for a while")


def test_bob_is_led_past_his_own_proposal_to_the_one_that_he_may_decide_on(
    own: Proposal, others: Proposal, bobs_browser: Client, dana: User
) -> None:
    assert bobs_browser.get("/review/").headers["Location"] == f"/proposals/{others.pk}/"
    assert browser_of(dana).get("/review/").headers["Location"] == f"/proposals/{own.pk}/"
    assert badge(browser_of(dana)) == 2


def test_with_nothing_but_his_own_nothing_waits_for_bob(
    own: Proposal, campaign: Campaign, bobs_browser: Client, dana: User
) -> None:
    page = text_of(bobs_browser, "/review/")
    assert "Nothing waits for you" in page
    assert ">yours</span>" in page
    assert (badge(bobs_browser), tile(bobs_browser, campaign)) == (0, 0)
    assert (badge(browser_of(dana)), tile(browser_of(dana), campaign)) == (1, 1)
    assert ">yours</span>" not in text_of(browser_of(dana), "/review/")


def test_what_bob_edited_is_his_own_too(campaign: Campaign, bob: User, bobs_browser: Client) -> None:
    edited = builders.make_pending(campaign)
    Revision.objects.filter(proposal=edited).update(author=bob)
    assert (queue.next_waiting(bob), badge(bobs_browser)) == (None, 0)


def test_after_a_decision_bob_is_not_led_to_his_own(own: Proposal, others: Proposal, bobs_browser: Client) -> None:
    said = {"choice": "approve", "digest": others.revision.digest, "number": 1}
    answer = bobs_browser.post(f"/proposals/{others.pk}/decision/", said)
    assert answer.headers["Location"] == "/review/"


def test_bob_is_offered_no_decision_on_his_own(own: Proposal, bobs_browser: Client, dana: User) -> None:
    page = text_of(bobs_browser, f"/proposals/{own.pk}/")
    assert "Waits for another reviewer: you wrote it" in page
    assert 'aria-keyshortcuts="a"' not in page
    assert 'aria-keyshortcuts="a"' in text_of(browser_of(dana), f"/proposals/{own.pk}/")


def test_alice_who_decides_on_nothing_is_told_that_nothing_waits_for_her(
    others: Proposal, alice: User, campaign: Campaign
) -> None:
    browser = browser_of(alice)
    assert "Nothing waits for you" in text_of(browser, "/review/")
    assert (badge(browser), tile(browser, campaign)) == (0, 0)
    assert others.title in text_of(browser, "/review/"), "she reads the queue all the same"


def test_a_score_that_waits_leads_and_counts_by_the_same_rights(
    campaign: Campaign, bob: User, dana: User, bobs_browser: Client
) -> None:
    own = builders.make_pending(campaign, arm="human", author=bob)
    Proposal.objects.filter(pk=own.pk).update(state="running")
    run = Run.objects.create(
        campaign=campaign, incumbent=campaign.incumbent, revision=own.revision, purpose="candidate", seed=1,
        state="finished", approval={}, digest=own.revision.digest,
    )  # fmt: skip
    Score.objects.create(run=run, outcome="quarantined", val_bpb=0.2, seconds=1.0)
    assert (queue.next_waiting(bob), badge(bobs_browser)) == (None, 0)
    assert (queue.next_waiting(dana), badge(browser_of(dana))) == (own.pk, 1)
    assert "A score waits for a reviewer" in text_of(bobs_browser, "/review/?queue=1")
    quarantined.settle(run.pk, choice="dispute", reason="Not this text.", by=dana)
    assert badge(browser_of(dana)) == 0


def test_whoever_may_decide_by_a_group_is_led_as_well(others: Proposal, own: Proposal, alice: User) -> None:
    alice.user_permissions.add(Permission.objects.get(codename="add_decision"))
    assert queue.next_waiting(User.objects.get(pk=alice.pk)) == own.pk
