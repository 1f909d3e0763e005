"""A number that is too good waits for a person, holds nobody up, and counts for what the person says."""

from __future__ import annotations

import math

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from research import lifecycle, statistics
from research.judge import judge
from research.loop import tasks
from research.models import Campaign, Event, Proposal, Run, Score
from research.record import audit, events, kinds, learn
from research.review import decisions, quarantined
from research.runs import dispatch, ending
from tests import builders
from tests.conftest import Bells


@pytest.fixture
def campaign() -> Campaign:
    return builders.make_campaign(min_pairs=2, max_pairs=6)


def history(campaign: Campaign, scores: list[float]) -> None:
    """Believed scores of the incumbent, as so many seeds left them."""
    dispatch.advance(campaign)
    like = campaign.runs.filter(purpose="baseline").latest("pk")
    for number, val_bpb in enumerate(scores):
        run = Run.objects.create(
            campaign=campaign, incumbent=like.incumbent, purpose="baseline", seed=500 + number, state="finished",
            approval=like.approval, digest=like.digest, hardware_class="cpu-x86_64",
        )  # fmt: skip
        rows = [run, Score.objects.create(run=run, outcome="ok", val_bpb=val_bpb, seconds=1.0)]
        with transaction.atomic():
            fact = kinds.RUN["finished"](val_bpb=val_bpb, outcome="ok")
            events.record(fact, "It finished", by="worker:w", campaign=campaign, run=run, rows=rows)


STEADY = [1.600, 1.602, 1.598, 1.601, 1.599, 1.603, 1.597, 1.600, 1.601, 1.599]


def first_seed(val_bpb: float) -> Run:
    return builders.finish(builders.claim_candidate(), val_bpb=val_bpb)


@pytest.fixture
def waiting(campaign: Campaign, bob: User) -> Run:
    """A candidate at half of what anybody ever had."""
    history(campaign, STEADY)
    builders.make_approved(campaign, bob)
    return first_seed(0.8)


def proposal_of(run: Run) -> Proposal:
    assert run.revision is not None
    return Proposal.objects.get(pk=run.revision.proposal_id)


pytestmark = pytest.mark.django_db(transaction=True)


# --- what is too good ----------------------------------------------------------------------------


def test_a_number_far_beyond_the_history_waits_with_the_numbers_in_a_sentence(waiting: Run) -> None:
    assert (waiting.state, waiting.score.outcome, waiting.score.val_bpb) == ("finished", "quarantined", 0.8)
    (reason,) = waiting.score.reasons
    assert reason.startswith("0.8000 bits per byte is 50.0 standard deviations better than the last 11 scores")
    assert "median 1.6000" in reason
    assert "taken as 0.0160" in reason
    assert proposal_of(waiting).state == "running"
    assert Event.objects.get(kind="run.finished", run=waiting).sentence.endswith("(quarantined)")


@pytest.mark.parametrize(
    ("scores", "val_bpb", "outcome"),
    [
        (STEADY, 1.53, "ok"),  # a great gain of 4.4 %
        (STEADY, 1.51, "quarantined"),
        (STEADY, 9.0, "ok"),  # worse is never too good
        (STEADY[:6], 0.8, "ok"),  # and the incumbent: too few to say
        ([*STEADY, 9.0, 8.0, 7.5], 1.53, "ok"),  # three that diverged move neither middle nor spread
        ([1.6] * 9, 1.55, "ok"),  # the spread is 0, its floor is not
        ([1.2, 1.4, 1.6, 1.8] * 3, 0.8, "ok"),  # a restless history allows for more
        ([0.8] * 30 + [1.6] * 30, 1.2, "quarantined"),  # only the last 30 count
    ],
)
def test_how_good_is_too_good(campaign: Campaign, bob: User, scores: list[float], val_bpb: float, outcome: str) -> None:
    history(campaign, scores)
    builders.make_approved(campaign, bob)
    assert first_seed(val_bpb).score.outcome == outcome


