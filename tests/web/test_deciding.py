"""A decision is a row on the digest that was on the screen; whoever comes second is told."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from research.models import Campaign, Decision, Event, Proposal, Run
from research.runs import dispatch
from tests import builders
from tests.web.people import browser_of, text_of

HTMX = {"HX-Request": "true"}


def decision(proposal: Proposal, choice: str, **over: str) -> dict[str, str]:
    """The form as it stands on the page."""
    revision = proposal.revision
    return {"digest": revision.digest, "number": str(revision.number), "choice": choice} | over


# --- deciding --------------------------------------------------------------------------------


def test_bob_approves_and_goes_on_to_the_next_that_waits(bobs_browser: Client, bob: User, campaign: Campaign) -> None:
    first, second = builders.make_pending(campaign), builders.make_pending(campaign, title="Another")
    response = bobs_browser.post(f"/proposals/{first.pk}/decision/", decision(first, "approve"))
    assert response.status_code == 302
    assert response["Location"] == f"/proposals/{second.pk}/"
    taken = Decision.objects.get()
    assert (taken.by, taken.choice, taken.digest) == (bob, "approve", first.revision.digest)
    assert f"P-{first.pk} approved" in text_of(bobs_browser, response["Location"])


def test_with_htmx_the_next_proposal_arrives_in_place_with_its_address_and_the_focus(
    bobs_browser: Client, campaign: Campaign
) -> None:
    first, second = builders.make_pending(campaign), builders.make_pending(campaign, title="Another")
    response = bobs_browser.post(f"/proposals/{first.pk}/decision/", decision(first, "approve"), headers=HTMX)
    text = response.content.decode()
    assert response["HX-Push-Url"] == f"/proposals/{second.pk}/"
    assert "<html" not in text
    assert re.search(r'<h1 id="h" tabindex="-1" autofocus>Another</h1>', text)
    assert f"P-{first.pk} approved" in text


def test_a_rejection_needs_a_category_and_words(bobs_browser: Client, pending: Proposal) -> None:
    address = f"/proposals/{pending.pk}/decision/"
    response = bobs_browser.post(address, decision(pending, "reject", reason="We tried it."))
    assert response.status_code == 422
    text = response.content.decode()
    assert "Choose why it is rejected" in text
    assert "We tried it.</textarea>" in text  # nothing that was typed is lost
    assert re.search(r'<details class="ask" name="ask" id="ask-reject" open>', text)
    response = bobs_browser.post(address, decision(pending, "request_changes", reason="   "))
    assert response.status_code == 422
    assert not Decision.objects.exists()
    pending.refresh_from_db()
    assert pending.state == "pending_review"


def test_what_bob_wrote_is_not_lost_with_the_race(bobs_browser: Client, pending: Proposal) -> None:
    form = decision(pending, "reject", category="flawed", reason="A long <thought>.")
    Proposal.objects.filter(pk=pending.pk).update(state="stale")
    for extra in ({}, HTMX):
        response = bobs_browser.post(f"/proposals/{pending.pk}/decision/", form, headers=extra)
        assert response.status_code == 409
        assert "A long &lt;thought&gt;.</textarea>" in response.content.decode()


def test_a_form_that_does_not_say_which_revision_was_shown_decides_nothing(
    bobs_browser: Client, pending: Proposal
) -> None:
    form = decision(pending, "approve")
    for name in ("digest", "number"):
        rest = {key: value for key, value in form.items() if key != name}
        response = bobs_browser.post(f"/proposals/{pending.pk}/decision/", rest)
        assert (response.status_code, "This page is too old" in response.content.decode()) == (422, True), name
    assert not Decision.objects.exists()


def test_bob_rejects_with_words_that_the_history_then_quotes(bobs_browser: Client, pending: Proposal) -> None:
    words = decision(pending, "reject", category="already_known", reason="P-3 tried <this>.")
    assert bobs_browser.post(f"/proposals/{pending.pk}/decision/", words).status_code == 302
    text = text_of(bobs_browser, f"/proposals/{pending.pk}/")
    assert "Rejected by Bob (already known or tried): “P-3 tried &lt;this&gt;.”" in text


def test_whoever_comes_second_is_told_and_nothing_is_recorded(bobs_browser: Client, pending: Proposal) -> None:
    form = decision(pending, "approve")
    bobs_browser.post(f"/proposals/{pending.pk}/decision/", form)
    response = bobs_browser.post(f"/proposals/{pending.pk}/decision/", form)
    assert response.status_code == 409
    assert "Somebody was first" in response.content.decode()
    assert Decision.objects.count() == 1


def test_a_digest_that_was_not_on_the_screen_is_refused(bobs_browser: Client, pending: Proposal) -> None:
    response = bobs_browser.post(f"/proposals/{pending.pk}/decision/", decision(pending, "approve", digest="0" * 64))
    assert response.status_code == 409
    assert "changed while you read it" in response.content.decode()
    assert not Decision.objects.exists()


def test_alice_cannot_decide_by_sending_the_form_herself(alice: User, pending: Proposal) -> None:
    response = browser_of(alice).post(f"/proposals/{pending.pk}/decision/", decision(pending, "approve"))
    assert response.status_code == 403
    assert not Decision.objects.exists()


def test_a_form_without_its_token_changes_nothing(bob: User, pending: Proposal) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)
    response = client.post(f"/proposals/{pending.pk}/decision/", decision(pending, "approve"))
    assert response.status_code == 403
    assert "Nothing was saved: reload the page" in response.content.decode()
    assert not Decision.objects.exists()


def test_what_bob_wrote_is_not_lost_with_the_token_of_an_old_form(bob: User, pending: Proposal) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(bob)
    words = decision(pending, "reject", reason="Too <dear> for what it may bring")
    part = client.post(f"/proposals/{pending.pk}/decision/", words, headers=HTMX)
    assert part.status_code == 403
    assert "What you wrote, to copy" in part.content.decode()
    assert "Too &lt;dear&gt; for what it may bring" in part.content.decode()
    whole = client.post(f"/proposals/{pending.pk}/decision/", words)
    assert "for what it may bring" not in whole.content.decode(), "another site may have written it"


def test_what_bob_wrote_stays_on_his_page_when_he_was_signed_out_meanwhile(pending: Proposal) -> None:
    written = Client().post(
        f"/proposals/{pending.pk}/decision/", decision(pending, "reject", reason="No"), headers=HTMX
    )
    assert (written.status_code, written.content, written.get("HX-Redirect")) == (401, b"", None)
    nothing = Client().post(f"/proposals/{pending.pk}/decision/", decision(pending, "approve"), headers=HTMX)
    assert nothing["HX-Redirect"].startswith("/login/")


@pytest.mark.parametrize(("path", "code"), [("/campaigns/", 200), ("/runs/", 200), ("/runs/999/", 404)])
def test_a_part_of_a_page_is_marked_as_ours(bobs_browser: Client, path: str, code: int) -> None:
    part, whole = bobs_browser.get(path, headers=HTMX), bobs_browser.get(path)
    assert (part.status_code, part["Countersign-Part"]) == (code, "1")
    assert "Countersign-Part" not in whole


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_what_cannot_be_read_is_said_in_our_own_words(
    bobs_browser: Client, pending: Proposal, headers: dict[str, str]
) -> None:
    many = {f"field{n}": "1" for n in range(1_500)}
    for answer in (
        bobs_browser.post(f"/proposals/{pending.pk}/decision/", many, headers=headers),
        bobs_browser.get("/", headers=headers | {"Host": "elsewhere.example"}),
    ):
        assert answer.status_code == 400
        assert "This could not be read" in answer.content.decode()
        assert ("<html" in answer.content.decode()) == (headers == {})
        assert "Countersign-Part" not in answer, "what bob wrote stays where it is"


def test_a_page_with_a_decision_on_it_never_changes_under_the_readers_hand(
    bobs_browser: Client, pending: Proposal
) -> None:
    seen = re.search(r"\?seen=([0-9a-f]+\.pending_review)", text_of(bobs_browser, f"/proposals/{pending.pk}/"))
    assert seen is not None
    address = f"/proposals/{pending.pk}/?seen={seen[1]}"
    same = bobs_browser.get(address, headers=HTMX)
    assert "HX-Retarget" not in same
    assert pending.title in same.content.decode()
    Proposal.objects.filter(pk=pending.pk).update(state="approved")
    changed = bobs_browser.get(address, headers=HTMX)
    assert changed["HX-Retarget"] == "#news"
    assert "This changed while you were reading" in changed.content.decode()
    assert "<form" not in changed.content.decode()


# --- steering --------------------------------------------------------------------------------


def test_bob_pauses_and_resumes_and_alice_may_not(bob: User, alice: User, campaign: Campaign) -> None:
    address = f"/campaigns/{campaign.slug}/state/"
    assert browser_of(alice).post(address, {"state": "paused"}).status_code == 403
    assert browser_of(bob).post(address, {"state": "paused", "reason": "the cluster moves"}).status_code == 302
    campaign.refresh_from_db()
    assert (campaign.state, campaign.state_reason) == ("paused", "the cluster moves")
    assert browser_of(bob).post(address, {"state": "active"}).status_code == 302
    assert [e.by for e in Event.objects.filter(kind__startswith="campaign.").order_by("pk")[1:]] == ["user:bob"] * 2


def test_a_campaign_that_is_paused_already_says_so_instead_of_failing(bobs_browser: Client, campaign: Campaign) -> None:
    address = f"/campaigns/{campaign.slug}/state/"
    bobs_browser.post(address, {"state": "paused"})
    assert bobs_browser.post(address, {"state": "paused"}).status_code == 409
    assert bobs_browser.post(address, {"state": "spent"}).status_code == 409


def test_bob_stops_a_live_run_with_a_reason(bobs_browser: Client, alice: User, campaign: Campaign) -> None:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    address = f"/runs/{lease.spec.run_id}/stop/"
    assert browser_of(alice).post(address).status_code == 403
    assert bobs_browser.post(address, {"reason": "wrong seed"}).status_code == 302
    assert Run.objects.get(pk=lease.spec.run_id).stop_reason == "wrong seed"
    assert "Told to stop with its next report" in text_of(bobs_browser, f"/runs/{lease.spec.run_id}/")


def test_a_failed_run_says_why_and_what_to_do(bobs_browser: Client, campaign: Campaign) -> None:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    builders.fail(lease)
    text = text_of(bobs_browser, f"/runs/{lease.spec.run_id}/")
    assert "It ran out of memory at step 3." in text
    assert "Make the batch smaller." in text
