"""A blocked proposal on its page, and one that was rebased: what stands there, and who may do what about it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page

from research.gates import process
from research.models import Campaign, Decision, Incumbent, Proposal
from research.propose import briefing, drafting
from research.record import repository
from research.review import decisions, edit, override
from tests import builders
from tests.web.accessibility import problems_of
from tests.web.chromium import HOST, Site, in_browser, rendered
from tests.web.people import browser_of, text_of

HTMX = {"HX-Request": "true"}


def shown(client: Client, proposal: Proposal, reason: str = "The import is dead code.") -> dict[str, str]:
    """The form as it stands on the page."""
    text = text_of(client, f"/proposals/{proposal.pk}/")
    fields = {
        name: re.search(rf'name="{name}" value="([0-9a-f]+)"', text) for name in ("digest", "number", "gates_sha256")
    }
    assert all(fields.values()), text
    return {name: found[1] for name, found in fields.items() if found} | {"reason": reason}


def test_two_reviewers_override_it_in_their_browsers(campaign: Campaign, bob: User, dana: User) -> None:
    blocked = builders.make_blocked(campaign)
    address = f"/proposals/{blocked.pk}/override/"
    first, second = browser_of(bob), browser_of(dana)
    assert first.post(address, shown(first, blocked)).status_code == 302
    text = text_of(first, f"/proposals/{blocked.pk}/")
    assert "Bob signed to override 1 gate; a second person has to sign" in text
    assert "The import is dead code." in text
    assert 'id="ask-override"' not in text  # he has signed
    response = second.post(address, shown(second, blocked), headers=HTMX)
    assert response.status_code == 200
    assert "carries your signature" in response.content.decode()
    blocked.refresh_from_db()
    assert blocked.state == "checking"
    assert "overridden" in text_of(second, f"/proposals/{blocked.pk}/")


def test_a_signature_without_a_reason_is_sent_back_with_its_panel_open(
    bobs_browser: Client, campaign: Campaign
) -> None:
    blocked = builders.make_blocked(campaign)
    form = shown(bobs_browser, blocked, reason=" ")
    response = bobs_browser.post(f"/proposals/{blocked.pk}/override/", form)
    assert response.status_code == 422
    text = response.content.decode()
    assert "Write why the gates are wrong here." in text
    assert re.search(r'<details class="ask" name="ask" id="ask-override" open>', text)
    assert not Decision.objects.exists()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_panel_that_is_sent_back_open_can_be_read(bobs_browser: Client, campaign: Campaign, theme: str) -> None:
    blocked = builders.make_blocked(campaign)
    address = f"/proposals/{blocked.pk}/override/"
    response = bobs_browser.post(address, shown(bobs_browser, blocked, reason=" "))
    site = Site({address: (200, {"Content-Type": response["Content-Type"]}, response.content)})
    assert in_browser(site, lambda page: problems_of(page, address), theme=theme) == []


def test_a_signature_on_an_old_page_is_told_what_happened(bobs_browser: Client, campaign: Campaign, dana: User) -> None:
    blocked = builders.make_blocked(campaign)
    form = shown(bobs_browser, blocked)
    override.withdraw(blocked.pk, reason="Nobody wants it.", by=dana)
    response = bobs_browser.post(f"/proposals/{blocked.pk}/override/", form)
    assert response.status_code == 409
    assert "Somebody was first" in response.content.decode()
    assert not Decision.objects.exists()


def test_a_signature_under_words_that_were_shown_is_not_one_under_others(
    bobs_browser: Client, campaign: Campaign, dana: User
) -> None:
    blocked = builders.make_blocked(campaign)
    form, revision = shown(bobs_browser, blocked), blocked.revision
    draft = replace(briefing.draft_of(revision), hypothesis="It is needed to send the weights home.")
    edit.edit(blocked.pk, draft, number=1, digest=revision.digest, by=dana)
    process.check(blocked.revision)
    assert blocked.revision.digest == revision.digest  # what would run is the same, and so is what the gates find
    response = bobs_browser.post(f"/proposals/{blocked.pk}/override/", form)
    assert (response.status_code, "revision 2 is on the table now" in response.content.decode()) == (409, True)
    assert not Decision.objects.exists()


def test_alice_and_a_stranger_are_offered_no_override_and_cannot_send_one(
    campaign: Campaign, alice: User, bob: User, charlie: User
) -> None:
    blocked = builders.make_blocked(campaign)
    form = shown(browser_of(bob), blocked)
    text = text_of(browser_of(alice), f"/proposals/{blocked.pk}/")
    assert "/override/" not in text and "/withdraw/" not in text
    for person in (alice, charlie):
        for act in ("override", "withdraw", "again"):
            response = browser_of(person).post(f"/proposals/{blocked.pk}/{act}/", form)
            assert response.status_code == 403, (person, act)
    blocked.refresh_from_db()
    assert blocked.state == "blocked"
    assert not Decision.objects.exists()


def test_a_house_with_one_reviewer_is_told_that_an_override_takes_two(bobs_browser: Client, campaign: Campaign) -> None:
    blocked = builders.make_blocked(campaign)
    text = text_of(bobs_browser, f"/proposals/{blocked.pk}/")
    assert "An override takes two reviewers, neither of them its author; here is one" in text


def test_a_gate_that_nobody_can_override_says_so(bobs_browser: Client, campaign: Campaign) -> None:
    blocked = builders.make_blocked(campaign, edits=(), overrides=(builders.make_override(key="depth", value=10_000),))
    text = text_of(bobs_browser, f"/proposals/{blocked.pk}/")
    assert "cannot be overridden" in text
    assert 'id="ask-override"' not in text


def test_a_page_with_an_override_on_it_says_that_it_is_old_when_somebody_signs(
    bobs_browser: Client, campaign: Campaign, dana: User
) -> None:
    blocked = builders.make_blocked(campaign)
    found = re.search(r"\?seen=([0-9a-f]+\.blocked)", text_of(bobs_browser, f"/proposals/{blocked.pk}/"))
    assert found is not None
    address = f"/proposals/{blocked.pk}/?seen={found[1]}"
    assert "HX-Retarget" not in bobs_browser.get(address, headers=HTMX)
    other = browser_of(dana)
    other.post(f"/proposals/{blocked.pk}/override/", shown(other, blocked))
    changed = bobs_browser.get(address, headers=HTMX)
    assert changed["HX-Retarget"] == "#news"


def test_bob_has_it_checked_again_and_withdraws_another(bobs_browser: Client, campaign: Campaign) -> None:
    first, second = builders.make_blocked(campaign), builders.make_blocked(campaign, title="Another")
    assert bobs_browser.post(f"/proposals/{first.pk}/again/").status_code == 302
    assert bobs_browser.post(f"/proposals/{second.pk}/withdraw/", {"reason": ""}).status_code == 422
    assert bobs_browser.post(f"/proposals/{second.pk}/withdraw/", {"reason": "Nobody wants it."}).status_code == 302
    assert Proposal.objects.get(pk=first.pk).state == "stale"
    assert Proposal.objects.get(pk=second.pk).state == "withdrawn"
    assert "Nobody wants it." in text_of(bobs_browser, f"/proposals/{second.pk}/")


def test_a_rebased_proposal_says_what_moved_and_that_the_approval_does_not_count(
    bobs_browser: Client, campaign: Campaign, bob: User
) -> None:
    proposal = builders.make_pending(campaign)
    old = proposal.revision
    decisions.decide(proposal.pk, digest=old.digest, choice="approve", by=bob)
    winner = builders.make_proposal(campaign, title="Deeper")
    Incumbent.objects.create(campaign=campaign, number=1, commit=_next_commit(campaign), proposal=winner)
    Proposal.objects.filter(pk=proposal.pk).update(state="stale")
    drafting.rebase(Proposal.objects.select_related("campaign").get(pk=proposal.pk))
    text = text_of(bobs_browser, f"/proposals/{proposal.pk}/")
    assert "Revision 2, rebased" in text
    assert "Rebased, and asked again" in text
    assert f"P-{winner.pk} Deeper</a> became the incumbent" in text
    assert "The approval of revision 1 by Bob" in text and "does not count for this one" in text
    assert old.incumbent.commit[:7] in text and campaign.incumbent.commit[:7] in text


def _next_commit(campaign: Campaign) -> str:
    """What a keep of another proposal would have made."""
    return repository.commit_keep(campaign, campaign.incumbent.commit, "", {"depth": 5}, "Deeper")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_what_a_gate_found_can_be_read_line_under_line(bobs_browser: Client, campaign: Campaign, width: int) -> None:
    address = f"/proposals/{builders.make_blocked(campaign).pk}/"
    site = Site(rendered(bobs_browser, address))

    def tops_and_bottoms(page: Page) -> list[list[float]]:
        page.goto(HOST + address)
        page.click(".found summary")
        boxes = "e => { const box = e.getBoundingClientRect(); return [box.top, box.bottom]; }"
        return page.evaluate(f"[...document.querySelector('.found li').children].map({boxes})")  # type: ignore[no-any-return]

    found = in_browser(site, tops_and_bottoms, width=width)
    assert len(found) == 4  # rule, place, line of code, sentence
    assert all(above[1] <= below[0] for above, below in pairwise(found))
