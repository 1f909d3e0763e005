"""Carol's campaign is about a number that its trainer reports itself: never a val_bpb, judged only if she says so."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_runner import contract
from research.gates import process
from research.models import Run, Verdict
from research.record import git, learn, repository, self_reported
from tests.builders import claim, finish, make_campaign, make_pending, make_proposal, make_worker
from tests.self_reported import ABOUT, make_running, train_all, word

pytestmark = pytest.mark.django_db


def test_self_reported_numbers_are_judged_among_themselves_where_the_campaign_says_so(bob: Any) -> None:
    campaign = make_campaign(judges_self_reported=True, **ABOUT)
    proposal = make_running(campaign, bob)
    train_all([2.0, 2.01, 1.99, 2.0], [3.0, 3.01, 3.0, 2.99])
    verdict = Verdict.objects.get(revision__proposal=proposal)
    assert verdict.outcome == "keep"
    assert verdict.reason.startswith("By self-reported val_loss, which nobody measured. Better: -1.0")
    assert "nats per token" in verdict.reason and "bpb" not in verdict.reason
    told = verdict.self_reported
    assert told is not None and verdict.num_pairs == len(told["pairs"]) == 3
    assert (told["metric"], told["direction"]) == ("val_loss", "lower")
    assert told["effect"] == pytest.approx(-1.0, abs=0.02) and told["low"] < told["effect"] < told["high"]
    assert {verdict.effect_bpb, verdict.low_bpb, verdict.candidate_bpb, verdict.incumbent_bpb} == {None}
    assert verdict.pairs == []
    assert not Run.objects.filter(score__val_bpb__isnull=False).exists()
    assert not Run.objects.filter(reads_sealed=True).exists(), "no sealed text confirms what nobody measured"
    campaign.refresh_from_db()
    assert campaign.incumbent.number == 1
    message = git.git("log", "-1", "--format=%B", campaign.incumbent.commit, cwd=repository.path_of(campaign))
    assert b"Self-reported-effect: -1.0" in message and b"bpb" not in message
    assert learn.noise(campaign).degrees_of_freedom == 0 and self_reported.noise(campaign)[1] == 2
    assert learn.incumbent_bpb(campaign.incumbent) is None


def test_higher_is_better_where_the_metric_says_so(bob: Any) -> None:
    campaign = make_campaign(judges_self_reported=True, metric="accuracy", direction="higher")
    proposal = make_running(campaign, bob)
    over = {"metric": "accuracy", "unit": "", "direction": "higher"}
    train_all([0.1, 0.11, 0.1, 0.1, 0.1, 0.1], [0.7, 0.71, 0.7, 0.7, 0.7, 0.7], **over)
    verdict = Verdict.objects.get(revision__proposal=proposal)
    assert verdict.outcome == "discard" and "Worse: -0.6" in verdict.reason and "accuracy over" in verdict.reason
    assert self_reported.mean(campaign.incumbent) == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize(
    ("fields", "over", "sentence"),
    [
        ({}, {}, "val_loss is self-reported: nobody measured it, and this campaign judges no such numbers"),
        ({"judges_self_reported": True}, {"metric": "loss"}, "It reports loss (lower is better), and the campaign is"),
        ({"judges_self_reported": True}, {"direction": "higher"}, "It reports val_loss (higher is better)"),
    ],
)
def test_what_the_campaign_does_not_judge_is_not_judged(
    bob: Any, fields: dict[str, Any], over: dict[str, Any], sentence: str
) -> None:
    campaign = make_campaign(**(ABOUT | fields))
    proposal = make_running(campaign, bob)
    train_all([1.0] * 6, [2.0] * 6, **over)
    verdict = Verdict.objects.get(revision__proposal=proposal)
    assert (verdict.outcome, verdict.self_reported, verdict.num_pairs) == ("inconclusive", None, 0)
    assert sentence in verdict.reason
    campaign.refresh_from_db()
    assert campaign.state == "active"


def test_a_trainer_without_seeds_proves_nothing_however_often_it_is_asked(bob: Any) -> None:
    campaign = make_campaign(judges_self_reported=True, **ABOUT)
    proposal = make_running(campaign, bob)
    train_all([1.0] * 6, [2.0] * 6)
    verdict = Verdict.objects.get(revision__proposal=proposal)
    assert verdict.outcome == "inconclusive" and "Every seed gave the same numbers" in verdict.reason


def test_a_word_is_never_compared_with_a_measurement(bob: Any) -> None:
    campaign = make_campaign(judges_self_reported=True, **ABOUT)
    proposal = make_running(campaign, bob)
    while (lease := claim(make_worker())) is not None:
        if lease.spec.purpose == "baseline":
            finish(lease, val_bpb=1.6)
        else:
            finish(lease, val_bpb=None, **word(1.0))
    proposal.refresh_from_db()
    assert proposal.state == "running" and not Verdict.objects.exists()


def test_a_smoke_run_that_said_nothing_is_for_a_person_to_look_at() -> None:
    proposal = make_proposal(make_campaign(**ABOUT))
    process.check(proposal.revision)
    lease = claim(make_worker())
    assert lease is not None
    run = finish(lease, val_bpb=None, **word(None, num_values=0))
    gate = proposal.revision.gates.get(name="smoke run")
    assert gate.outcome == "warned" and "did not say its val_loss within the smoke run" in gate.sentence
    assert run.num_tokens == 8_192, "as its points say"
    assert make_pending(make_campaign(slug="other")).state == "pending_review"


@pytest.mark.parametrize(
    "fields",
    [
        {"val_bpb": 1.0, "outcome": "self_reported"},
        {"val_bpb": None, "outcome": "self_reported", "self_reported": None},
    ],
)
def test_on_the_wire_a_word_is_no_val_bpb(fields: dict[str, Any]) -> None:
    said = word(1.0)["self_reported"]
    whole = {"self_reported": said, "reasons": [], "provenance": {}, "seconds": 0.0}
    with pytest.raises(ValueError, match="self"):
        contract.Score(**(whole | fields))
    with pytest.raises(ValueError, match="val_bpb is what the trusted scorer measures"):
        contract.SelfReported(metric="val_bpb", direction="lower", value=1.0)
