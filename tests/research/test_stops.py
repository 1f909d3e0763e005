"""Somebody, or the loop, tells a run to stop: what becomes of it, and of the proposal that it is a run of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from gpu_runner import contract
from research.gates import process
from research.lifecycle import Stop
from research.loop import tasks
from research.models import Campaign, Proposal, Run
from research.record import audit, ledger, moves
from research.runs import dispatch, ending, report
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)


def now(proposal: Proposal) -> Proposal:
    return Proposal.objects.get(pk=proposal.pk)


def run_of(lease: contract.Lease) -> Run:
    return Run.objects.get(pk=lease.spec.run_id)


def falls_silent(lease: contract.Lease) -> None:
    Run.objects.filter(pk=lease.spec.run_id).update(lease_until="2020-01-01T00:00Z")
    assert [run.pk for run in ending.expire_leases()] == [lease.spec.run_id]


def leaves(lease: contract.Lease) -> None:
    """Its machine is shut down, and it gives its run back."""
    run = report.leased(lease.spec.run_id, lease.token)
    report.end(run, contract.RunEnd(fence=lease.spec.fence, outcome="lost", device_s=2.0))


def obeys(lease: contract.Lease) -> None:
    run = report.leased(lease.spec.run_id, lease.token)
    assert report.beat(run, lease.spec.fence).order == "stop"
    report.end(run, contract.RunEnd(fence=lease.spec.fence, outcome="cancelled", device_s=2.0))


def resume(campaign: Campaign, bob: User) -> None:
    campaign.refresh_from_db()
    moves.move_campaign(campaign, "active", by=bob, reason="power is back")
    dispatch.advance(campaign)


WORKERS = pytest.mark.parametrize("worker", [obeys, falls_silent, leaves], ids=lambda worker: worker.__name__)


# --- a halt ------------------------------------------------------------------------------------------


@WORKERS
def test_what_bob_approved_goes_on_after_a_halt_whatever_its_worker_did_meanwhile(
    bob: User, approved: Proposal, campaign: Campaign, worker: Callable[[contract.Lease], None]
) -> None:
    lease = builders.claim_candidate()
    ending.halt(campaign, by=bob, reason="power is needed elsewhere")
    worker(lease)
    tasks.run_ended(lease.spec.run_id)
    assert now(approved).state == "running"
    resume(campaign, bob)
    again = approved.revision.runs.filter(purpose="candidate", seed=lease.spec.seed).order_by("pk")
    assert list(again.values_list("state", flat=True)) == ["cancelled", "queued"]
    builders.finish(builders.claim_candidate(), val_bpb=1.5)
    assert now(approved).state == "running"
    assert audit.verify().findings == []


@WORKERS
def test_a_smoke_run_that_a_halt_cut_off_blocks_nobody(
    bob: User, campaign: Campaign, worker: Callable[[contract.Lease], None]
) -> None:
    proposal = builders.make_proposal(campaign)
    process.check(proposal.revision)
    lease = builders.claim(builders.make_worker())
    assert lease is not None and lease.spec.purpose == "smoke"
    ending.halt(campaign, by=bob, reason="power is needed elsewhere")
    worker(lease)
    tasks.run_ended(lease.spec.run_id)
    assert now(proposal).state == "stale"


@WORKERS
def test_a_run_that_bob_stopped_ends_the_same_way_whatever_its_worker_did_meanwhile(
    bob: User, approved: Proposal, worker: Callable[[contract.Lease], None]
) -> None:
    lease = builders.claim_candidate()
    ending.stop_run(run_of(lease), kind=Stop.PERSON, by=bob, reason="the curve is flat")
    worker(lease)
    tasks.run_ended(lease.spec.run_id)
    verdict = now(approved).revision.verdict
    assert (run_of(lease).state, verdict.outcome) == ("cancelled", "inconclusive")
    assert verdict.reason == f"R-{lease.spec.run_id} was stopped: the curve is flat"


def test_a_stop_that_meets_the_end_of_a_lease_is_obeyed(
    bob: User, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch.advance(campaign)
    leases = [builders.claim(builders.make_worker(name=name)) for name in ("one", "other")]
    first, second = (run_of(lease) for lease in leases if lease is not None)
    Run.objects.filter(state="leased").update(lease_until="2020-01-01T00:00Z")
    charge = ledger.charge_run

    def meanwhile_bob_stops_the_second(run: Run, device_s: float) -> None:
        charge(run, device_s)
        if run.pk == first.pk:
            ending.stop_run(second, kind=Stop.PERSON, by=bob, reason="wrong seed")

    monkeypatch.setattr(ledger, "charge_run", meanwhile_bob_stops_the_second)
    ending.expire_leases()
    assert [Run.objects.get(pk=run.pk).state for run in (first, second)] == ["queued", "cancelled"]


# --- what kind of stop it was --------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["later: I want to look", "halted: the curve is flat"])
def test_a_run_that_bob_stops_is_over_however_his_sentence_begins(
    bob: User, approved: Proposal, campaign: Campaign, words: str
) -> None:
    lease = builders.claim_candidate()
    ending.stop_run(run_of(lease), kind=Stop.PERSON, by=bob, reason=words)
    obeys(lease)
    tasks.run_ended(lease.spec.run_id)
    dispatch.advance(campaign)
    assert now(approved).revision.verdict.reason == f"R-{lease.spec.run_id} was stopped: {words}"
    assert not approved.revision.runs.filter(purpose="candidate", state="queued").exists()


def test_what_bob_stopped_stays_stopped_though_dana_halts_its_campaign_a_moment_later(
    bob: User, dana: User, approved: Proposal, campaign: Campaign
) -> None:
    dana.user_permissions.add(Permission.objects.get(codename="steer_campaign"))
    lease = builders.claim_candidate()
    ending.stop_run(run_of(lease), kind=Stop.PERSON, by=bob, reason="wrong seed")
    ending.halt(campaign, by=dana, reason="power is needed elsewhere")
    obeys(lease)
    tasks.run_ended(lease.spec.run_id)
    assert (run_of(lease).stop_kind, run_of(lease).stop_reason) == ("person", "wrong seed")
    assert now(approved).revision.verdict.outcome == "inconclusive"


def test_an_operator_reads_what_kind_of_stop_it_was(bob: User, campaign: Campaign, bobs_browser: Client) -> None:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    ending.halt(campaign, by=bob, reason="power is needed elsewhere")
    obeys(lease)
    page = bobs_browser.get(f"/runs/{lease.spec.run_id}/").content.decode()
    assert "Stopped with its campaign: it is run again when that goes on" in page
    assert "<p>power is needed elsewhere</p>" in page
    assert audit.verify().findings == []
    Run.objects.filter(pk=lease.spec.run_id).update(stop_kind=Stop.PERSON)
    assert audit.verify().findings == [f"R-{lease.spec.run_id} is not what the events tell of it"]
