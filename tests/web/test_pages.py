"""Pages: who sees what, what a decision does, what is said when a number is missing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from research.change.drafts import Edit
from research.models import Campaign, Proposal, Run, Verdict
from research.runs import dispatch
from tests import builders
from tests.web.people import browser_of, judge_times, text_of

HTMX = {"HX-Request": "true"}


def addresses(proposal: Proposal) -> list[str]:
    """Every page there is, with something on it."""
    run = Run.objects.latest("pk")
    fixed = ["/review/", "/runs/", "/campaigns/", "/datasets/", "/datasets/stdlib/", "/navigation/"]
    return [*fixed, f"/proposals/{proposal.pk}/", f"/runs/{run.pk}/", f"/campaigns/{proposal.campaign.slug}/"]


# --- who sees what ---------------------------------------------------------------------------


def test_somebody_who_is_not_signed_in_is_asked_to_and_comes_back_to_the_same_page(pending: Proposal) -> None:
    for address in addresses(pending):
        response = Client().get(address)
        assert response.status_code == 302
        assert response["Location"] == f"/login/?next={address}"


def test_a_fragment_is_not_replaced_by_the_sign_in_page_when_the_session_is_over(pending: Proposal) -> None:
    response = Client().get(f"/proposals/{pending.pk}/?seen=x", headers=HTMX)
    assert response.status_code == 401
    assert response["HX-Redirect"] == f"/login/?next=/proposals/{pending.pk}/"
    assert not response.content


def test_charlie_the_stranger_sees_no_page(charlie: User, pending: Proposal) -> None:
    for address in addresses(pending):
        response = browser_of(charlie).get(address)
        assert response.status_code == 403
        assert pending.title not in response.content.decode()


def test_alice_reads_every_page_and_is_offered_no_decision(alice: User, pending: Proposal) -> None:
    client = browser_of(alice)
    for address in addresses(pending):
        text = text_of(client, address)
        assert "/decision/" not in text
        assert "/stop/" not in text
        assert "/state/" not in text
    assert "Decisions need the reviewer role" in text_of(client, f"/proposals/{pending.pk}/")


def test_no_page_has_an_inline_script_or_a_style_that_is_more_than_a_custom_property(
    bobs_browser: Client, pending: Proposal
) -> None:
    for address in [*addresses(pending), "/login/", "/runs/999999/"]:
        page = bobs_browser.get(address, follow=True)
        text = page.content.decode()
        policy = page["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "script-src" not in policy
        assert not re.findall(r"<script(?![^>]*\bsrc=)", text), address
        assert not re.findall(r"\son[a-z]+=", text), address
        for style in re.findall(r'style="([^"]*)"', text):
            assert all(part.strip().startswith("--") for part in style.split(";") if part.strip()), style


# --- what is said ----------------------------------------------------------------------------


def test_before_any_run_was_measured_the_cost_is_a_dash_that_says_why(bobs_browser: Client, pending: Proposal) -> None:
    text = text_of(bobs_browser, f"/proposals/{pending.pk}/")
    assert "no run of this campaign has been measured yet" in text
    assert "Approving queues 6 to 14 runs" in text
    assert "Seed noise is not measured yet" in text


def test_the_cost_is_estimated_from_runs_that_were_measured(bobs_browser: Client, campaign: Campaign) -> None:
    Campaign.objects.update(usd_per_gpu_hour="3.60", budget_gpu_hours=10)
    campaign.refresh_from_db()
    pending = builders.make_pending(campaign)
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    assert lease.spec.purpose == "baseline"
    builders.finish(lease, val_bpb=1.6, device_s=40.0)
    text = text_of(bobs_browser, f"/proposals/{pending.pk}/")
    assert "Approving queues 5 to 13 runs, at most $0.52" in text  # 13 runs of 40 s at $3.60 an hour
    assert "10.0 GPU-h left becomes 9.8 at least" in text


def test_every_number_of_the_proposal_is_on_its_page(bobs_browser: Client, pending: Proposal) -> None:
    text = text_of(bobs_browser, f"/proposals/{pending.pk}/")
    revision = pending.revision
    assert "−0.0100" in text
    assert "80 % between −0.0300 and +0.0100" in text
    assert "30 %" in text
    assert revision.refuted_if in text
    assert "twice as long" in text
    assert f'value="{revision.digest}"' in text
    for gate in revision.gates.all():
        assert gate.sentence.replace("'", "&#x27;") in text


def test_what_the_proposer_wrote_is_text_and_never_markup(bobs_browser: Client, campaign: Campaign) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    first = campaign_line(campaign)
    edit = Edit(path="train.py", search=first, replace=f"{first}\n# {hostile}")
    proposal = builders.make_proposal(
        campaign, title=hostile, hypothesis=hostile, refuted_if=hostile, overrides=(), edits=(edit,)
    )
    text = text_of(bobs_browser, f"/proposals/{proposal.pk}/") + text_of(bobs_browser, f"/campaigns/{campaign.slug}/")
    assert hostile not in text
    assert text.count("&lt;img") >= 4


def campaign_line(campaign: Campaign) -> str:
    """A line that occurs once in the recipe's train.py."""
    from research.record import repository

    source = repository.files_at(campaign, campaign.incumbent.commit)["train.py"]
    return next(line for line in source.splitlines() if len(line) > 30 and source.count(line) == 1)


