"""A proposal's time beside its budget is held against its incumbent's: that is measured first, and sent along."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from gpu_runner import contract
from research.gates import process
from research.loop import tasks
from research.models import Campaign, Proposal, Run
from research.record import moves
from research.review import decisions
from research.runs import dispatch, report
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)


def approved(campaign: Campaign, bob: User) -> Proposal:
    """One that bob approved, and whose runs are queued before all others."""
    proposal = builders.make_approved(campaign, bob)
    dispatch.advance(campaign)
    Run.objects.filter(purpose="candidate").update(rank=0)
    return proposal


def claim() -> contract.Lease:
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    return lease


def test_no_candidate_trains_before_its_incumbent_was_measured(campaign: Campaign, bob: User) -> None:
    approved(campaign, bob)
    first, second = claim(), builders.claim(builders.make_worker(name="other"))
    assert second is not None
    assert (first.spec.purpose, second.spec.purpose) == ("baseline", "baseline")
    assert first.spec.usual is None
    builders.finish(first, val_bpb=1.5)
    assert (lease := claim()).spec.purpose == "candidate"
    assert lease.spec.usual == builders.make_spent()


def test_a_candidate_is_held_against_the_most_of_what_its_incumbent_used(campaign: Campaign, bob: User) -> None:
    approved(campaign, bob)
    leases = [builders.claim(builders.make_worker(name=name)) for name in ("one", "two")]
    for lease, over in zip(leases, ({"before_cpu_s": 2.5}, {"after_cpu_s": 0.75}), strict=True):
        assert lease is not None
        builders.finish(lease, val_bpb=1.5, spent=builders.make_spent(**over))
    assert claim().spec.usual == builders.make_spent(before_cpu_s=2.5, after_cpu_s=0.75)


def test_a_number_that_one_of_its_runs_lacks_is_not_made_up(campaign: Campaign, bob: User) -> None:
    approved(campaign, bob)
    leases = [builders.claim(builders.make_worker(name=name)) for name in ("one", "two")]
    for lease, cpu_s in zip(leases, (2.5, None), strict=True):
        assert lease is not None
        builders.finish(lease, val_bpb=1.5, spent=builders.make_spent(before_cpu_s=cpu_s))
    usual = claim().spec.usual
    assert usual is not None
    assert (usual.before_cpu_s, usual.train_cpu_s) == (None, 48.0)


def test_where_the_incumbent_was_scored_before_anybody_measured_candidates_go_on(campaign: Campaign, bob: User) -> None:
    approved(campaign, bob)
    while (lease := builders.claim(builders.make_worker())) and lease.spec.purpose == "baseline":
        builders.finish(lease, val_bpb=1.5)
        Run.objects.filter(purpose="baseline").update(spent=None)
    assert lease is not None
    assert (lease.spec.purpose, lease.spec.usual) == ("candidate", None)


def test_what_a_run_used_is_kept_however_it_ended(campaign: Campaign) -> None:
    dispatch.advance(campaign)
    lease = claim()
    failure = contract.Failure(kind="over_budget", message="Over budget: 9 s before its first text.")
    last = contract.RunEnd(
        fence=lease.spec.fence, outcome="failed", failure=failure, device_s=3.0, spent=builders.make_spent()
    )
    report.end(report.leased(lease.spec.run_id, lease.token), last)
    run = Run.objects.get(pk=lease.spec.run_id)
    assert (run.state, run.failure["kind"]) == ("failed", "over_budget")
    assert contract.Spent.model_validate(run.spent) == builders.make_spent()


def test_an_incumbents_run_that_failed_measured_nothing(campaign: Campaign, bob: User) -> None:
    """Else a candidate would precede the next try, and be held by nothing."""
    approved(campaign, bob)
    lease = claim()
    failure = contract.Failure(kind="scorer_failed", message="The scorer failed and gave no reason.")
    last = contract.RunEnd(
        fence=lease.spec.fence, outcome="failed", failure=failure, device_s=3.0, spent=builders.make_spent()
    )
    report.end(report.leased(lease.spec.run_id, lease.token), last)
    campaign.refresh_from_db()
    assert campaign.state == "paused"
    moves.move_campaign(campaign, "active", by=bob, reason="tried again")
    dispatch.advance(campaign)
    again = claim()
    assert again.spec.purpose == "baseline"
    builders.finish(again, val_bpb=1.5)
    assert claim().spec.usual == builders.make_spent()


def test_a_run_over_its_budget_is_a_discard_that_says_so(campaign: Campaign, bob: User) -> None:
    proposal = approved(campaign, bob)
    builders.finish(claim(), val_bpb=1.5)
    lease = claim()
    assert lease.spec.purpose == "candidate"
    failure = contract.Failure(kind="over_budget", message="Over budget: 9 s before its first text.")
    last = contract.RunEnd(fence=lease.spec.fence, outcome="failed", failure=failure, device_s=3.0)
    report.end(report.leased(lease.spec.run_id, lease.token), last)
    tasks.run_ended(lease.spec.run_id)
    verdict = Proposal.objects.get(pk=proposal.pk).revision.verdict
    assert (verdict.outcome, verdict.crashed) == ("discard", True)
    assert "Over budget: 9 s before its first text." in verdict.reason


def test_a_candidate_may_be_as_heavy_as_its_smoke_run_showed_to_bob(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_proposal(campaign)
    process.check(proposal.revision)
    lease = claim()
    assert lease.spec.purpose == "smoke"
    builders.finish(lease, val_bpb=5.0, spent=builders.make_spent(train_cpu_s=48.0 * 4))
    proposal.refresh_from_db()
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    usual = builders.claim_candidate().spec.usual
    assert usual is not None
    assert (usual.train_cpu_s, usual.before_cpu_s, usual.num_tokens) == (48.0 * 4, 3.0, 10_240)
