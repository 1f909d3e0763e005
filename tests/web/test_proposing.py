"""carol proposes by hand: through the same gates and the same queue, and somebody else decides."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.test import Client
from playwright.sync_api import Page

from research.models import Campaign, Proposal
from research.propose import drafting
from research.record import repository
from research.review import decisions
from tests import builders
from tests.web.accessibility import problems_of
from tests.web.chromium import HOST, Site, in_browser, rendered
from tests.web.people import browser_of, text_of

IDEA = {
    "title": "Two layers more",
    "hypothesis": "Depth pays here.",
    "mechanism": "",
    "refuted_if": "val_bpb does not fall",
    "effect_bpb": "-0.01",
    "low_bpb": "-0.03",
    "high_bpb": "0.01",
    "chance_percent": "25",
    "overrides": "depth = 4  # twice",
    "patch": "",
}


def test_her_experiment_enters_the_same_gates_and_the_same_queue(
    carols_browser: Client, carol: User, campaign: Campaign
) -> None:
    response = carols_browser.post(f"/campaigns/{campaign.slug}/propose/", IDEA)
    proposal = Proposal.objects.get()
    assert response["Location"] == f"/proposals/{proposal.pk}/"
    assert (proposal.arm, proposal.author, proposal.state) == ("human", carol, "drafted")
    revision = proposal.revision
    assert revision.overrides == [{"key": "depth", "value": 4, "reason": "twice"}]
    assert (revision.effect_bpb, revision.chance_to_win) == (-0.01, 0.25)
    builders.pass_gates(proposal)
    assert proposal.state == "pending_review"
    assert "stated before the run, by Carol</div>" in carols_browser.get(f"/proposals/{proposal.pk}/").text
    with pytest.raises(PermissionDenied, match="own proposal"):
        decisions.decide(proposal.pk, digest=revision.digest, choice="approve", by=carol)


def test_a_diff_of_her_clone_becomes_edits_that_can_be_rebased(carols_browser: Client, campaign: Campaign) -> None:
    files = repository.files_at(campaign, campaign.incumbent.commit)
    line = next(line for line in files["train.py"].splitlines() if "return F.linear(rms_norm(x)" in line)
    patch = f"--- a/train.py\n+++ b/train.py\n@@ -1,1 +1,1 @@\n-{line}\n+{line}  # as before\n"
    carols_browser.post(f"/campaigns/{campaign.slug}/propose/", IDEA | {"overrides": "", "patch": patch})
    revision = Proposal.objects.get().revision
    assert [edit["search"] for edit in revision.edits] == [f"{line}\n"]
    assert f"+{line}  # as before" in revision.patch


def test_what_could_hide_in_her_words_is_made_visible_as_in_claudes(carols_browser: Client, campaign: Campaign) -> None:
    typed = IDEA | {
        "title": "Two layers\u202e erom",
        "hypothesis": "Depth\u00a0pays.\r\nHere.",
        "overrides": "depth = 4  # twice\u200b",
    }
    carols_browser.post(f"/campaigns/{campaign.slug}/propose/", typed)
    proposal = Proposal.objects.get()
    assert (proposal.title, proposal.revision.hypothesis) == ("Two layers<U+202E> erom", "Depth pays.\nHere.")
    assert proposal.revision.overrides[0]["reason"] == "twice<U+200B>"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"title": ""}, "This field is required"),
        ({"overrides": "", "patch": ""}, "Change something"),
        ({"overrides": "depth"}, "line 1: write key = value"),
        ({"overrides": "depth = 400"}, "above its upper bound 32"),
        ({"overrides": "depths = 4"}, "not declared in recipe.toml"),
        ({"overrides": f"depth = {'[' * 3_000}"}, "must be a number"),
        ({"overrides": "depth = 2"}, "already the incumbent"),
        ({"patch": "nonsense"}, "not a unified diff"),
        (
            {"patch": "--- a/recipe.toml\n+++ b/recipe.toml\n@@ -1 +1 @@\n-[knobs.depth]\n+[knobs.deep]\n"},
            "not editable",
        ),
        ({"effect_bpb": "0.5"}, "in its interval"),
        ({"effect_bpb": "nan"}, "Enter a number"),
        ({"time_factor": "1.2"}, "Say both, time and memory, or neither"),
        ({"time_factor": "0", "memory_factor": "1"}, "greater than or equal to 0.01"),
        ({"risk": "none"}, "Select a valid choice"),
        ({"chance_percent": "140"}, "less than or equal to 100"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_nothing_is_lost(
    carols_browser: Client, campaign: Campaign, wrong: dict[str, Any], sentence: str
) -> None:
    response = carols_browser.post(f"/campaigns/{campaign.slug}/propose/", IDEA | wrong)
    page = response.content.decode().replace("&#x27;", "'")
    assert response.status_code == 422
    assert sentence in page
    assert "Depth pays here." in page
    assert not Proposal.objects.exists()


def test_she_may_say_what_she_thinks_of_risk_and_cost(carols_browser: Client, campaign: Campaign) -> None:
    said = {"risk": "heavier", "time_factor": "1.4", "memory_factor": "1.1", "why_together": "One alone says nothing."}
    carols_browser.post(f"/campaigns/{campaign.slug}/propose/", IDEA | said)
    revision = Proposal.objects.get().revision
    assert (revision.risk, revision.time_factor, revision.memory_factor) == ("heavier", 1.4, 1.1)
    assert revision.why_together == "One alone says nothing."


def test_what_she_does_not_say_is_missing_and_not_1(carols_browser: Client, campaign: Campaign) -> None:
    carols_browser.post(f"/campaigns/{campaign.slug}/propose/", IDEA)
    revision = Proposal.objects.get().revision
    assert (revision.risk, revision.time_factor, revision.memory_factor) == ("", None, None)


def test_who_may_not_propose_sees_no_button_and_gets_no_page(alice: User, campaign: Campaign) -> None:
    browser, address = browser_of(alice), f"/campaigns/{campaign.slug}/propose/"
    assert browser.get(address).status_code == browser.post(address, IDEA).status_code == 403
    assert address not in text_of(browser, f"/campaigns/{campaign.slug}/")
    with pytest.raises(PermissionDenied):
        drafting.by_hand(campaign, builders.make_draft(), by=alice)


def test_the_page_lists_every_knob_with_its_bounds(carols_browser: Client, campaign: Campaign) -> None:
    page = text_of(carols_browser, f"/campaigns/{campaign.slug}/propose/")
    assert "Now" in page
    for key in ("depth", "ngram_order", "cooldown_shape"):
        assert f'<td class="mono">{key}</td>' in page
    assert f"/campaigns/{campaign.slug}/propose/" in text_of(carols_browser, f"/campaigns/{campaign.slug}/")


@pytest.mark.browser
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_the_form_is_accessible_and_fits(carols_browser: Client, campaign: Campaign, theme: str, width: int) -> None:
    address = f"/campaigns/{campaign.slug}/propose/"
    site = Site(rendered(carols_browser, address))
    assert in_browser(site, lambda page: problems_of(page, address), theme=theme, width=width) == []


def test_on_the_page_of_her_own_proposal_nothing_is_offered_that_she_may_not_do(
    carols_browser: Client, carol: User, campaign: Campaign, bob: User
) -> None:
    hers = builders.pass_gates(builders.make_proposal(campaign, arm="human", author=carol))
    page = text_of(carols_browser, f"/proposals/{hers.pk}/")
    assert 'name="choice" value="approve"' not in page
    assert "Waits for another reviewer: you wrote it" in page
    assert f'href="/proposals/{hers.pk}/edit/"' in page
    assert 'id="ask-withdraw"' in page
    assert "Nothing waits for you" in text_of(carols_browser, "/review/")
    assert 'name="choice" value="approve"' in text_of(browser_of(bob), f"/proposals/{hers.pk}/")


def test_whoever_is_alone_in_a_house_is_told_that_nobody_can_decide_and_the_way_out(
    carols_browser: Client, carol: User, campaign: Campaign
) -> None:
    propose_page = f"/campaigns/{campaign.slug}/propose/"
    assert "Nobody else here may decide on it" in text_of(carols_browser, propose_page)
    hers = builders.pass_gates(builders.make_proposal(campaign, arm="human", author=carol))
    page = text_of(carols_browser, f"/proposals/{hers.pk}/")
    assert "You wrote it, and nobody else here may decide" in " ".join(page.split())
    assert "An administrator can add one." in page
    carol.is_superuser = True
    carol.save()
    assert 'href="/admin/auth/user/add/">Add an account</a>' in text_of(carols_browser, f"/proposals/{hers.pk}/")


def test_what_hides_in_her_diff_is_said_beside_the_diff(carols_browser: Client, campaign: Campaign) -> None:
    first = repository.files_at(campaign, campaign.incumbent.commit)["train.py"].split("\n")[0]
    patch = f"--- a/train.py\n+++ b/train.py\n@@ -1 +1,2 @@\n {first}\n+# a\u2028b\n"
    response = carols_browser.post(f"/campaigns/{campaign.slug}/propose/", IDEA | {"patch": patch})
    assert response.status_code == 422
    assert "U+2028" in str(response.context["form"].errors["patch"])
    assert response.context["form"].non_field_errors() == []


def test_a_refused_form_opens_at_its_first_field_that_is_wrong(carols_browser: Client, campaign: Campaign) -> None:
    address = f"/campaigns/{campaign.slug}/propose/"
    response = carols_browser.post(address, IDEA | {"patch": "@@\n+x\n", "chance_percent": "250"})
    site = Site({address: (200, {"Content-Type": "text/html"}, response.content)})

    def look(page: Page) -> tuple[str, bool]:
        page.goto(HOST + address)
        field = page.locator("#chance_percent")
        return page.evaluate("document.activeElement.id"), field.is_visible()

    assert in_browser(site, look, width=390) == ("chance_percent", True)
