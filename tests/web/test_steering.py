"""bob tells the proposer something while the loop runs; it reads that until he retires it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, Route

from research.models import Campaign, Event, Note
from research.propose import briefing, notes
from tests import builders
from tests.web.chromium import HOST, Site, in_browser, rendered
from tests.web.people import browser_of, text_of


def test_a_note_reaches_the_next_request_and_leaves_it_when_retired(
    bobs_browser: Client, bob: User, campaign: Campaign
) -> None:
    address = f"/campaigns/{campaign.slug}/"
    response = bobs_browser.post(f"{address}notes/", {"note": " Leave the <b>optimizer</b> alone. "}, follow=True)
    assert "Leave the &lt;b&gt;optimizer&lt;/b&gt; alone." in response.content.decode()
    (told,) = briefing.brief(campaign, 1).notes
    assert told.text == "Leave the <b>optimizer</b> alone."
    written = Note.objects.get()
    assert written.by == bob
    bobs_browser.post(f"{address}notes/{written.pk}/retire/")
    assert briefing.brief(campaign, 1).notes == ()
    assert "Leave the" not in text_of(bobs_browser, address).split('id="notes"')[1].split("</section>")[0]
    kinds = Event.objects.filter(kind__startswith="campaign.note").order_by("pk").values_list("kind", "by")
    assert list(kinds) == [("campaign.note_added", "user:bob"), ("campaign.note_retired", "user:bob")]


def test_the_second_to_retire_a_note_is_told(bobs_browser: Client, bob: User, campaign: Campaign) -> None:
    written = notes.note(campaign, "Try wider heads.", by=bob)
    address = f"/campaigns/{campaign.slug}/notes/{written.pk}/retire/"
    assert bobs_browser.post(address).status_code == 302
    response = bobs_browser.post(address)
    assert response.status_code == 409
    assert "somebody retired it already" in response.content.decode()


@pytest.mark.parametrize(("text", "sentence"), [("", "required"), ("x" * 2_001, "at most 2000")])
def test_a_note_that_cannot_be_kept_says_why_and_is_not_lost(
    bobs_browser: Client, campaign: Campaign, text: str, sentence: str
) -> None:
    response = bobs_browser.post(f"/campaigns/{campaign.slug}/notes/", {"note": text})
    assert response.status_code == 422
    page = response.content.decode()
    assert sentence in page
    assert text in page
    assert not Note.objects.exists()


def test_more_notes_than_anybody_keeps_in_mind_are_refused(bobs_browser: Client, bob: User, campaign: Campaign) -> None:
    for number in range(notes.MAX_NOTES):
        notes.note(campaign, f"Note {number}", by=bob)
    response = bobs_browser.post(f"/campaigns/{campaign.slug}/notes/", {"note": "One more"})
    assert "20 notes hold already; retire one that is done" in response.content.decode()


def test_who_may_only_read_cannot_steer(alice: User, campaign: Campaign) -> None:
    response = browser_of(alice).post(f"/campaigns/{campaign.slug}/notes/", {"note": "Mine"})
    assert response.status_code == 403
    assert "note-form" not in text_of(browser_of(alice), f"/campaigns/{campaign.slug}/")
    assert not Note.objects.exists()


def test_another_campaigns_note_is_not_reached_through_this_one(
    bobs_browser: Client, bob: User, campaign: Campaign
) -> None:
    other = builders.make_campaign(slug="other")
    written = notes.note(other, "Theirs", by=bob)
    assert bobs_browser.post(f"/campaigns/{campaign.slug}/notes/{written.pk}/retire/").status_code == 409
    written.refresh_from_db()
    assert written.retired_at is None


@pytest.mark.browser
def test_what_bob_is_typing_survives_news(bobs_browser: Client, campaign: Campaign) -> None:
    address = f"/campaigns/{campaign.slug}/"
    answers = rendered(bobs_browser, address)
    (news,) = rendered(bobs_browser, address, headers={"HX-Request": "true"}).values()

    def serve_news(route: Route) -> None:
        if route.request.headers.get("hx-request"):
            route.fulfill(status=news[0], headers=news[1], body=news[2].replace(b"First campaign", b"Renamed"))
        else:
            route.fallback()

    def look(page: Page) -> str:
        page.route(f"**{address}", serve_news)
        page.goto(HOST + address)
        page.fill("#note", "half a sent")
        page.evaluate("htmx.trigger('#campaign', 'nudge')")
        page.get_by_role("heading", name="Renamed").wait_for()
        return page.input_value("#note")

    assert in_browser(Site(answers), look) == "half a sent"


def test_the_campaign_shows_claudes_account_once_it_has_cost_something(
    bobs_browser: Client, campaign: Campaign
) -> None:
    address = f"/campaigns/{campaign.slug}/"
    assert "Claude’s account" not in text_of(bobs_browser, address)
    usage = {"input_tokens": 1_000, "cache_write_tokens": 0, "cache_read_tokens": 3_000, "output_tokens": 200}
    usage |= {"model": "claude-opus-5-5", "purpose": "revise", "stop_reason": "end_turn", "seconds": 61.0}
    campaign.ledger.create(kind="claude", usd="0.25", usage=usage)
    page = text_of(bobs_browser, address).split("Claude’s account")[1]
    assert "75" in page and "$0.25" in page and "Revisions" in page
