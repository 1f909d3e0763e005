"""bob reviews a change that reads tables in 16 bits on a CPU: the smoke run says so in amber, and blocks nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from gpu_runner import contract
from research.gates import process
from research.models import Campaign, Gate
from research.review import decisions
from research.runs import dispatch, report
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)


def say_started(lease: contract.Lease | None, **facts: Any) -> contract.Lease:
    assert lease is not None
    run = report.leased(lease.spec.run_id, lease.token)
    started = {"device": "cpu", **facts}
    report.accept(
        run, contract.Report(fence=lease.spec.fence, seq=lease.spec.next_seq, phase="training", started=started)
    )
    spec = lease.spec.model_copy(update={"next_seq": lease.spec.next_seq + 1})
    return lease.model_copy(update={"spec": spec})


def tried_out(campaign: Campaign, **facts: Any) -> list[str]:
    """What the smoke gate remarks on the tables of a new proposal whose run began with ``facts``."""
    proposal = builders.make_proposal(campaign)
    process.check(proposal.revision)
    builders.finish(say_started(builders.claim(builders.make_worker()), **facts), val_bpb=5.0)
    proposal.refresh_from_db()
    assert proposal.state == "pending_review"
    gate = Gate.objects.get(revision=proposal.revision, name="smoke run")
    assert gate.outcome == "warned"  # in any case: at a played worker's pace a run would take too long
    return [remark["sentence"] for remark in gate.measured["findings"] if remark["rule"] == "narrow-lookup"]


def test_bob_reads_that_frequent_tokens_would_learn_too_little(campaign: Campaign) -> None:
    (sentence,) = tried_out(campaign, lookups_count_to=256)
    assert "counts at most 256 uses of a row in a batch, so that frequent tokens may learn too little" in sentence


@pytest.mark.parametrize("said", [None, True, "256", [256], 256.0])
def test_nothing_is_said_where_nothing_is_narrow_or_the_word_is_no_count(campaign: Campaign, said: Any) -> None:
    assert tried_out(campaign, lookups_count_to=said) == []


def test_what_the_incumbent_does_itself_is_not_held_against_alice(campaign: Campaign, bob: User) -> None:
    earlier = builders.make_pending(campaign, overrides=(builders.make_override(value=0.2),))
    decisions.decide(earlier.pk, digest=earlier.revision.digest, choice="approve", by=bob)
    dispatch.advance(campaign)
    lease = say_started(builders.claim(builders.make_worker()), lookups_count_to=256)
    assert lease.spec.purpose == "baseline"
    builders.finish(lease, val_bpb=1.6)
    assert tried_out(campaign, lookups_count_to=256) == []
