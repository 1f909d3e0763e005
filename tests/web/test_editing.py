"""carol changes what Claude proposed: the gates look again, and somebody else decides."""

from __future__ import annotations

import html
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.test import Client

from research.change.drafts import Edit, Override, Prediction
from research.gates import process
from research.lifecycle import LostRace
from research.models import Campaign, Event, Proposal, Revision
from research.propose import drafting
from research.record import moves, repository
from research.record.rights import Part
from research.review import decisions, edit
from tests import builders
from tests.web.accessibility import problems_of
from tests.web.chromium import HOST, Site, in_browser, rendered
from tests.web.people import browser_of, text_of

SEARCH = "return F.linear(rms_norm(x)"


@pytest.fixture
def with_code(campaign: Campaign) -> Proposal:
    """Claude's, with an override, a reason of two lines, and a change of code."""
    line = next(line for line in _train(campaign).splitlines() if SEARCH in line)
    return builders.make_pending(
        campaign,
        arm="claude",
        prediction=Prediction(effect_bpb=-0.01, low_bpb=-0.03, high_bpb=0.01, chance_to_win=1 / 3),
        hypothesis="The first steps are too large.\n\nA longer warm-up lets them settle.",
        overrides=(Override(key="warmup_fraction", value=0.1, reason="twice\nas long"),),
        edits=(Edit(path="train.py", search=line, replace=f"{line}  # as before"),),
    )


def _train(campaign: Campaign) -> str:
    return repository.files_at(campaign, campaign.incumbent.commit)["train.py"]


def address_of(proposal: Proposal) -> str:
    return f"/proposals/{proposal.pk}/edit/"


def form_on(browser: Client, proposal: Proposal, **typed: str) -> dict[str, Any]:
    """The page's form as a browser would send it back, with what is ``typed`` over it."""
    response = browser.get(address_of(proposal))
    assert response.status_code == 200
    form = response.context["form"]
    values = {name: "" if form.initial[name] is None else str(form.initial[name]) for name in form.fields}
    return {name: value.replace("\n", "\r\n") for name, value in values.items()} | typed  # as browsers do


# --- the happy way --------------------------------------------------------------------------------


def test_her_edit_is_a_new_revision_that_goes_through_every_gate_and_asks_again(
    carols_browser: Client, carol: User, bob: User, with_code: Proposal
) -> None:
    typed = form_on(carols_browser, with_code, overrides="warmup_fraction = 0.08  # a little less")
    response = carols_browser.post(address_of(with_code), typed)
    assert response["Location"] == f"/proposals/{with_code.pk}/"
    with_code.refresh_from_db()
    first, second = with_code.revisions.order_by("number")
    assert (with_code.state, second.origin, second.author) == ("drafted", "edited", carol)
    assert (second.knobs, second.edits) == ({"warmup_fraction": 0.08}, first.edits)
    assert second.digest != first.digest
    told = Event.objects.filter(proposal=with_code).latest("pk")
    assert (told.kind, told.by) == ("proposal.drafted", "user:carol")
    assert "Carol edited" in told.sentence
    builders.pass_gates(with_code)
    assert with_code.state == "pending_review"
    with pytest.raises(PermissionDenied, match="own proposal"):
        decisions.decide(with_code.pk, digest=second.digest, choice="approve", by=carol)
    decisions.decide(with_code.pk, digest=second.digest, choice="approve", by=bob)


def test_what_she_leaves_alone_stays_to_the_letter(carols_browser: Client, with_code: Proposal) -> None:
    carols_browser.post(address_of(with_code), form_on(carols_browser, with_code, mechanism="Otherwise."))
    first, second = with_code.revisions.order_by("number")
    kept = "hypothesis refuted_if overrides edits patch effect_bpb low_bpb high_bpb chance_to_win digest".split()
    assert [getattr(second, name) for name in kept] == [getattr(first, name) for name in kept]
    assert second.mechanism == "Otherwise."


def test_the_diff_on_the_page_can_be_changed_in_place(carols_browser: Client, with_code: Proposal) -> None:
    typed = form_on(carols_browser, with_code)
    typed["patch"] = typed["patch"].replace("# as before", "# as ever")
    carols_browser.post(address_of(with_code), typed)
    assert "+" in with_code.revision.patch and "# as ever" in with_code.revision.patch
    page = text_of(carols_browser, f"/proposals/{with_code.pk}/")
    assert "Code differs in 1 file" in page
    assert "edited by Carol" in page