@pytest.mark.parametrize("field", ["dataset_sha256", "scorer_version", "budget"])
def test_scores_under_other_conditions_are_no_history(campaign: Campaign, bob: User, field: str) -> None:
    history(campaign, STEADY)
    other = {"budget": {"kind": "tokens", "amount": 1.0}}.get(field, "other")
    for run in Run.objects.filter(seed__gte=500):
        run.approval[field] = other
        run.save()
    builders.make_approved(campaign, bob)
    assert first_seed(0.8).score.outcome == "ok"


@given(st.lists(st.floats(0.1, 9), min_size=1, max_size=30), st.floats(0.1, 9), st.integers(0, 29))
def test_one_score_of_many_moves_the_middle_no_further_than_its_neighbours(
    scores: list[float], freak: float, at: int
) -> None:
    centre, sd = statistics.robust_centre_sd(scores)
    assert min(scores) <= centre <= max(scores)
    assert 0 <= sd <= statistics.MAD_TO_SD * (max(scores) - min(scores)) + 1e-9
    if len(scores) > 2:
        moved, _ = statistics.robust_centre_sd([freak if i == at % len(scores) else s for i, s in enumerate(scores)])
        inner = sorted(scores)[len(scores) // 2 - 1 - (len(scores) % 2 == 0) : len(scores) // 2 + 2]
        assert min(inner) <= moved <= max(inner)
    assert math.isfinite(centre)


# --- who waits ------------------------------------------------------------------------------------


def test_it_gets_no_further_runs_and_no_verdict_until_a_person_has_looked(waiting: Run, campaign: Campaign) -> None:
    for _ in range(3):
        judge.consider(proposal_of(waiting))
        dispatch.advance(campaign)
    assert proposal_of(waiting).state == "running"
    worker = builders.make_worker()
    while (lease := builders.claim(worker)) is not None:
        assert lease.spec.purpose == "baseline"
        builders.finish(lease, val_bpb=1.6)
    assert waiting.revision is not None
    assert waiting.revision.runs.filter(purpose="candidate", state="queued").count() == 1


def test_the_next_proposal_runs_meanwhile(waiting: Run, campaign: Campaign, bob: User) -> None:
    builders.make_worker()
    follower = builders.make_approved(campaign, bob, title="Warm up for a while")
    assert builders.claim_candidate(builders.make_worker(name="other")).spec.title == follower.title
    follower.refresh_from_db()
    assert (follower.state, proposal_of(waiting).state) == ("running", "running")


# --- what a person says ------------------------------------------------------------------------------


def test_bob_accepts_the_number_and_judging_goes_on(waiting: Run, campaign: Campaign, bob: User, bells: Bells) -> None:
    quarantined.resolve(waiting.pk, choice="accept", reason="Read the diff: it trains on twice the data.", by=bob)
    score = Score.objects.get(run=waiting)
    assert (score.outcome, score.val_bpb, score.settled_by, score.settled_reason) == (
        "ok", 0.8, bob, "Read the diff: it trains on twice the data.",
    )  # fmt: skip
    assert score.reasons, "why it waited stays on record"
    assert ("control.run_ended", (waiting.pk,)) in bells
    event = Event.objects.get(kind="score.accepted")
    assert (event.by, event.run, event.payload["val_bpb"], event.payload["outcome"]) == ("user:bob", waiting, 0.8, "ok")
    audit.chain()
    assert audit.verify().findings == []
    tasks.run_ended(waiting.pk)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    assert (lease.spec.purpose, lease.spec.seed) == ("candidate", campaign.incumbent.seed(2))


def test_bob_disputes_the_number_and_the_proposal_ends_disputed(waiting: Run, bob: User) -> None:
    quarantined.resolve(waiting.pk, choice="dispute", reason="It reads the watch split in training.", by=bob)
    tasks.run_ended(waiting.pk)
    verdict = proposal_of(waiting).revision.verdict
    assert (verdict.outcome, verdict.effect_bpb) == ("disputed", None)
    assert "It reads the watch split in training." in verdict.reason
    assert "It reads the watch split" in learn.precedents(waiting.campaign)[0].reason
    assert Event.objects.filter(kind="score.disputed", run=waiting).exists()


def test_who_comes_second_is_told_and_changes_nothing(waiting: Run, bob: User) -> None:
    quarantined.resolve(waiting.pk, choice="accept", reason="Fine.", by=bob)
    with pytest.raises(lifecycle.LostRace, match="already ok"):
        quarantined.resolve(waiting.pk, choice="dispute", reason="Not fine.", by=bob)
    assert Score.objects.get(run=waiting).settled_reason == "Fine."
    assert Event.objects.filter(kind__startswith="score.").count() == 1


def test_only_a_reviewer_decides_and_nobody_on_their_own(
    campaign: Campaign, alice: User, bob: User, dana: User, charlie: User
) -> None:
    history(campaign, STEADY)
    proposal = builders.make_pending(campaign, arm="human", author=bob)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=dana)
    dispatch.advance(campaign)
    run = first_seed(0.8)
    for person in (alice, charlie, bob):
        with pytest.raises(PermissionDenied):
            quarantined.resolve(run.pk, choice="accept", reason="Trust me.", by=person)
    assert Score.objects.get(run=run).outcome == "quarantined"
    assert not Event.objects.filter(kind__startswith="score.").exists()


