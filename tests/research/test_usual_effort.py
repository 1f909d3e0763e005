"""Whoever is scored after the incumbent is held against what scoring the incumbent takes."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from gpu_runner import contract
from research.models import Proposal, Run, Score
from research.review import decisions
from research.runs import incumbent_usage
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)


def claimed(purpose: str, **effort: Any) -> contract.Lease:
    """The next run of this purpose; those before it end with a score of this effort, or of none."""
    while True:
        lease = builders.claim(builders.make_worker())
        assert lease is not None
        if lease.spec.purpose == purpose:
            return lease
        told = {"effort": builders.make_effort(**effort)} if effort else {}
        builders.finish(lease, val_bpb=1.6 + lease.spec.seed % 7 / 1000, **told)


def test_a_candidate_is_held_against_the_most_that_any_run_of_the_incumbent_took(approved: Proposal) -> None:
    first = claimed("candidate")
    assert first.spec.usual_effort is None, "the incumbent was not scored yet"
    builders.finish(first, val_bpb=1.6)
    for take in ({"first_s": 0.3, "later_s": 0.02}, {"first_s": 0.1, "later_s": 0.04, "peak_memory_mib": 500.0}):
        baseline = claimed("baseline")
        assert baseline.spec.usual_effort is None, "the incumbent is not held against itself"
        builders.finish(baseline, val_bpb=1.6, effort=builders.make_effort(**take))
    candidate = Run.objects.get(pk=first.spec.run_id)
    took = incumbent_usage.effort(candidate)
    assert took == builders.make_effort(first_s=0.3, later_s=0.04, peak_memory_mib=500.0)


@pytest.mark.parametrize(
    "other",
    [
        {"outcome": "disputed"},
        {"run__hardware_class": "cuda-h200"},
        {"run__sandbox_level": "landlock"},
        {"effort": None},
    ],
)  # fmt: skip
def test_what_was_not_believed_or_measured_elsewhere_is_not_usual(approved: Proposal, other: dict[str, Any]) -> None:
    lease = claimed("candidate")
    candidate = Run.objects.get(pk=lease.spec.run_id)
    builders.finish(lease, val_bpb=1.6)
    baseline = claimed("baseline")
    builders.finish(baseline, val_bpb=1.6, effort=builders.make_effort())
    assert incumbent_usage.effort(candidate) is not None
    score = Score.objects.filter(run=baseline.spec.run_id)
    for field, value in other.items():
        if field.startswith("run__"):
            Run.objects.filter(pk=baseline.spec.run_id).update(**{field.removeprefix("run__"): value})
        else:
            score.update(**{field: value})
    assert incumbent_usage.effort(candidate) is None


def test_the_lease_of_a_candidate_carries_it_where_the_incumbent_was_measured_before(bob: User) -> None:
    proposal = builders.make_pending(builders.make_campaign())
    while (lease := builders.claim(builders.make_worker())) is not None:
        assert lease.spec.purpose == "baseline"
        builders.finish(lease, val_bpb=1.6, effort=builders.make_effort())
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    lease = claimed("candidate")
    assert lease.spec.usual_effort == builders.make_effort()
    assert contract.parse(contract.Lease, lease.model_dump_json().encode()) == lease
