"""Pairs share a seed on purpose. Nothing else does: no other pair, incumbent or campaign."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from gpu_runner import contract
from research.models import Campaign
from research.models import campaign as campaign_rows
from research.review import decisions
from research.runs import dispatch
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)


def claim() -> contract.Lease:
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    return lease


def test_no_two_campaigns_incumbents_or_pairs_share_a_seed(campaign: Campaign) -> None:
    other = builders.make_campaign(slug="second", name="Second campaign")
    promoted = campaign.incumbents.create(number=1, commit="b" * 40)
    pairs = [*range(1, contract.MAX_PAIRS + 1), dispatch.SEALED_PAIR]
    incumbents = (campaign.incumbents.get(number=0), promoted, other.incumbent)
    seeds = [incumbent.seed(pair) for incumbent in incumbents for pair in pairs]
    assert len(set(seeds)) == len(seeds)
    assert 0 <= min(seeds) <= max(seeds) <= contract.MAX_SEED


def test_an_incumbent_whose_seeds_nobody_can_keep_pauses_its_campaign_and_says_so(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = campaign.incumbent
    assert campaign_rows.MAX_KEPT < 2**31, "what PostgreSQL's integer keeps"
    monkeypatch.setattr(campaign_rows, "MAX_KEPT", first.pk * contract.SEEDS_OF_AN_INCUMBENT)
    dispatch.advance(campaign)
    assert campaign.runs.latest("seed").seed <= campaign_rows.MAX_KEPT
    campaign.incumbents.create(number=1, commit="b" * 40)
    dispatch.advance(campaign)
    campaign.refresh_from_db()
    assert campaign.state == "paused"
    assert "no seeds left" in campaign.state_reason
    assert not campaign.runs.filter(incumbent__number=1).exists()


def test_a_candidate_and_its_incumbent_are_paired_by_one(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    theirs = claim()
    assert theirs.spec.purpose == "baseline"
    builders.finish(theirs, val_bpb=1.6)
    mine = claim()
    assert (mine.spec.purpose, mine.spec.seed) == ("candidate", theirs.spec.seed)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64, 1.5, 1.0, True, "1", None])
def test_a_seed_that_torch_would_read_as_another_is_refused_on_the_wire(campaign: Campaign, seed: Any) -> None:
    dispatch.advance(campaign)
    spec = claim().spec.model_dump()
    contract.RunSpec.model_validate(spec | {"seed": contract.MAX_SEED})
    with pytest.raises(ValueError, match="seed"):
        contract.RunSpec.model_validate(spec | {"seed": seed})


def test_a_campaign_has_no_more_pairs_than_its_incumbent_has_seeds(campaign: Campaign) -> None:
    policy = {"min_pairs": 1, "alpha": 0.05, "min_effect_bpb": 0.005}
    contract.SeedPolicy(max_pairs=contract.MAX_PAIRS, **policy)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_pairs"):
        contract.SeedPolicy(max_pairs=contract.MAX_PAIRS + 1, **policy)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_pairs"):
        builders.make_campaign(slug="greedy", max_pairs=contract.MAX_PAIRS + 1)