def test_the_reviewer_of_revision_2_sees_what_moved(bobs_browser: Client, carol: User, with_code: Proposal) -> None:
    typed = form_on(browser_of(carol), with_code, overrides="depth = 4  # instead", effect_bpb="-0.02")
    browser_of(carol).post(address_of(with_code), typed | {"refuted_if": "it does not fall"})
    builders.pass_gates(Proposal.objects.get(pk=with_code.pk))
    page = text_of(bobs_browser, f"/proposals/{with_code.pk}/")
    moved = page.split('id="changes-h"')[1].split("</section>")[0]
    for said in ("warmup_fraction", "<del>0.1</del>", "depth", "<ins>4</ins>", "−0.0200", "Counts as refuted if"):
        assert said in moved
    assert "Code" not in moved
    assert "stated before the run, by Carol" in page


@pytest.mark.parametrize("state", ["blocked", "changes_requested"])
def test_what_is_blocked_or_sent_back_can_be_edited_too(
    carols_browser: Client, bob: User, with_code: Proposal, state: str
) -> None:
    if state == "blocked":
        Proposal.objects.filter(pk=with_code.pk).update(state="blocked")
    else:
        digest = with_code.revision.digest
        decisions.decide(with_code.pk, digest=digest, choice="request_changes", by=bob, reason="Less of it.")
    assert address_of(with_code) in text_of(carols_browser, f"/proposals/{with_code.pk}/")
    typed = form_on(carols_browser, with_code, overrides="warmup_fraction = 0.05")
    assert carols_browser.post(address_of(with_code), typed).status_code == 302
    assert Proposal.objects.get(pk=with_code.pk).state == "drafted"


# --- who decides then -----------------------------------------------------------------------------


def test_the_page_says_before_she_saves_that_somebody_else_will_decide(
    carols_browser: Client, bob: User, pending: Proposal
) -> None:
    page = text_of(carols_browser, address_of(pending))
    assert "once you have edited it you cannot" in page
    assert "One other reviewer decides on it" in page


def test_in_a_house_where_nobody_else_could_decide_it_says_that(carols_browser: Client, pending: Proposal) -> None:
    assert "Nobody else here may decide" in text_of(carols_browser, address_of(pending))


def test_a_person_is_not_answered_for_by_the_proposer(carol: User, bob: User, campaign: Campaign) -> None:
    proposal = builders.make_pending(campaign, arm="human", author=carol)
    digest = proposal.revision.digest
    decisions.decide(proposal.pk, digest=digest, choice="request_changes", by=bob, reason="Less of it.")
    proposal.refresh_from_db()
    drafting.revise(proposal)
    proposal.refresh_from_db()
    assert proposal.state == "changes_requested"
    assert "Waits for its author" in text_of(browser_of(carol), f"/proposals/{proposal.pk}/")


# --- races ----------------------------------------------------------------------------------------


def test_a_proposal_that_moved_is_not_overwritten_and_nothing_typed_is_lost(
    carols_browser: Client, bob: User, with_code: Proposal
) -> None:
    typed = form_on(carols_browser, with_code, hypothesis="My own words.")
    draft = builders.make_draft(title="Bob's", overrides=(Override(key="depth", value=4, reason="deeper"),))
    edit.edit(with_code.pk, draft, number=1, digest=with_code.revision.digest, by=bob)
    builders.pass_gates(Proposal.objects.get(pk=with_code.pk))
    response = carols_browser.post(address_of(with_code), typed)
    page = html.unescape(response.content.decode())
    assert response.status_code == 409
    assert "My own words." in page and "# as before" in page
    assert "revision 2 is on the table now" in page and "What they changed meanwhile" in page
    assert with_code.revisions.count() == 2
    # She has read what bob did and saves hers in its place: the page now stands on his revision.
    again = carols_browser.post(address_of(with_code), typed | {"number": "2", "digest": with_code.revision.digest})
    assert again.status_code == 302
    assert with_code.revision.hypothesis == "My own words."


def test_once_approved_it_can_no_longer_be_edited(carols_browser: Client, bob: User, pending: Proposal) -> None:
    typed = form_on(carols_browser, pending, hypothesis="Too late.")
    decisions.decide(pending.pk, digest=pending.revision.digest, choice="approve", by=bob)
    response = carols_browser.post(address_of(pending), typed)
    assert response.status_code == 409
    assert "is already approved" in response.content.decode() and "Too late." in response.content.decode()
    assert carols_browser.get(address_of(pending)).status_code == 409
    assert pending.revisions.count() == 1


