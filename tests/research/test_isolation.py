"""One thing that cannot be seen to stops nothing else, and people are told of it once."""

from __future__ import annotations

import logging

import pytest
from django.contrib.auth.models import User
from django.test import Client

from gpu_runner import contract
from research.judge import judge
from research.loop import reconcile, tasks
from research.models import Campaign, Event, Proposal, Revision, Run
from research.record import audit, doorbell, kinds, ledger
from research.runs import dispatch, ending, report
from tests import builders
from tests.conftest import Bells
from webapp.notify import deliver
from webapp.notify import tasks as posting
from webapp.notify.models import Delivery, Endpoint

pytestmark = pytest.mark.django_db(transaction=True)


def told(campaign: Campaign | None) -> list[str]:
    return list(Event.objects.filter(kind=kinds.REPAIR_FAILED, campaign=campaign).values_list("sentence", flat=True))


def silent(campaign: Campaign, name: str) -> Run:
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker(name=name))
    assert lease is not None
    Run.objects.filter(pk=lease.spec.run_id).update(lease_until="2020-01-01T00:00Z")
    return Run.objects.get(pk=lease.spec.run_id)


def test_one_bad_lease_stops_neither_other_leases_nor_any_campaign(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, bobs_browser: Client, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = silent(campaign, "one"), silent(campaign, "other")
    other = builders.make_campaign(slug="second", name="Second campaign")
    charge = ledger.charge_run

    def but_not_of_the_bad_one(run: Run, device_s: float) -> None:
        if run.pk == bad.pk:
            raise ArithmeticError("secret-looking words")
        charge(run, device_s)

    monkeypatch.setattr(ledger, "charge_run", but_not_of_the_bad_one)
    with caplog.at_level(logging.ERROR):
        reconcile.reconcile()
        reconcile.reconcile()
    assert [Run.objects.get(pk=run.pk).state for run in (bad, good)] == ["leased", "queued"]
    assert other.runs.filter(purpose="baseline").count() == other.min_pairs
    (sentence,) = told(campaign)
    assert sentence.startswith(f"The lease of R-{bad.pk} could not be seen to because of a fault of ours (Arithmetic")
    assert "secret-looking words" not in sentence and "secret-looking words" in caplog.text
    assert f"The lease of R-{bad.pk} could not be seen to" in bobs_browser.get("/campaigns/first/").content.decode()
    assert audit.verify().findings == []
    monkeypatch.setattr(ledger, "charge_run", charge)
    reconcile.reconcile()
    assert Run.objects.get(pk=bad.pk).state == "queued"


def test_leases_that_cannot_even_be_read_stop_no_campaign(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Run]:
        raise OSError("gone")

    monkeypatch.setattr(ending, "expire_leases", broken)
    monkeypatch.setattr(reconcile, "_chain", broken)
    reconcile.reconcile()
    assert campaign.runs.filter(purpose="baseline").count() == campaign.min_pairs
    assert [sentence.partition(" could")[0] for sentence in told(None)] == [
        "The leases of silent workers", "The audit chain",
    ]  # fmt: skip


def test_a_proposal_that_cannot_be_read_holds_up_no_other_of_its_campaign(
    campaign: Campaign, bob: User, bells: Bells
) -> None:
    bad, stale = builders.make_approved(campaign, bob), builders.make_pending(campaign, title="Warm up for a while")
    builders.claim_candidate()
    Revision.objects.filter(proposal=bad).update(approval={"written": "by hand"})
    Proposal.objects.filter(pk=stale.pk).update(state="stale")
    bells.clear()
    reconcile.reconcile()
    assert ("control.rebase", (stale.pk,)) in bells
    assert any(sentence.startswith(f"P-{bad.pk} could not be seen to") for sentence in told(campaign))


def test_an_incumbents_run_that_ends_is_told_to_every_proposal_that_waits_for_it(
    campaign: Campaign, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = builders.make_approved(campaign, bob)
    second = builders.make_pending(campaign, title="Warm up for a while")
    Proposal.objects.update(state="running")
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None and lease.spec.purpose == "baseline"
    asked = []

    def consider(proposal: Proposal) -> None:
        asked.append(proposal.pk)
        if proposal.pk == first.pk:
            raise ArithmeticError

    monkeypatch.setattr(judge, "consider", consider)
    report.end(
        report.leased(lease.spec.run_id, lease.token),
        contract.RunEnd(fence=lease.spec.fence, outcome="cancelled", device_s=1.0),
    )
    tasks.run_ended(lease.spec.run_id)
    assert sorted(asked) == [first.pk, second.pk]


def test_one_bad_endpoint_keeps_no_webhook_from_the_others_and_stops_no_verb(campaign: Campaign) -> None:
    bad = Endpoint.objects.create(description="Bad", url="https://one.example/", kinds=["run.finished"])
    good = Endpoint.objects.create(description="Good", url="https://two.example/", kinds=["run.finished"])
    Endpoint.objects.filter(pk=bad.pk).update(kinds=7)
    assert builders.make_pending(campaign).state == "pending_review"
    assert list(Delivery.objects.values_list("endpoint", flat=True)) == [good.pk]
    (sentence,) = told(campaign)
    assert sentence.startswith("A webhook to Bad could not be seen to")


def test_an_endpoint_that_cannot_be_rung_keeps_no_other_from_being_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ring(task: str, endpoint_id: int) -> None:
        asked.append(endpoint_id)
        raise ArithmeticError

    monkeypatch.setattr(deliver, "endpoints_due", lambda: [1, 2])
    monkeypatch.setattr(doorbell, "control", ring)
    posting.pump()
    assert asked == [1, 2]
