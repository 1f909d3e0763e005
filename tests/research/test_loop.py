"""The loop's rules, told with a worker that we play ourselves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from gpu_runner import contract
from research import lifecycle
from research.change.drafts import Answer, Brief, Draft, Usage
from research.gates import process
from research.judge import judge
from research.loop import reconcile, tasks
from research.models import Campaign, Event, Proposal, Run, Turn
from research.propose import drafting, turns
from research.record import learn, ledger, moves, repository
from research.review import decisions
from research.runs import dispatch, ending, report
from research.runs.points import read_batches
from tests import builders
from tests.conftest import Bells

pytestmark = pytest.mark.django_db(transaction=True)


def play(score: Callable[[contract.RunSpec], float], *, until: Callable[[], bool]) -> int:
    """A worker that claims and finishes runs until ``until()``; the number of runs it took."""
    worker, played = builders.make_worker(), 0
    while not until():
        lease = builders.claim(worker)
        assert lease is not None, "the worker has nothing to do and the story is not over"
        builders.finish(lease, val_bpb=score(lease.spec))
        played += 1
        assert played < 60
    return played


def judged(proposal: Proposal) -> Callable[[], bool]:
    return lambda: Proposal.objects.get(pk=proposal.pk).state == "judged"


@pytest.mark.parametrize(
    "change",
    [{"overrides": {"depth": 8}}, {"patch": "--- a/train.py"}, {"budget": {"kind": "tokens", "amount": 1e9}}],
    ids=lambda change: next(iter(change)),
)
def test_a_run_that_mallory_changed_in_the_database_with_a_digest_that_fits_is_not_handed_out(
    campaign: Campaign, bob: User, change: dict[str, Any]
) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    dispatch.advance(campaign)
    run = Run.objects.filter(purpose="candidate").order_by("rank", "pk")[0]
    approval = run.approval | change
    Run.objects.filter(pk=run.pk).update(approval=approval, digest=contract.Approval.model_validate(approval).digest())
    assert builders.claim_candidate().spec.run_id != run.pk
    run.refresh_from_db()
    assert run.state == "cancelled"
    assert "nobody approved this digest" in run.stop_reason
    assert "verify_audit" in Event.objects.get(kind="run.cancelled", run=run).sentence


def test_a_change_that_mallory_hides_in_the_incumbents_own_run_is_not_handed_out(campaign: Campaign, bob: User) -> None:
    builders.approve(builders.make_pending(campaign), bob)
    dispatch.advance(campaign)
    run = Run.objects.filter(purpose="baseline").order_by("rank", "pk")[0]
    Run.objects.exclude(pk=run.pk).delete()
    for change in ({"patch": "--- a/train.py"}, {"overrides": {"depth": 8}}, {"base_commit": "b" * 40}):
        changed = run.approval | change
        digest = contract.Approval.model_validate(changed).digest()
        Run.objects.update(state="queued", stop_kind="", stop_reason="", approval=changed, digest=digest)
        assert builders.ask(builders.make_worker()) is None, change
        assert "nobody approved this digest" in Run.objects.get(pk=run.pk).stop_reason


def test_a_change_that_mallory_hides_in_a_smoke_run_is_not_handed_out(campaign: Campaign) -> None:
    proposal = builders.make_proposal(campaign)
    process.check(proposal.revision)
    run = Run.objects.get(purpose="smoke")
    changed = run.approval | {"patch": "--- a/train.py"}
    Run.objects.update(approval=changed, digest=contract.Approval.model_validate(changed).digest())
    assert builders.claim(builders.make_worker()) is None
    run.refresh_from_db()
    assert (run.state, "nobody approved this digest" in run.stop_reason) == ("cancelled", True)


def test_a_real_gain_is_kept_and_becomes_a_commit_that_anyone_can_clone(
    campaign: Campaign, bob: User, tmp_path_factory: pytest.TempPathFactory
) -> None:
    proposal = builders.make_pending(campaign)
    assert proposal.state == "pending_review"
    builders.approve(proposal, bob)
    play(
        lambda spec: 1.60 + 0.001 * (spec.seed % 7) - (0.08 if spec.purpose == "candidate" else 0),
        until=judged(proposal),
    )

    verdict = proposal.revision.verdict
    assert verdict.outcome == "keep", verdict.reason
    assert verdict.effect_bpb == pytest.approx(-0.08)
    incumbent = campaign.incumbent
    assert (incumbent.number, incumbent.proposal_id) == (1, proposal.pk)
    tasks.look_after(campaign.pk)
    clone = tmp_path_factory.mktemp("clone")
    subprocess.run(["git", "clone", "-q", repository.path_of(campaign), clone], check=True, timeout=30)
    recipe = contract.parse_recipe((clone / "recipe.toml").read_text())
    knob = recipe.knob("warmup_fraction")
    assert knob is not None
    assert knob.default == 0.1
    log = subprocess.run(
        ["git", "-C", clone, "log", "-1", "--format=%B"], capture_output=True, text=True, check=True
    ).stdout
    assert f"P-{proposal.pk}" in log
    assert "Effect-bpb: -0.08" in log


def test_a_change_that_hurts_is_discarded_and_the_next_prompt_says_so(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    play(
        lambda spec: 1.60 + 0.001 * (spec.seed % 7) + (0.09 if spec.purpose == "candidate" else 0),
        until=judged(proposal),
    )
    assert proposal.revision.verdict.outcome == "discard"
    assert campaign.incumbent.number == 0
    precedent = learn.precedents(campaign)[0]
    assert precedent.outcome == "discard"
    assert "Worse" in precedent.reason


def test_seed_noise_is_not_a_win(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    wobble = {1: -0.02, 2: 0.02, 3: -0.03, 4: 0.015, 5: -0.01, 6: 0.02}
    play(lambda spec: 1.6 + (wobble[spec.seed % 1000] if spec.purpose == "candidate" else 0), until=judged(proposal))
    verdict = proposal.revision.verdict
    assert verdict.outcome in ("inconclusive", "discard")
    assert campaign.incumbent.number == 0


def test_a_crash_is_a_discard_without_a_number(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    lease = builders.claim_candidate()
    run = builders.fail(lease)
    assert run.state == "failed"
    verdict = Proposal.objects.get(pk=proposal.pk).revision.verdict
    assert (verdict.outcome, verdict.crashed, verdict.effect_bpb) == ("discard", True, None)
    assert not run.revision.runs.filter(state="queued").exclude(purpose="smoke").exists()  # type: ignore[union-attr]


def test_charlie_may_not_decide_and_alice_not_on_her_own(campaign: Campaign, charlie: User, bob: User) -> None:
    proposal = builders.make_pending(campaign, arm="human", author=bob)
    for person in (charlie, bob):
        with pytest.raises(PermissionDenied):
            decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=person)
    proposal.refresh_from_db()
    assert proposal.state == "pending_review"
    assert not proposal.revision.decisions.exists()


def test_bob_approves_only_what_was_on_his_screen(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    with pytest.raises(lifecycle.LostRace):
        decisions.decide(proposal.pk, digest="0" * 64, choice="approve", by=bob)
    builders.approve(proposal, bob)
    with pytest.raises(lifecycle.LostRace, match="already approved"):
        decisions.decide(
            proposal.pk, digest=proposal.revision.digest, choice="reject", by=bob, category="flawed", reason="no"
        )


@pytest.mark.parametrize(
    ("choice", "category", "reason", "field"),
    [("reject", "", "no", "category"), ("reject", "flawed", " ", "reason"), ("shout", "", "", "choice")],
)
def test_a_rejection_needs_words(
    campaign: Campaign, bob: User, choice: str, category: str, reason: str, field: str
) -> None:
    proposal = builders.make_pending(campaign)
    with pytest.raises(ValueError, match=f"^{field}:"):
        decisions.decide(
            proposal.pk, digest=proposal.revision.digest, choice=choice, by=bob, category=category, reason=reason
        )


def test_what_bob_rejects_reaches_the_next_prompt(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    decisions.decide(
        proposal.pk,
        digest=proposal.revision.digest,
        choice="reject",
        by=bob,
        category="already_known",
        reason="Tried in May.",
    )
    assert "Tried in May." in learn.precedents(campaign)[0].reason


def test_a_keep_makes_waiting_proposals_stale_and_they_are_rebased_and_ask_again(campaign: Campaign, bob: User) -> None:
    winner = builders.make_pending(campaign)
    other = builders.make_pending(campaign, title="Cool down for longer", overrides=(_longer_cooldown(),))
    old_digest = other.revision.digest
    builders.approve(winner, bob)
    play(
        lambda spec: 1.6 + 0.001 * (spec.seed % 5) - (0.08 if spec.purpose == "candidate" else 0), until=judged(winner)
    )
    other.refresh_from_db()
    assert other.state == "stale"
    drafting.rebase(other)
    assert (other.state, other.revision.number) == ("drafted", 2)
    assert other.revision.incumbent == campaign.incumbent
    assert other.revision.digest != old_digest


def _longer_cooldown() -> builders.Override:
    return builders.Override(key="cooldown_fraction", value=0.6, reason="longer")


def test_an_override_out_of_bounds_is_blocked_with_the_bound(campaign: Campaign) -> None:
    proposal = builders.make_proposal(
        campaign, overrides=(builders.Override(key="warmup_fraction", value=7.0, reason="more"),)
    )
    from research.gates import process

    process.check(proposal.revision)
    proposal.refresh_from_db()
    assert proposal.state == "blocked"
    assert "above its upper bound" in proposal.revision.gates.get(outcome="failed").sentence


def test_a_silent_worker_loses_its_run_and_its_late_words_are_refused(campaign: Campaign) -> None:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    run = report.leased(lease.spec.run_id, lease.token)
    Run.objects.filter(pk=run.pk).update(lease_until="2020-01-01T00:00Z")
    ending.expire_leases()
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("queued", 1)
    with pytest.raises(report.Superseded):
        report.accept(run, contract.Report(fence=lease.spec.fence, seq=1, phase="training"))
    again = builders.claim(builders.make_worker(name="other"))
    assert again is not None
    assert (again.spec.run_id, again.spec.fence, again.spec.attempt) == (run.pk, 2, 2)
    with pytest.raises(report.WrongToken):
        report.leased(run.pk, lease.token)


def test_a_batch_sent_twice_is_stored_once_and_a_gap_is_answered_with_what_is_there(campaign: Campaign) -> None:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    run = report.leased(lease.spec.run_id, lease.token)
    batch = contract.Report(fence=1, seq=1, phase="training", points=builders.make_points())
    assert report.accept(run, batch).acked_seq == 1
    assert report.accept(run, batch).acked_seq == 1
    assert report.accept(run, contract.Report(fence=1, seq=4, phase="training")).acked_seq == 1
    assert [seq for seq, _, _ in read_batches(run.pk, 0, 10)] == [1]


def test_halt_tells_a_live_run_to_stop_and_nobody_claims(bob: User, campaign: Campaign) -> None:
    dispatch.advance(campaign)
    worker = builders.make_worker()
    lease = builders.claim(worker)
    assert lease is not None
    ending.halt(campaign, by=bob, reason="wrong corpus")
    run = report.leased(lease.spec.run_id, lease.token)
    order = report.beat(run, lease.spec.fence)
    assert (order.order, order.reason) == ("stop", "wrong corpus")
    assert builders.claim(worker) is None


def test_after_a_halt_the_loop_goes_on_with_the_runs_that_it_cut_off(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    lease = builders.claim_candidate()
    ending.halt(campaign, by=bob, reason="power is needed elsewhere")
    run = report.leased(lease.spec.run_id, lease.token)
    report.end(run, contract.RunEnd(fence=lease.spec.fence, outcome="cancelled", device_s=2.0))
    tasks.run_ended(run.pk)
    proposal.refresh_from_db()
    assert proposal.state == "running"
    campaign.refresh_from_db()
    moves.move_campaign(campaign, "active", by=bob, reason="power is back")
    dispatch.advance(campaign)
    again = proposal.revision.runs.filter(purpose="candidate", seed=lease.spec.seed).values_list("state", flat=True)
    assert sorted(again) == ["cancelled", "queued"]


def test_a_run_that_bob_stops_ends_its_proposal_without_a_number(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    lease = builders.claim_candidate()
    run = report.leased(lease.spec.run_id, lease.token)
    ending.stop_run(run, kind=lifecycle.Stop.PERSON, by=bob, reason="the curve is flat")
    assert report.beat(run, lease.spec.fence).order == "stop"
    report.end(run, contract.RunEnd(fence=lease.spec.fence, outcome="cancelled", device_s=2.0))
    tasks.run_ended(run.pk)
    verdict = Proposal.objects.get(pk=proposal.pk).revision.verdict
    assert (verdict.outcome, verdict.effect_bpb) == ("inconclusive", None)
    assert "the curve is flat" in verdict.reason
    told = run.events.get(kind="run.told_to_stop")
    assert (told.by, told.proposal, told.payload["why"]) == ("user:bob", proposal, "person")
    assert told.sentence == f"R-{run.pk} was told to stop: the curve is flat"


def test_the_loop_stops_at_its_budget(campaign: Campaign) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(budget_gpu_hours=0.01)
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    builders.finish(lease, val_bpb=1.6, device_s=40)
    campaign.refresh_from_db()
    assert campaign.state == "spent"
    assert "0.01 of 0.01 GPU-hours" in campaign.state_reason
    assert builders.claim(builders.make_worker()) is None
    assert drafting.num_missing(turns.of(campaign)) == 0


def test_the_incumbents_own_crash_pauses_the_campaign_and_resuming_tries_again(bob: User, campaign: Campaign) -> None:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    builders.fail(lease)
    campaign.refresh_from_db()
    assert campaign.state == "paused"
    moves.move_campaign(campaign, "active", by=bob, reason="memory was freed")
    dispatch.advance(campaign)
    assert campaign.runs.filter(purpose="baseline", seed=lease.spec.seed, state="queued").count() == 1


def test_a_lost_doorbell_is_made_good(campaign: Campaign, bob: User, bells: Bells) -> None:
    proposal = builders.make_proposal(campaign)
    Proposal.objects.update(state_at="2020-01-01T00:00Z")
    bells.clear()
    reconcile.reconcile()
    assert ("control.check", (proposal.pk,)) in bells
    assert ("control.propose", (campaign.pk,)) in bells
    assert any(name == "gpu_runner.ring" for name, _ in bells)


def test_every_move_leaves_an_event(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    kinds = list(
        Event.objects.filter(proposal=proposal, kind__startswith="proposal.").order_by("pk").values_list("kind", "by")
    )
    assert kinds == [
        ("proposal.drafted", "proposer:offline"),
        ("proposal.checking", "gates"),
        ("proposal.pending_review", "gates"),
        ("proposal.approved", "user:bob"),
    ]


def test_changing_a_setting_after_the_review_asks_again_and_old_scores_are_not_compared_with_new_ones(
    campaign: Campaign, bob: User
) -> None:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    builders.finish(lease, val_bpb=1.6)
    proposal = builders.make_pending(campaign)
    old = proposal.revision
    builders.approve(proposal, bob)
    Campaign.objects.filter(pk=campaign.pk).update(run_budget_amount=1_000_000)
    reconcile.reconcile()
    proposal.refresh_from_db()
    assert proposal.state == "stale"
    drafting.rebase(proposal)
    assert proposal.revision.digest != old.digest
    dispatch.advance(Campaign.objects.get(pk=campaign.pk))
    budgets = set(
        campaign.runs.filter(purpose="baseline", seed=campaign.incumbent.seed(1)).values_list(
            "approval__budget__amount", flat=True
        )
    )
    assert budgets == {700_000, 1_000_000}
    assert judge.pairs_of(proposal.revision) == []


def test_a_second_hardware_class_is_not_mixed_in(campaign: Campaign) -> None:
    dispatch.advance(campaign)
    assert builders.claim(builders.make_worker(), hardware_class="cpu-x86_64") is not None
    assert builders.claim(builders.make_worker(name="h"), hardware_class="nvidia-h200") is None


def test_approved_proposals_run_one_after_the_other(campaign: Campaign, bob: User) -> None:
    first = builders.make_pending(campaign)
    second = builders.make_pending(campaign, title="Cool down for longer", overrides=(_longer_cooldown(),))
    builders.approve(first, bob)
    builders.approve(second, bob)
    # A candidate of the second that was queued in a race is not handed out while the first runs.
    dispatch.add_pair(second.revision, 1)
    Run.objects.filter(revision=second.revision, purpose="candidate").update(rank=0)
    Proposal.objects.filter(pk=first.pk).update(state="running")
    assert builders.claim_candidate().spec.title == first.title


def test_a_gain_over_an_incumbent_that_has_moved_is_not_promoted(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    Proposal.objects.filter(pk=proposal.pk).update(state="running")
    proposal.refresh_from_db()
    moved = campaign.incumbent
    moved.pk, moved.number = None, 1
    moved.save()
    verdict = judge.write_verdict(proposal.revision, outcome="keep", reason="Better.")
    assert verdict.outcome == "inconclusive"
    assert "no longer the incumbent" in verdict.reason
    assert campaign.incumbent.number == 1


def test_judging_twice_writes_one_verdict(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    builders.approve(proposal, bob)
    play(
        lambda spec: 1.6 + 0.001 * (spec.seed % 5) - (0.08 if spec.purpose == "candidate" else 0),
        until=judged(proposal),
    )
    for seen_in in ("running", "judged"):  # before the first wrote, and after
        late = Proposal.objects.get(pk=proposal.pk)
        late.state = seen_in
        with pytest.raises(lifecycle.LostRace):
            judge.write_verdict(late.revision, outcome="discard", reason="late")
    assert campaign.incumbent.number == 1


class Silent:
    """A proposer that answers with nothing, as a model that keeps refusing does; and is paid for it."""

    arm = "claude"

    def draft(self, brief: Brief) -> Answer:
        usage = Usage(
            model="m", input_tokens=9, output_tokens=0, cache_read_tokens=0, cache_write_tokens=0,
            usd=Decimal("0.01"), seconds=1.0, stop_reason="refusal",
        )  # fmt: skip
        return Answer(problem="Claude refused (frontier_llm).", usages=(usage,))

    def revise(self, brief: Brief, previous: Draft, comment: str) -> Answer:
        return self.draft(brief)


def test_a_proposer_that_keeps_refusing_is_asked_less_and_less_often(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "proposer", lambda campaign: Silent())
    pauses = []
    for _ in range(3):
        Turn.objects.update(retry_at=None)
        campaign.refresh_from_db()
        before = timezone.now()
        assert drafting.top_up(campaign) == []
        campaign.refresh_from_db()
        assert turns.of(campaign).retry_at is not None
        pauses.append(round((turns.of(campaign).retry_at - before).total_seconds()))
        assert drafting.num_missing(turns.of(campaign)) == 0
    assert pauses == [60, 120, 240]
    assert ledger.spent(campaign).usd == Decimal("0.03")
    assert Event.objects.filter(kind="proposer.problem").count() == 1