@pytest.mark.parametrize(("choice", "reason", "field"), [("accept", "  ", "reason"), ("shrug", "Well.", "choice")])
def test_a_decision_on_a_score_needs_words(waiting: Run, bob: User, choice: str, reason: str, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        quarantined.resolve(waiting.pk, choice=choice, reason=reason, by=bob)


def test_a_quarantine_without_a_number_can_only_be_disputed(waiting: Run, bob: User) -> None:
    Score.objects.filter(run=waiting).update(val_bpb=None)
    with pytest.raises(ValueError, match="no number to accept"):
        quarantined.resolve(waiting.pk, choice="accept", reason="Fine.", by=bob)


# --- the incumbent's own ----------------------------------------------------------------------------


def of_the_incumbent(campaign: Campaign, **score: object) -> Run:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    assert lease.spec.purpose == "baseline"
    return builders.finish(lease, **score)  # type: ignore[arg-type]


def test_a_quarantined_incumbent_pauses_its_campaign_and_accepting_lets_it_be_resumed(
    campaign: Campaign, bob: User
) -> None:
    run = of_the_incumbent(campaign, val_bpb=0.29, outcome="quarantined", reasons=["0.29 is below 0.3."])
    campaign.refresh_from_db()
    assert campaign.state == "paused"
    assert f"R-{run.pk} is quarantined: accept or dispute it there" in campaign.state_reason
    quarantined.resolve(run.pk, choice="accept", reason="The corpus is full of licences.", by=bob)
    tasks.run_ended(run.pk)
    campaign.refresh_from_db()
    ending.resume(campaign, by=bob, reason="looked at")
    dispatch.advance(campaign)
    assert learn.incumbent_bpb(run.incumbent) == 0.29
    assert campaign.runs.filter(purpose="baseline", seed=run.seed).count() == 1


def test_a_smoke_runs_number_is_nobodys_to_accept(campaign: Campaign, bob: User) -> None:
    from research.gates import process

    process.check(builders.make_proposal(campaign).revision)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    run = builders.finish(lease, val_bpb=0.1, outcome="quarantined", reasons=["0.1 is below 0.3."])
    assert proposal_of(run).state == "blocked"
    with pytest.raises(ValueError, match="its gate says"):
        quarantined.resolve(run.pk, choice="accept", reason="Fine.", by=bob)
