"""In Chromium: pages are accessible in both themes and widths, and no key decides by accident."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from playwright.sync_api import Page

from research.models import Proposal
from research.propose import drafting, histories
from research.runs import dispatch
from tests import builders
from tests.history.tables import make_reading
from tests.web.accessibility import problems_of
from tests.web.chromium import HOST, Answer, Site, in_browser, once, rendered
from tests.web.people import judge_times
from webapp.pages.accounts import links

pytestmark = pytest.mark.browser


@pytest.fixture
def whole_site(request: pytest.FixtureRequest) -> Site:
    """One page of each kind, none of them empty."""
    people_and_rows = ("bobs_browser", "pending", "bob")
    return once("whole", lambda: _whole_site(*map(request.getfixturevalue, people_and_rows)))


def _whole_site(bobs_browser: Client, pending: Proposal, bob: User) -> Mapping[str, Answer]:
    campaign = pending.campaign
    bob.user_permissions.add(*Permission.objects.filter(codename__in=("add_campaign", "change_campaign")))
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    builders.make_manifest(builders.make_worker())
    builders.make_manifest(builders.make_worker(name="gpu-2"), sha256="e" * 64, tokenizer="unknown", is_scorable=False)
    run = builders.finish(lease, val_bpb=1.6)
    judge_times(pending, 2)
    blocked = builders.make_blocked(campaign)
    rebased = builders.make_pending(campaign, title="Asked twice")
    Proposal.objects.filter(pk=rebased.pk).update(state="stale")
    rebased.refresh_from_db()
    drafting.rebase(rebased)
    histories.bring(campaign, make_reading(), by=bob)
    judged = campaign.proposals.filter(state="judged").latest("pk")
    pages = (
        f"/proposals/{pending.pk}/", f"/proposals/{judged.pk}/", f"/proposals/{blocked.pk}/",
        f"/proposals/{rebased.pk}/", "/review/?queue=1", "/runs/", f"/runs/{run.pk}/",
        "/campaigns/", f"/campaigns/{campaign.slug}/", "/campaigns/new/", f"/campaigns/{campaign.slug}/settings/",
        f"/campaigns/{campaign.slug}/program/", f"/campaigns/{campaign.slug}/check/",
        f"/campaigns/{campaign.slug}/history/", f"/campaigns/{campaign.slug}/history/2/",
        "/datasets/", "/datasets/stdlib/", "/nowhere/",
    )  # fmt: skip
    answers = rendered(bobs_browser, *pages, f"/runs/{run.pk}/points.json?since=0")
    return answers | rendered(Client(), "/login/", f"/login/{links.make_link(bob)}/", "/login/used/")


@pytest.mark.django_db
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_is_accessible_and_fits(whole_site: Site, theme: str, width: int) -> None:
    pages = [address for address in whole_site.answers if "points.json" not in address]

    def look(page: Page) -> list[str]:
        return [problem for address in pages for problem in problems_of(page, address)]

    assert in_browser(whole_site, look, theme=theme, width=width) == []
    assert [line for line in whole_site.complaints if "404 (Not" not in line and "410 (Gone)" not in line] == []


def test_bob_opens_his_link_and_one_key_presses_its_button(bob: User) -> None:
    address = f"/login/{links.make_link(bob)}/"
    site = Site(rendered(Client(), address))

    def visit(page: Page) -> None:
        page.goto(HOST + address)
        with page.expect_response(lambda answer: answer.request.method == "POST"):
            page.keyboard.press("Enter")

    in_browser(site, visit, width=390)
    assert [where for where, _ in site.posted] == [address]
    assert site.complaints == []


@pytest.fixture
def proposal_site(bobs_browser: Client, pending: Proposal) -> Site:
    return Site(rendered(bobs_browser, f"/proposals/{pending.pk}/"))


def test_words_for_the_proposer_are_not_taken_for_keys(proposal_site: Site) -> None:
    (address,) = proposal_site.answers

    def write(page: Page) -> str:
        page.goto(HOST + address)
        page.keyboard.press("c")
        page.keyboard.type("a car, again")
        return page.input_value("#reason-request_changes")

    assert in_browser(proposal_site, write) == "a car, again"
    assert proposal_site.posted == []


@pytest.mark.parametrize("choice", ["reject", "request_changes"])
def test_whoever_clicks_a_panel_open_and_types_at_once_writes_into_it(proposal_site: Site, choice: str) -> None:
    (address,) = proposal_site.answers

    def write(page: Page) -> tuple[bool, str]:
        page.goto(HOST + address)
        page.click(f"#ask-{choice} > summary")
        page.keyboard.type("too bad a proposal")
        return page.url == HOST + address, page.evaluate("document.activeElement.closest('.panel') !== null")

    assert in_browser(proposal_site, write) == (True, True)
    assert proposal_site.posted == []


def test_a_key_approves_with_the_digest_that_is_on_the_screen(proposal_site: Site, pending: Proposal) -> None:
    (address,) = proposal_site.answers

    def approve(page: Page) -> None:
        page.goto(HOST + address)
        with page.expect_response("**/decision/"):
            page.keyboard.press("a")

    in_browser(proposal_site, approve)
    ((where, body),) = proposal_site.posted
    assert where == f"/proposals/{pending.pk}/decision/"
    assert f"digest={pending.revision.digest}" in body or pending.revision.digest in body
    assert "approve" in body


def test_single_keys_can_be_switched_off_on_this_device(proposal_site: Site) -> None:
    (address,) = proposal_site.answers

    def switch_off(page: Page) -> bool:
        page.goto(HOST + address)
        page.keyboard.press("?")
        page.uncheck("#keys-on")
        page.keyboard.press("Escape")
        page.reload()
        page.keyboard.press("a")
        page.keyboard.press("r")
        return page.evaluate("document.querySelector('details.ask[open]') !== null")  # type: ignore[no-any-return]

    assert in_browser(proposal_site, switch_off) is False
    assert proposal_site.posted == []


def test_what_is_being_typed_survives_news_from_the_campaign(
    proposal_site: Site, bobs_browser: Client, pending: Proposal
) -> None:
    (address,) = proposal_site.answers
    builders.make_proposal(pending.campaign, title="A newcomer in the queue")
    seen = f"{address}?seen={pending.revision.digest[:16]}.pending_review"
    news = rendered(bobs_browser, seen, headers={"HX-Request": "true"})
    site = Site({**proposal_site.answers, **news})

    def type_through(page: Page) -> tuple[str, str, bool]:
        page.goto(HOST + address)
        page.keyboard.press("c")
        page.keyboard.type("Half a ")
        page.locator("#review[data-htmx-powered]").wait_for()  # htmx listens a moment after the page has loaded
        page.evaluate("document.getElementById('review').dispatchEvent(new CustomEvent('nudge'))")
        page.get_by_text("A newcomer in the queue").wait_for(timeout=5_000)
        page.keyboard.type("sentence")
        still_open = page.evaluate("document.getElementById('ask-request_changes').open")
        return page.input_value("#reason-request_changes"), page.evaluate("document.activeElement.id"), still_open

    assert in_browser(site, type_through) == ("Half a sentence", "reason-request_changes", True)