def test_a_refused_form_still_stands_on_what_was_on_the_screen(
    carols_browser: Client, bob: User, pending: Proposal
) -> None:
    typed = form_on(carols_browser, pending, overrides="depth = 400")
    draft = builders.make_draft(overrides=(Override(key="depth", value=4, reason="deeper"),))
    edit.edit(pending.pk, draft, number=1, digest=pending.revision.digest, by=bob)
    response = carols_browser.post(address_of(pending), typed)
    assert response.status_code == 422
    assert f'name="digest" value="{typed["digest"]}"' in response.content.decode()


def test_an_approval_of_the_words_that_were_shown_is_not_one_of_others(
    carols_browser: Client, bob: User, pending: Proposal
) -> None:
    shown = pending.revision
    carols_browser.post(address_of(pending), form_on(carols_browser, pending, chance_percent="90"))
    builders.pass_gates(Proposal.objects.get(pk=pending.pk))
    assert pending.revision.digest == shown.digest  # what would run is the same
    with pytest.raises(LostRace, match="changed while you read it"):
        decisions.decide(pending.pk, digest=shown.digest, number=shown.number, choice="approve", by=bob)


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, "Nothing differs from revision 1"),
        ({"overrides": "depth = 400"}, "above its upper bound 32"),
        ({"overrides": "", "patch": ""}, "Change something"),
        ({"patch": "nonsense"}, "not a unified diff"),
        ({"refuted_if": ""}, "This field is required"),
        ({"number": "x"}, "Enter a whole number"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_lost(
    carols_browser: Client, with_code: Proposal, wrong: dict[str, str], sentence: str
) -> None:
    response = carols_browser.post(address_of(with_code), form_on(carols_browser, with_code, **wrong))
    assert response.status_code == 422
    assert sentence in html.unescape(response.content.decode())
    assert with_code.revisions.count() == 1


def test_a_proposal_is_not_edited_for_ever(carols_browser: Client, pending: Proposal) -> None:
    Revision.objects.filter(pk=pending.revision.pk).update(number=drafting.MAX_REVISIONS)
    typed = form_on(carols_browser, pending, hypothesis="Once more.")
    response = carols_browser.post(address_of(pending), typed)
    assert "as many as one may have" in response.content.decode()


def test_alice_and_charlie_see_no_button_and_get_no_page(alice: User, charlie: User, pending: Proposal) -> None:
    for person in (alice, charlie):
        browser = browser_of(person)
        assert browser.get(address_of(pending)).status_code == browser.post(address_of(pending)).status_code == 403
    assert address_of(pending) not in text_of(browser_of(alice), f"/proposals/{pending.pk}/")
    with pytest.raises(PermissionDenied):
        edit.edit(pending.pk, builders.make_draft(), number=1, digest=pending.revision.digest, by=alice)


def test_code_that_a_person_put_into_a_catalogue_entry_is_no_longer_trusted(
    carols_browser: Client, campaign: Campaign, with_code: Proposal
) -> None:
    Proposal.objects.filter(pk=with_code.pk).update(arm="offline")
    with_code.refresh_from_db()
    assert process._context(with_code.revision).is_trusted
    carols_browser.post(address_of(with_code), form_on(carols_browser, with_code, hypothesis="Mine."))
    with_code.refresh_from_db()
    assert not process._context(with_code.revision).is_trusted
    moves.move_proposal(with_code, "checking", by=Part("test"), sentence="on")
    moves.move_proposal(with_code, "stale", by=Part("test"), sentence="and back")
    drafting.rebase(with_code)
    assert with_code.revision.origin == "rebased"
    assert not process._context(with_code.revision).is_trusted


# --- in a browser ---------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_the_pages_are_accessible_and_fit(carols_browser: Client, with_code: Proposal, theme: str, width: int) -> None:
    typed = form_on(carols_browser, with_code, overrides="depth = 4  # instead")
    typed["patch"] = typed["patch"].replace("# as before", "# as ever")
    edited = rendered(carols_browser, address_of(with_code))
    carols_browser.post(address_of(with_code), typed)
    builders.pass_gates(Proposal.objects.get(pk=with_code.pk))
    address = f"/proposals/{with_code.pk}/"
    site = Site(edited | rendered(carols_browser, address))
    found = in_browser(
        site, lambda page: [p for a in site.answers for p in problems_of(page, a)], theme=theme, width=width
    )
    assert found == []


@pytest.mark.browser
def test_the_key_e_opens_it(carols_browser: Client, pending: Proposal) -> None:
    address = f"/proposals/{pending.pk}/"
    site = Site(rendered(carols_browser, address, address_of(pending)))

    def press(page: Any) -> str:
        page.goto(HOST + address)
        page.keyboard.press("e")
        page.wait_for_url("**/edit/")
        return str(page.input_value("#hypothesis"))

    assert in_browser(site, press) == pending.revision.hypothesis
