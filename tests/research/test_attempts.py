"""The machine ends a run: it is tried again, nobody is blamed for it, and nobody gains by it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from gpu_runner import contract
from gpu_runner.contract import FAULT_OF, Failure, FailureKind
from research.gates import process
from research.loop import tasks
from research.models import Campaign, Event, Proposal, Run
from research.propose import drafting, turns
from research.record import moves
from research.record.rights import Part
from research.runs import attempts, dispatch, ending, report
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)
MACHINES: list[FailureKind] = [kind for kind, fault in FAULT_OF.items() if fault == "machine"]


def lose(lease: contract.Lease, kind: FailureKind = "killed") -> Run:
    """A worker gives the run back."""
    run = report.leased(lease.spec.run_id, lease.token)
    failure = Failure(kind=kind, message="It was killed by signal 9 (SIGKILL) from outside.", todo="See its log.")
    report.end(run, contract.RunEnd(fence=lease.spec.fence, outcome="lost", failure=failure, device_s=3.0))
    tasks.run_ended(run.pk)
    run.refresh_from_db()
    return run


def claim() -> contract.Lease:
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    return lease


def as_it_is(proposal: Proposal) -> Proposal:
    return Proposal.objects.get(pk=proposal.pk)


# --- a candidate ------------------------------------------------------------------------------------


def test_a_run_that_was_killed_once_is_made_again_under_its_seed_and_the_verdict_says_so(
    campaign: Campaign, bob: User
) -> None:
    proposal = builders.make_approved(campaign, bob)
    first = builders.claim_candidate()
    lost = lose(first)
    assert (lost.state, lost.failure) == ("queued", None)
    wobble = {True: 1.5, False: 1.6}
    again = None
    while as_it_is(proposal).state != "judged":
        lease = claim()
        again = again or (lease if lease.spec.run_id == lost.pk else None)
        builders.finish(lease, val_bpb=wobble[lease.spec.purpose == "candidate"] + 0.001 * (lease.spec.run_id % 3))
    assert again is not None
    assert (again.spec.seed, again.spec.approval, again.spec.attempt) == (first.spec.seed, first.spec.approval, 2)
    verdict = as_it_is(proposal).revision.verdict
    assert verdict.outcome == "keep"
    assert (
        "1 attempt at its runs was ended without a known reason, and made again under the same seed." in verdict.reason
    )
    assert Event.objects.get(kind="run.lost").payload == {"cause": "killed", "attempt": 1}


def test_a_proposal_that_ends_its_own_runs_gets_no_more_chances_than_its_incumbent_needed(
    campaign: Campaign, bob: User
) -> None:
    proposal = builders.make_approved(campaign, bob)
    for _ in range(attempts.MAX_UNEXPLAINED):
        assert lose(builders.claim_candidate()).state == "queued"
    run = lose(builders.claim_candidate())
    assert run.state == "failed"
    assert run.failure["kind"] == "unexplained"  # type: ignore[index]
    verdict = as_it_is(proposal).revision.verdict
    assert (verdict.outcome, verdict.crashed) == ("inconclusive", False)
    assert "3 times without a known reason, and the incumbent's own 0 times: the machine, or its own" in verdict.reason
    assert "no fault" not in verdict.reason, "which nobody knows"


def test_chances_are_counted_over_all_seeds_of_a_proposal(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_approved(campaign, bob)
    lost: list[int] = []
    while as_it_is(proposal).state != "judged":
        lease = claim()
        is_candidate = lease.spec.purpose == "candidate"
        if is_candidate and lease.spec.seed not in lost:
            lost.append(lease.spec.seed)
            lose(lease)
        else:
            builders.finish(lease, val_bpb=(1.55 if is_candidate else 1.6) + 0.001 * (lease.spec.seed % 7))
    assert len(lost) == attempts.MAX_UNEXPLAINED + 1
    assert as_it_is(proposal).revision.verdict.outcome == "inconclusive"


def test_where_the_incumbents_own_runs_are_killed_as_well_it_is_the_machine(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_approved(campaign, bob)
    lose(claim())
    lease = builders.claim_candidate()
    for attempt in range(2, attempts.MAX_ATTEMPTS + 1):
        assert lose(lease).state == "queued"
        lease = claim()
        assert (lease.spec.purpose, lease.spec.attempt) == ("candidate", attempt)
    run = lose(lease)
    assert (run.state, run.failure["kind"]) == ("failed", "killed")  # type: ignore[index]
    assert run.failure["message"].startswith("Tried 3 times. At last: It was killed by signal 9")  # type: ignore[index]
    verdict = as_it_is(proposal).revision.verdict
    assert (verdict.outcome, verdict.crashed) == ("inconclusive", False)
    assert "no fault of the proposal" in verdict.reason


@pytest.mark.parametrize("kind", FAULT_OF)
def test_of_every_failure_the_judge_knows_whose_it_is(campaign: Campaign, bob: User, kind: FailureKind) -> None:
    proposal = builders.make_approved(campaign, bob)
    builders.fail(builders.claim_candidate(), kind=kind)
    verdict = as_it_is(proposal).revision.verdict
    whose = {"proposal": ("discard", True)}.get(FAULT_OF[kind], ("inconclusive", False))
    assert (verdict.outcome, verdict.crashed) == whose


def test_workers_that_leave_or_fall_silent_are_nobodys_chances(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_approved(campaign, bob)
    kinds: list[FailureKind] = ["worker_stopped", "lost_contact"]
    for kind in kinds:
        lose(builders.claim_candidate(), kind)
    assert attempts.num_unexplained(proposal.pk) == 0


# --- the incumbent's own ----------------------------------------------------------------------------


def lose_all_attempts(campaign: Campaign, kind: FailureKind = "killed") -> Run:
    for _ in range(attempts.MAX_ATTEMPTS):
        lease = claim()
        assert lease.spec.purpose == "baseline"
        run = lose(lease, kind)
    assert run.state == "failed"
    campaign.refresh_from_db()
    return run


@pytest.mark.parametrize("kind", MACHINES)
def test_a_machine_that_ends_the_incumbents_run_pauses_nothing_while_it_may_be_tried(
    campaign: Campaign, kind: FailureKind
) -> None:
    dispatch.advance(campaign)
    run = lose_all_attempts(campaign, kind)
    assert campaign.state == "active"
    anew = campaign.runs.get(purpose="baseline", seed=run.seed, state="queued")
    assert (anew.attempt, anew.digest) == (0, run.digest)


def test_a_machine_that_goes_on_so_pauses_the_campaign_and_the_page_says_what_to_do(
    campaign: Campaign, bob: User
) -> None:
    dispatch.advance(campaign)
    for _ in range(attempts.MAX_BASELINES):
        assert campaign.state == "active"
        run = lose_all_attempts(campaign)
    assert campaign.state == "paused"
    assert f"the machine ended 3 of the incumbent's own runs in a row, at last R-{run.pk}" in campaign.state_reason
    assert "See to the GPU machine, then resume." in campaign.state_reason
    moves.move_campaign(campaign, "active", by=bob, reason="the disk was exchanged")
    dispatch.advance(campaign)
    lose_all_attempts(campaign)
    assert campaign.state == "active", "from then on it is counted anew"
    builders.finish(claim(), val_bpb=1.6)
    assert campaign.runs.filter(purpose="baseline", state="finished").exists()


def test_one_that_comes_through_in_between_starts_the_count_again(campaign: Campaign) -> None:
    dispatch.advance(campaign)
    for _ in range(attempts.MAX_BASELINES - 1):
        lose_all_attempts(campaign)
    builders.finish(claim(), val_bpb=1.6)
    for _ in range(attempts.MAX_BASELINES - 1):
        lose_all_attempts(campaign)
    assert campaign.state == "active"


@pytest.mark.parametrize("kind", [kind for kind, fault in FAULT_OF.items() if fault != "machine"])
def test_what_a_person_has_to_look_at_pauses_at_once(campaign: Campaign, kind: FailureKind) -> None:
    dispatch.advance(campaign)
    builders.fail(claim(), kind=kind)
    campaign.refresh_from_db()
    assert (campaign.state, campaign.state_reason.endswith("Resume to try again.")) == ("paused", True)


def test_a_long_reason_still_ends_with_the_way_out(campaign: Campaign) -> None:
    dispatch.advance(campaign)
    lease = claim()
    failure = Failure(kind="recipe_error", message="x" * 4_000)
    run = report.leased(lease.spec.run_id, lease.token)
    report.end(run, contract.RunEnd(fence=1, outcome="failed", failure=failure, device_s=1.0))
    campaign.refresh_from_db()
    assert campaign.state_reason.endswith(" Resume to try again.")


# --- a smoke run ------------------------------------------------------------------------------------


def test_a_smoke_run_that_the_machine_ends_blocks_nobody(campaign: Campaign) -> None:
    proposal = builders.make_proposal(campaign)
    process.check(proposal.revision)
    for _ in range(attempts.MAX_ATTEMPTS):
        lose(claim())
    assert as_it_is(proposal).state == "stale"
    tasks_of_reconcile(proposal)
    assert as_it_is(proposal).state == "checking"
    builders.finish(claim(), val_bpb=5.0)
    assert as_it_is(proposal).state == "pending_review"


def tasks_of_reconcile(proposal: Proposal) -> None:
    """What the control worker does with one that is stale, and then drafted."""
    drafting.rebase(as_it_is(proposal))
    process.check(as_it_is(proposal).revision)


def test_but_not_for_ever(campaign: Campaign) -> None:
    proposal = builders.make_proposal(campaign)
    process.check(proposal.revision)
    for round_ in range(attempts.MAX_SMOKES):
        if round_:
            tasks_of_reconcile(proposal)
        for _ in range(attempts.MAX_ATTEMPTS):
            lose(claim())
    assert as_it_is(proposal).state == "blocked"
    sentence = as_it_is(proposal).revision.gates.get(outcome="failed").sentence
    assert "That is no fault of the change." in sentence


# --- a queue ----------------------------------------------------------------------------------------


def test_whoever_approves_at_once_still_sees_what_was_approved_run(campaign: Campaign, bob: User) -> None:
    """Smoke runs go before all else, so for every approval one more of them came, and nothing was ever measured."""
    for num_approved in range(2 * campaign.num_waiting):
        missing = min(campaign.num_waiting, 2 * campaign.num_waiting - num_approved)
        assert drafting.num_missing(turns.of(campaign)) == missing
        builders.make_approved(campaign, bob)
    assert drafting.num_missing(turns.of(campaign)) == 0
    assert claim().spec.purpose == "baseline"
    finish_one(campaign)
    assert drafting.num_missing(turns.of(campaign)) == 1


def finish_one(campaign: Campaign) -> None:
    first = campaign.proposals.filter(state="approved").earliest("pk")
    moves.move_proposal(first, "running", by=Part("worker:gpu-1"), sentence="it runs")


# --- clocks -----------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back_does_not_hold_a_silent_workers_run_for_as_long(campaign: Campaign) -> None:
    dispatch.advance(campaign)
    lease = claim()
    Run.objects.filter(pk=lease.spec.run_id).update(lease_until=timezone.now() + timedelta(hours=1))
    assert ending.expire_leases() == []
    until = Run.objects.get(pk=lease.spec.run_id).lease_until
    assert until is not None
    assert until <= timezone.now() + timedelta(seconds=contract.LEASE_S)
    assert report.beat(report.leased(lease.spec.run_id, lease.token), 1).order == "continue", "it is not taken away"


def test_one_set_forward_costs_an_attempt_and_no_verdict(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_approved(campaign, bob)
    lease = builders.claim_candidate()
    Run.objects.filter(pk=lease.spec.run_id).update(lease_until=timezone.now() - timedelta(hours=1))
    ending.expire_leases()
    run = Run.objects.get(pk=lease.spec.run_id)
    assert (run.state, run.attempt, as_it_is(proposal).state) == ("queued", 1, "running")
    assert attempts.num_unexplained(proposal.pk) == 0
