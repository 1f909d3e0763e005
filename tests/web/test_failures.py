"""What a person reads of a run that failed and of a campaign that stands still: whose doing, and the way out."""

from __future__ import annotations

from typing import get_args

import pytest
from django.test import Client
from playwright.sync_api import Page

from gpu_runner.contract import FAULT_OF, FailureKind
from research.models import Campaign, Proposal, Run
from research.record import moves
from research.record.rights import Part
from research.runs import dispatch
from tests import builders
from tests.web.chromium import HOST, Site, in_browser, rendered
from tests.web.people import text_of

TRACEBACK = '  File "train.py", line 312, in forward\n    x = torch.addcmul(x, y)\nRuntimeError: 128 is not 64'


@pytest.fixture
def failed(pending: Proposal) -> Run:
    dispatch.advance(pending.campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    return builders.fail(lease)


def page_of(browser: Client, run: Run, kind: str, message: str) -> str:
    Run.objects.filter(pk=run.pk).update(failure={"kind": kind, "message": message, "todo": "Look at it."})
    return " ".join(text_of(browser, f"/runs/{run.pk}/").split())


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_every_kind_of_failure_says_whose_doing_it_is(bobs_browser: Client, failed: Run, kind: FailureKind) -> None:
    page = page_of(bobs_browser, failed, kind, "It ended.")
    assert f"{kind.replace('_', ' ').capitalize()}: " in page
    blameless = FAULT_OF[kind] in ("machine", "operator")
    assert ("nothing is held against the recipe" in page) == blameless


def test_a_traceback_is_headed_by_what_was_raised_and_shown_line_by_line(bobs_browser: Client, failed: Run) -> None:
    page = page_of(bobs_browser, failed, "recipe_error", TRACEBACK)
    assert '<div class="h">RuntimeError: 128 is not 64</div>' in page
    assert "in forward\n    x = torch" in text_of(bobs_browser, f"/runs/{failed.pk}/").replace("&quot;", '"')
    assert "it gave none" in page


def test_what_ended_without_a_last_word_is_headed_by_our_sentence(bobs_browser: Client, failed: Run) -> None:
    page = page_of(bobs_browser, failed, "recipe_error", "Training ended with exit code 1.\nstep 3\nstep 4")
    assert '<div class="h">Training ended with exit code 1.</div>' in page


@pytest.mark.browser
def test_a_failure_without_a_single_blank_fits_on_a_phone(bobs_browser: Client, failed: Run) -> None:
    page_of(bobs_browser, failed, "machine_failed", "/a/path" * 60)
    address = f"/runs/{failed.pk}/"
    site = Site(rendered(bobs_browser, address, f"{address}points.json?since=0"))

    def sticks_out(page: Page) -> bool:
        page.goto(HOST + address, wait_until="networkidle")
        return page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.main'))")  # type: ignore[no-any-return]

    assert in_browser(site, sticks_out, width=390) is False


def test_a_campaign_that_stands_still_says_why_and_leads_to_the_run(bobs_browser: Client, campaign: Campaign) -> None:
    reason = "the incumbent's own score in R-12 is <b>quarantined: accept or dispute it there, then resume."
    moves.move_campaign(campaign, "paused", by=Part("control"), reason=reason)
    page = " ".join(text_of(bobs_browser, f"/campaigns/{campaign.slug}/").split())
    assert "Nothing new is proposed or trained until somebody resumes it" in page
    assert 'score in <a class="link" href="/runs/12/">R-12</a> is &lt;b&gt;quarantined' in page
