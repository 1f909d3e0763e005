"""A score of the incumbent that nobody stands behind: nothing is spent beside it, and Resume measures it again."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from gpu_runner.contract import Spent
from research import lifecycle
from research.judge import judge
from research.loop import reconcile, tasks
from research.models import Campaign, Incumbent, Proposal, Run
from research.record import audit
from research.review import quarantined
from research.runs import dispatch, incumbent_usage
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def campaign() -> Campaign:
    return builders.make_campaign(min_pairs=2, max_pairs=4, num_waiting=0)


def of_the_incumbent(**score: object) -> Run:
    lease = builders.claim(builders.make_worker())
    assert lease is not None and lease.spec.purpose == "baseline", lease and lease.spec
    return builders.finish(lease, **score)  # type: ignore[arg-type]


def disputed(campaign: Campaign) -> Run:
    dispatch.advance(campaign)
    run = of_the_incumbent(
        val_bpb=1.6, outcome="disputed", reasons=["3 of 64 answers changed."], spent=builders.make_spent(train_s=900.0)
    )
    campaign.refresh_from_db()
    return run


def resumes(browser: Client, campaign: Campaign) -> str:
    """What the page says then."""
    answer = browser.post(f"/campaigns/{campaign.slug}/state/", {"state": "active"}, follow=True)
    campaign.refresh_from_db()
    return answer.content.decode()


def open_runs(campaign: Campaign) -> list[tuple[str, int]]:
    rows = campaign.runs.filter(state__in=("queued", *lifecycle.RUN_LIVE)).order_by("pk")
    return list(rows.values_list("purpose", "seed"))


def test_a_disputed_incumbent_pauses_its_campaign_and_the_page_names_the_way_out(
    campaign: Campaign, bobs_browser: Client
) -> None:
    run = disputed(campaign)
    assert campaign.state == "paused"
    page = bobs_browser.get(f"/campaigns/{campaign.slug}/").content.decode()
    assert f"own score in R-{run.pk} is disputed" in page
    assert "Resume measures its seed again." in page
    assert builders.claim(builders.make_worker()) is None


def test_bob_resumes_and_the_same_seed_is_measured_again_before_anything_is_compared(
    campaign: Campaign, bob: User, bobs_browser: Client
) -> None:
    first = disputed(campaign)
    resumes(bobs_browser, campaign)
    proposal = builders.make_approved(campaign, bob)
    dispatch.add_pair(proposal.revision, 1)
    again = of_the_incumbent(val_bpb=1.6)
    assert (again.seed, again.digest) == (first.seed, first.digest)
    while Proposal.objects.get(pk=proposal.pk).state != "judged":
        lease = builders.claim(builders.make_worker())
        assert lease is not None
        gain = 0.2 if lease.spec.purpose == "candidate" else 0.0
        builders.finish(lease, val_bpb=1.6 - gain + 0.001 * lease.spec.seed)
    verdict = proposal.revision.verdict
    assert verdict.num_pairs >= 2
    assert verdict.pairs[0]["seed"] == first.seed
    assert audit.verify().findings == []
    assert incumbent_usage.of(again) is not None and Spent.model_validate(again.spent) == incumbent_usage.of(again)
    page = bobs_browser.get(f"/runs/{first.pk}/").content.decode()
    assert "Set aside" in page
    assert Run.objects.get(pk=first.pk).events.filter(kind="run.set_aside", by="user:bob").count() == 1


def test_one_that_is_disputed_again_pauses_again_and_costs_one_run(campaign: Campaign, bobs_browser: Client) -> None:
    disputed(campaign)
    resumes(bobs_browser, campaign)
    again = disputed(campaign)
    assert (campaign.state, f"R-{again.pk} is disputed" in campaign.state_reason) == ("paused", True)
    assert builders.claim(builders.make_worker()) is None


def test_a_proposal_that_runs_meanwhile_waits_for_the_new_measurement_and_loses_nothing(
    campaign: Campaign, bob: User, bobs_browser: Client
) -> None:
    proposal = builders.make_approved(campaign, bob)
    of_the_incumbent(val_bpb=1.6)
    candidate = builders.finish(builders.claim_candidate(), val_bpb=1.4)
    assert proposal.revision.runs.filter(purpose="candidate", state="finished").get() == candidate
    second = builders.claim_candidate()
    builders.finish(second, val_bpb=1.4)
    bad = of_the_incumbent(val_bpb=1.6, outcome="disputed", reasons=["Its answers changed."])
    judge.consider(proposal)
    proposal.refresh_from_db()
    campaign.refresh_from_db()
    assert (proposal.state, campaign.state) == ("running", "paused")
    resumes(bobs_browser, campaign)
    dispatch.advance(campaign)
    assert open_runs(campaign) == [("baseline", bad.seed)]
    of_the_incumbent(val_bpb=1.6)
    assert len(judge.pairs_of(proposal.revision)) == 2


@pytest.mark.parametrize("meanwhile", ["resumed", "settled"])
def test_nothing_is_spent_beside_a_score_in_quarantine_until_somebody_has_looked(
    campaign: Campaign, bob: User, bobs_browser: Client, meanwhile: str
) -> None:
    proposal = builders.make_approved(campaign, bob)
    run = of_the_incumbent(val_bpb=0.29, outcome="quarantined", reasons=["0.29 is below 0.3."])
    campaign.refresh_from_db()
    if meanwhile == "resumed":
        assert f"R-{run.pk} is quarantined: accept or dispute it there, then resume." in resumes(bobs_browser, campaign)
        assert campaign.state == "paused"
    quarantined.resolve(run.pk, choice="dispute", reason="The shards are not those of the manifest.", by=bob)
    tasks.run_ended(run.pk)
    reconcile.reconcile()
    assert builders.claim(builders.make_worker()) is None
    resumes(bobs_browser, campaign)
    dispatch.advance(campaign)
    assert ("baseline", run.seed) in open_runs(campaign)
    assert Proposal.objects.get(pk=proposal.pk).state == "approved"


def test_a_score_that_is_disputed_while_its_campaign_is_active_pauses_it_in_the_same_breath(
    campaign: Campaign, bob: User
) -> None:
    dispatch.advance(campaign)
    run = of_the_incumbent(val_bpb=0.29, outcome="quarantined", reasons=["0.29 is below 0.3."])
    Campaign.objects.filter(pk=campaign.pk).update(state="active")
    quarantined.resolve(run.pk, choice="dispute", reason="Not this text.", by=bob)
    campaign.refresh_from_db()
    assert (campaign.state, f"R-{run.pk} is disputed" in campaign.state_reason) == ("paused", True)


def test_alice_may_not_have_it_measured_again(campaign: Campaign, alice: User) -> None:
    disputed(campaign)
    browser = Client()
    browser.force_login(alice)
    assert browser.post(f"/campaigns/{campaign.slug}/state/", {"state": "active"}).status_code == 403
    assert not campaign.runs.filter(set_aside=True).exists()


def test_a_proposal_whose_incumbent_moved_before_its_pair_was_whole_ends_and_holds_nobody_up(
    campaign: Campaign, bob: User
) -> None:
    proposal = builders.make_approved(campaign, bob)
    of_the_incumbent_first = builders.finish(builders.claim_candidate(), val_bpb=1.59)
    assert of_the_incumbent_first.purpose == "candidate"
    builders.finish(builders.claim_candidate(), val_bpb=1.61)
    moved = Incumbent.objects.create(campaign=campaign, number=1, commit=campaign.incumbent.commit)
    dispatch.advance(campaign)
    while (lease := builders.claim(builders.make_worker())) is not None:
        assert lease.spec.purpose == "baseline"
        builders.finish(lease, val_bpb=1.6)
    reconcile.reconcile()
    verdict = Proposal.objects.get(pk=proposal.pk).revision.verdict
    assert verdict.outcome == "inconclusive"
    assert verdict.reason.startswith("The incumbent moved before its pairs were whole: propose it again.")
    assert not moved.runs.filter(revision__isnull=False).exists()
    assert open_runs(campaign) == []
