"""bob reads a wave as one design, and decides on each of its members."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from research.change.drafts import Draft, ExpectedCost, Origin, Override, Return
from research.models import Campaign, Gate, Proposal
from research.review import decisions
from tests import builders
from tests.web.accessibility import problems_of
from tests.web.chromium import Site, in_browser, rendered
from tests.web.people import browser_of, text_of

DESIGN = "Is the first tenth of the run too fast, or the whole of it? A ramp answers the one, a lower rate the other."
ORIGIN = Origin(model="claude-opus-5-5", prompt_sha256="1a" * 32, templates_sha256="2b" * 32)


def draft(title: str, **over: Any) -> Draft:
    return builders.make_draft(title=title, origin=ORIGIN, **over)


@pytest.fixture
def wave(campaign: Campaign) -> list[Proposal]:
    """Three members; the first two wait for bob."""
    rate = Override(key="matrix_lr", value=0.01, reason="half")
    both = {
        "overrides": (Override(key="warmup_fraction", value=0.2, reason="longer"), rate),
        "why_together": "A lower rate needs a shorter ramp.",
        "risk": "may_diverge",
        "cost": ExpectedCost(time_factor=1.1, memory_factor=1.0),
    }
    drafts = draft("A ramp first", risk="contained"), draft("A lower rate", **both), draft("Neither", overrides=(rate,))
    members = builders.make_wave(campaign, *drafts, design=DESIGN)
    for member in members[:2]:
        builders.pass_gates(member)
    return members


def test_the_page_of_a_member_shows_the_others_and_what_they_are_for(
    bobs_browser: Client, wave: list[Proposal]
) -> None:
    first, second, third = wave
    page = text_of(bobs_browser, f"/proposals/{second.pk}/")
    assert "2 of 3 in this wave" in page
    assert DESIGN in page
    card = page[page.index('id="wave-h"') : page.index("</section>", page.index('id="wave-h"'))]
    assert re.findall(r'href="/proposals/(\d+)/"', card) == [str(first.pk), str(third.pk)]
    assert re.findall(r'data-state="(\w+)"', card) == ["pending_review", "drafted"]


def test_a_proposal_that_came_alone_has_no_wave_card(bobs_browser: Client, pending: Proposal) -> None:
    assert 'id="wave-h"' not in text_of(bobs_browser, f"/proposals/{pending.pk}/")


def test_the_page_says_what_was_stated_beside_what_was_measured(bobs_browser: Client, wave: list[Proposal]) -> None:
    gate = Gate.objects.get(revision=wave[1].revision, name="smoke run")
    page = text_of(bobs_browser, f"/proposals/{wave[1].pk}/")
    assert "May diverge" in page
    assert "expected 1.10 × the incumbent’s" in page
    assert "not measured yet" in page
    assert "A lower rate needs a shorter ramp." in page
    Gate.objects.filter(pk=gate.pk).update(measured=gate.measured | {"slowdown": 1.9, "memory_ratio": 1.02})
    page = text_of(bobs_browser, f"/proposals/{wave[1].pk}/")
    assert '<span class="warn">1.90 × in the smoke run</span>' in page
    assert "<span>1.02 × in the smoke run</span>" in page


def test_the_page_names_the_model_and_both_hashes_of_what_it_was_asked(
    bobs_browser: Client, wave: list[Proposal]
) -> None:
    page = text_of(bobs_browser, f"/proposals/{wave[0].pk}/")
    for shown in ("claude-opus-5-5", ORIGIN.prompt_sha256, ORIGIN.templates_sha256):
        assert shown in page


def test_two_changes_without_a_reason_are_pointed_out(bobs_browser: Client, campaign: Campaign) -> None:
    two = (Override(key="warmup_fraction", value=0.2, reason="a"), Override(key="matrix_lr", value=0.01, reason="b"))
    proposal = builders.make_pending(campaign, overrides=two)
    assert "changes 2 things at once and does not say why" in text_of(bobs_browser, f"/proposals/{proposal.pk}/")


def test_what_comes_back_after_a_rejection_says_so_beside_the_rejection(
    bobs_browser: Client, bob: User, pending: Proposal
) -> None:
    digest = pending.revision.digest
    decisions.decide(pending.pk, digest=digest, choice="reject", by=bob, category="later", reason="Not at this size.")
    back = builders.make_pending(
        pending.campaign, returns=Return(proposal=pending.pk, what_changed="The rows are twice as long.")
    )
    page = text_of(bobs_browser, f"/proposals/{back.pk}/")
    assert "which was rejected" in page
    assert "Not at this size." in page
    assert "The rows are twice as long." in page


def test_a_decision_is_on_one_member_and_the_next_is_of_the_same_wave(
    bobs_browser: Client, wave: list[Proposal]
) -> None:
    first, second, _ = wave
    older = builders.make_pending(first.campaign, title="Older")
    Proposal.objects.filter(pk=older.pk).update(state_at="2026-01-01T00:00:00Z")
    answer = bobs_browser.post(
        f"/proposals/{first.pk}/decision/", {"digest": first.revision.digest, "number": 1, "choice": "approve"}
    )
    assert answer["Location"] == f"/proposals/{second.pk}/"
    second.refresh_from_db()
    assert second.state == "pending_review"
    assert second.revision.digest != first.revision.digest


def test_rows_of_one_wave_stand_together_with_a_mark(bobs_browser: Client, wave: list[Proposal]) -> None:
    between = builders.make_pending(wave[0].campaign, title="Between")
    Proposal.objects.filter(pk=wave[0].pk).update(state_at="2026-01-01T00:00:00Z")
    Proposal.objects.filter(pk=between.pk).update(state_at="2026-01-02T00:00:00Z")
    page = text_of(bobs_browser, "/review/?queue=1")
    rows = re.findall(r'<li class="item([^"]*)" id="row-(\d+)"', page)
    assert rows == [
        (" of-wave first", str(wave[0].pk)),
        (" of-wave last", str(wave[1].pk)),
        ("", str(between.pk)),
        ("", str(wave[2].pk)),
    ]


def test_charlie_the_stranger_sees_no_design(charlie: User, wave: list[Proposal]) -> None:
    answer = browser_of(charlie).get(f"/proposals/{wave[0].pk}/")
    assert answer.status_code == 403
    assert DESIGN not in answer.content.decode()


@pytest.mark.browser
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)])
def test_a_wave_is_accessible_and_fits(bobs_browser: Client, wave: list[Proposal], theme: str, width: int) -> None:
    addresses = [f"/proposals/{wave[1].pk}/", "/review/?queue=1"]
    site = Site(rendered(bobs_browser, *addresses))
    assert (
        in_browser(site, lambda page: [p for a in addresses for p in problems_of(page, a)], theme=theme, width=width)
        == []
    )
