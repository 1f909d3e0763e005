"""A score that is not simply believed: what people read of it, and what the proposer does not."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from gpu_runner import contract
from research.arms.claude import prompt
from research.models import Proposal, Run
from research.propose import briefing
from research.record import learn
from research.review import decisions
from tests import builders
from tests.web.people import browser_of, text_of

pytestmark = pytest.mark.django_db(transaction=True)  # what a decision sets off comes on commit

PEEKED = contract.Place(row=41, position=1_737, cut=1_738, first_nats=0.0123, again_nats=4.5678, nats=4.5555)
MIXED = contract.Place(row=7, position=903, cut=None, first_nats=2.0, again_nats=2.25, nats=0.25)
EVIDENCE = contract.Evidence(
    num_asked=2_048, num_apart=2, tolerance_nats=1e-4, largest_nats=4.5555, places=[PEEKED, MIXED]
)
REASONS = [
    "Asked again by a fresh process, 2 of 2,048 prefixes got another answer.",
    "Row 41, position 1737: 0.0123 nats at first, 4.5678 with other text from position 1738 on.",
]


def end_with(pending: Proposal, bob: User, **score: Any) -> Run:
    """Bob approves; the candidate's first seed ends with this score."""
    decisions.decide(pending.pk, digest=pending.revision.digest, choice="approve", by=bob)
    return builders.finish(builders.claim_candidate(), **score)


@pytest.fixture
def disputed(pending: Proposal, bob: User) -> Run:
    return end_with(
        pending, bob, val_bpb=0.9, outcome="disputed", reasons=REASONS, evidence=EVIDENCE, self_reported_bpb=0.4321
    )


def test_alice_reads_place_by_place_why_her_score_is_disputed(disputed: Run, alice: User) -> None:
    assert disputed.revision is not None
    for address in (f"/runs/{disputed.pk}/", f"/proposals/{disputed.revision.proposal_id}/"):
        text = text_of(browser_of(alice), address)
        assert "Disputed: the model does not stand by its own answers" in text
        assert "What to do" in text
        assert "2 of 2,048 prefixes that were asked again got another answer" in text
        assert "row 41, position 1737" in text
        assert "other text from position 1738 on" in text
        assert "the same text, in other company" in text
        assert "4.5555" in text
        assert "2 places whose two answers differ" in text
        assert "self-reported 0.4321" in text.replace("\n", "")


def test_charlie_the_stranger_reads_none_of_it(disputed: Run, charlie: User) -> None:
    response = browser_of(charlie).get(f"/runs/{disputed.pk}/")
    assert response.status_code == 403
    assert b"1737" not in response.content


def test_the_proposer_reads_one_sentence_and_no_place(disputed: Run) -> None:
    (verdict,) = [p for p in learn.precedents(disputed.campaign) if p.outcome == "disputed"]
    assert "2 of 2,048 prefixes" in verdict.reason
    asked = str(prompt.propose(briefing.brief(disputed.campaign, 1)))
    assert "2 of 2,048 prefixes" in asked
    for place in ("1737", "1738", "4.5678"):
        assert place not in asked


def test_a_number_that_is_self_reported_ranks_nothing(disputed: Run, bobs_browser: Client) -> None:
    text = text_of(bobs_browser, f"/campaigns/{disputed.campaign.slug}/")
    assert "0.4321" not in text
    assert learn.incumbent_bpb(disputed.incumbent) == 1.6, "what the scorer said of its own run"


def test_a_score_that_is_believed_has_no_panel(pending: Proposal, bob: User, bobs_browser: Client) -> None:
    run = end_with(pending, bob, val_bpb=1.6, provenance={"parameters_sha256": "c0ffee" + "0" * 58})
    text = text_of(bobs_browser, f"/runs/{run.pk}/")
    assert "c0ff…0000" in text
    assert "never ranked" in text
    assert "What to do" not in text


def test_a_checkpoint_that_could_not_be_measured_says_what_to_do(
    pending: Proposal, bob: User, bobs_browser: Client
) -> None:
    run = end_with(pending, bob, val_bpb=None, outcome="failed", reasons=["The model gave logits that are not finite."])
    text = text_of(bobs_browser, f"/runs/{run.pk}/")
    assert "No score: the checkpoint could not be measured" in text
    assert "The model gave logits that are not finite." in text
    assert "COUNTERSIGN_KEEP_RUNS=1" in text


def test_a_score_says_on_its_runs_page_what_the_model_did_with_its_time(
    pending: Proposal, bob: User, bobs_browser: Client
) -> None:
    run = end_with(pending, bob, val_bpb=1.6, effort=builders.make_effort())
    text = text_of(bobs_browser, f"/runs/{run.pk}/")
    assert (
        "Processor time of the model: 0.14 s loading, 0.19 s until its first answer, 0.025 s each of 46 later ones,"
        " beside 0.97 s for Python and torch; 340 MiB of memory, a checkpoint of 130 MiB."
    ) in text


def test_a_model_that_did_more_than_answer_is_told_apart_from_one_that_looks_ahead(
    pending: Proposal, bob: User, alice: User
) -> None:
    same = contract.Evidence(num_asked=256, num_apart=0, tolerance_nats=1e-4, largest_nats=0.0, places=[])
    reason = "Before its first answer was out the model used 41.3 s of processor time more than an answer takes."
    too_much = builders.make_effort(first_s=41.3, other_mib=8.4, over=["start"])
    run = end_with(
        pending, bob, val_bpb=1.4, outcome="disputed", reasons=[reason], evidence=same, effort=too_much
    )  # fmt: skip
    text = text_of(browser_of(alice), f"/runs/{run.pk}/")
    assert "Disputed: it did more than answer" in text
    assert "does not stand by its own answers" not in text
    assert reason in text
    assert "Move training, searching and reading into train()" in text
    assert "All 256 prefixes that were asked again got the same answer" in text
    assert "41 s until its first answer" in text
    assert "8 MiB of the checkpoint are no floating-point numbers." in text