def test_the_diff_shows_what_is_added_with_its_line_number(bobs_browser: Client, campaign: Campaign) -> None:
    first = campaign_line(campaign)
    edit = Edit(path="train.py", search=first, replace=f"{first}\n# a new line")
    proposal = builders.make_proposal(campaign, overrides=(), edits=(edit,))
    text = text_of(bobs_browser, f"/proposals/{proposal.pk}/")
    assert re.search(r'(?s)<tr class="add">((?!</tr>).)*# a new line', text)
    assert '<span class="good num">+1</span> <span class="bad num">−0</span>' in text


def test_without_a_key_the_page_says_that_the_catalogue_proposes(
    bobs_browser: Client, pending: Proposal, settings: Any
) -> None:
    settings.ANTHROPIC_CONFIGURED = False
    assert "from a catalogue, not from Claude" in text_of(bobs_browser, "/review/")
    settings.ANTHROPIC_CONFIGURED = True
    assert "from a catalogue, not from Claude" not in text_of(bobs_browser, "/review/")


def test_under_ten_judged_a_campaign_shows_no_win_rate(bobs_browser: Client, pending: Proposal) -> None:
    judge_times(pending, 9)
    assert "too few to say, 9 of 10" in text_of(bobs_browser, f"/campaigns/{pending.campaign.slug}/")
    judge_times(pending, 1)
    text = text_of(bobs_browser, f"/campaigns/{pending.campaign.slug}/")
    assert "too few to say" not in text
    assert "0 %" in text
    assert text.count("Within noise") >= 10


def test_a_judged_proposal_shows_its_pairs_and_what_was_predicted(bobs_browser: Client, pending: Proposal) -> None:
    judge_times(pending, 1)
    judged = Verdict.objects.get().revision.proposal
    text = text_of(bobs_browser, f"/proposals/{judged.pk}/")
    assert "Within noise" in text
    assert "1 paired seeds. Differences" in text
    assert "−0.0500 to +0.0300" in text
    assert "held the outcome" in text
    assert "Approve" not in re.sub(r"<dialog.*?</dialog>", "", text, flags=re.S)


# --- errors, and what it costs to look --------------------------------------------------------


def test_a_page_that_does_not_exist_is_a_page(bobs_browser: Client, campaign: Campaign) -> None:
    for address in ("/proposals/999999/", "/runs/999999/", "/campaigns/none-such/", "/nowhere/"):
        response = bobs_browser.get(address)
        assert response.status_code == 404
        assert "There is nothing here" in response.content.decode()


def test_a_broken_page_gives_a_number_that_the_log_has(
    bobs_browser: Client, campaign: Campaign, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("webapp.pages.campaigns.campaign_list.campaigns", lambda: 1 / 0)
    bobs_browser.raise_request_exception = False
    response = bobs_browser.get("/campaigns/")
    assert response.status_code == 500
    number = re.search(r"error ([0-9a-f]{8})", response.content.decode())
    assert number is not None
    assert number[1] in caplog.text


def num_queries(client: Client, address: str) -> int:
    text_of(client, address)  # sessions and permissions are cached per request, prepared statements are not
    with CaptureQueriesContext(connection) as queries:
        text_of(client, address)
    return len(queries)


def test_thirty_rows_cost_as_many_queries_as_three(bobs_browser: Client, pending: Proposal) -> None:
    campaign = pending.campaign
    dispatch.advance(campaign)
    lists = ["/review/", "/runs/", "/campaigns/", f"/campaigns/{campaign.slug}/", f"/proposals/{pending.pk}/"]
    more_rows(pending, 3)
    few = {address: num_queries(bobs_browser, address) for address in lists}
    more_rows(pending, 27)
    assert {address: num_queries(bobs_browser, address) for address in lists} == few
    assert max(few.values()) <= 32, few


def more_rows(like: Proposal, count: int) -> None:
    """As many judged and open proposals, candidate runs and events more."""
    judge_times(like, count)
    fields = {"campaign": like.campaign, "incumbent": like.campaign.incumbent, "approval": like.revision.approval}
    for _ in range(count):
        open_one = builders.make_proposal(like.campaign)
        for state in ("finished", "queued"):
            Run.objects.create(
                **fields, revision=open_one.revision, purpose="candidate", state=state, device_s=30.0,
                seed=Run.objects.count() + 1_000, digest="d" * 64, ended_at=timezone.now(),
            )  # fmt: skip
