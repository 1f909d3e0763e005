"""What comes between a look and a move: a beat that arrives late, a promotion while a run is handed out."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from gpu_runner import contract
from research import lifecycle
from research.judge import judge
from research.models import Campaign, Incumbent, Proposal, Run
from research.record import ledger
from research.review import decisions
from research.runs import dispatch, ending, leasing, report
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_worker_that_speaks_while_its_lease_is_being_taken_back_keeps_it(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch.advance(campaign)
    silent, slow = (builders.claim(builders.make_worker(name=name)) for name in ("silent", "slow"))
    assert silent is not None
    assert slow is not None
    Run.objects.filter(state="leased").update(lease_until="2020-01-01T00:00Z")
    charge = ledger.charge_run

    def meanwhile_the_slow_one_speaks(run: Run, device_s: float) -> None:
        charge(run, device_s)
        if run.pk != slow.spec.run_id:
            report.beat(report.leased(slow.spec.run_id, slow.token), slow.spec.fence)

    monkeypatch.setattr(ledger, "charge_run", meanwhile_the_slow_one_speaks)
    ending.expire_leases()
    states = {lease.spec.run_id: Run.objects.get(pk=lease.spec.run_id).state for lease in (silent, slow)}
    assert states == {silent.spec.run_id: "queued", slow.spec.run_id: "leased"}
    assert report.beat(report.leased(slow.spec.run_id, slow.token), slow.spec.fence).order == "continue"


def test_a_run_that_became_unwanted_while_it_was_handed_out_is_not_leased(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch.advance(campaign)
    lease, moved = leasing._lease, []

    def after_the_incumbent_moved(run: Run, *args: Any) -> contract.Lease:
        if not moved:
            moved.append(Incumbent.objects.create(campaign=campaign, number=1, commit="b" * 40))
        return lease(run, *args)

    monkeypatch.setattr(leasing, "_lease", after_the_incumbent_moved)
    assert builders.claim(builders.make_worker()) is None
    assert not campaign.runs.filter(state__in=lifecycle.RUN_LIVE).exists()
    assert set(campaign.runs.values_list("stop_reason", flat=True)) == {"the incumbent moved"}


def test_a_candidate_that_had_to_wait_its_turn_was_not_stopped_by_anybody(campaign: Campaign, bob: User) -> None:
    first, second = builders.make_pending(campaign), builders.make_pending(campaign, title="Warm up for a while")
    for proposal in (first, second):
        decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    dispatch.add_pair(second.revision, 1)
    Run.objects.filter(revision=second.revision, purpose="candidate").update(rank=0)
    Proposal.objects.filter(pk=first.pk).update(state="running")
    builders.claim_candidate()
    postponed = second.revision.runs.get(purpose="candidate")
    assert postponed.state == "cancelled"
    Proposal.objects.filter(pk=first.pk).update(state="judged")
    dispatch.advance(campaign)
    Run.objects.filter(revision=second.revision, state="queued").update(rank=0)
    assert builders.claim(builders.make_worker(name="other")) is not None
    second.refresh_from_db()
    assert second.state == "running"
    judge.consider(second)
    second.refresh_from_db()
    assert second.state == "running"
