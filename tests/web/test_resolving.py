"""A score that waits for a person: where it is seen, who may say what it counts for."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from research.models import Event, Proposal, Run, Score
from research.review import decisions
from tests import builders
from tests.web.people import browser_of, text_of
from webapp.pages.chrome import chrome_of

pytestmark = pytest.mark.django_db(transaction=True)
HTMX = {"HX-Request": "true"}
SAID = {"choice": "accept", "reason": "I read the diff and the evidence."}


@pytest.fixture
def waiting(pending: Proposal, bob: User) -> Run:
    """A candidate below what text of this kind allows."""
    decisions.decide(pending.pk, digest=pending.revision.digest, choice="approve", by=bob)
    return builders.finish(
        builders.claim_candidate(), val_bpb=0.25, outcome="quarantined", reasons=["0.2500 is below 0.3."]
    )


def test_bob_finds_it_in_the_queue_opens_the_run_and_accepts_the_number(
    waiting: Run, bobs_browser: Client, pending: Proposal
) -> None:
    queue = text_of(bobs_browser, "/review/?queue=1")
    assert re.search(r"A score waits for a reviewer.*?Warm up for longer.*?too good to believe unseen", queue, re.S)
    case = text_of(bobs_browser, f"/proposals/{pending.pk}/")
    assert f'href="/runs/{waiting.pk}/#doubt-{waiting.pk}"' in case
    assert "A score waits for a reviewer" in case
    page = text_of(bobs_browser, f"/runs/{waiting.pk}/")
    assert "Quarantined: better than can be believed unseen" in page
    assert page.count(f'hx-post="/runs/{waiting.pk}/score/"') == 2
    response = bobs_browser.post(f"/runs/{waiting.pk}/score/", SAID)
    assert (response.status_code, response["Location"]) == (302, f"/runs/{waiting.pk}/")
    assert Score.objects.get(run=waiting).outcome == "ok"
    page = text_of(bobs_browser, f"/runs/{waiting.pk}/")
    assert "Accepted by Bob" in page
    assert "I read the diff and the evidence." in page
    assert "hx-post" not in page.split('id="doubt-')[1].split("</section>")[0]
    assert "A score waits for a reviewer" not in text_of(bobs_browser, "/review/?queue=1")


def test_with_htmx_the_panel_says_in_place_what_was_decided(waiting: Run, bobs_browser: Client) -> None:
    said = {"choice": "dispute", "reason": "It trains on the held-out text."}
    response = bobs_browser.post(f"/runs/{waiting.pk}/score/", said, headers=HTMX)
    text = response.content.decode()
    assert response.status_code == 200
    assert "<html" not in text
    assert "Disputed by Bob" in text
    assert "It trains on the held-out text." in text


@pytest.mark.parametrize(
    ("over", "said"),
    [({"reason": " "}, "Write what you looked at"), ({"choice": "shrug"}, "Select a valid choice")],
)
def test_a_refused_form_says_why_and_keeps_what_was_typed(
    waiting: Run, bobs_browser: Client, over: dict[str, str], said: str
) -> None:
    response = bobs_browser.post(f"/runs/{waiting.pk}/score/", SAID | over, headers=HTMX)
    assert response.status_code == 422
    if "choice" not in over:
        assert said in response.content.decode()
    assert Score.objects.get(run=waiting).outcome == "quarantined"


def test_whoever_comes_second_is_told_and_keeps_what_was_typed(waiting: Run, bobs_browser: Client) -> None:
    bobs_browser.post(f"/runs/{waiting.pk}/score/", SAID)
    response = bobs_browser.post(f"/runs/{waiting.pk}/score/", SAID | {"choice": "dispute"})
    assert response.status_code == 409
    assert "already ok" in response.content.decode()
    assert f"{SAID['reason']}</textarea>" in response.content.decode()
    assert Event.objects.filter(kind__startswith="score.").count() == 1


def test_alice_reads_it_and_cannot_decide(waiting: Run, alice: User) -> None:
    browser = browser_of(alice)
    assert "A reviewer who had no part in the change decides here" in text_of(browser, f"/runs/{waiting.pk}/")
    assert browser.post(f"/runs/{waiting.pk}/score/", SAID).status_code == 403
    assert Score.objects.get(run=waiting).outcome == "quarantined"


def test_the_author_is_offered_no_form_on_their_own_change(waiting: Run, pending: Proposal, bob: User) -> None:
    Proposal.objects.filter(pk=pending.pk).update(author=bob)
    browser = browser_of(bob)
    assert "hx-post" not in text_of(browser, f"/runs/{waiting.pk}/").split('id="doubt-')[1].split("</section>")[0]
    assert browser.post(f"/runs/{waiting.pk}/score/", SAID).status_code == 403


def test_charlie_the_stranger_reaches_nothing(waiting: Run, charlie: User) -> None:
    assert browser_of(charlie).post(f"/runs/{waiting.pk}/score/", SAID).status_code == 403
    assert Client().post(f"/runs/{waiting.pk}/score/", SAID).status_code == 302
    assert Score.objects.get(run=waiting).outcome == "quarantined"


def test_the_frame_counts_it_among_what_waits(waiting: Run, bob: User) -> None:
    assert chrome_of(bob).num_waiting == 1
