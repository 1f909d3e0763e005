"""The loop in one process: an approval becomes a verdict, though there is neither a broker nor a second process."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from research.loop import driver, follow
from research.loop.driver import Driver
from research.models import Run
from research.record import doorbell
from research.review import decisions
from tests import builders
from tests.conftest import Bells

pytestmark = pytest.mark.django_db(transaction=True)


def test_bobs_approval_becomes_a_verdict_in_one_process(bob: User) -> None:
    campaign = builders.make_campaign(min_pairs=2, max_pairs=2, num_waiting=1)
    worker = builders.make_worker()

    def work(_: int) -> None:
        """As a GPU worker does: one ring empties the queue."""
        while (lease := builders.claim(worker)) is not None:
            builders.finish(lease, val_bpb=1.6 if lease.spec.purpose == "candidate" else 1.5)

    with driver.driving({**driver.CONTROL, "gpu_runner.ring": work}) as loop:
        doorbell.control("control.propose", campaign.pk)
        assert loop.to_the_end() > 5
        proposal = campaign.proposals.get(state="pending_review")
        decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
        loop.to_the_end()
        assert loop.waiting == []
    proposal.refresh_from_db()
    assert (proposal.state, proposal.revision.verdict.outcome) == ("judged", "discard")
    assert campaign.proposals.filter(state="pending_review").count() == 1, "and the next one waits"
    assert not Run.objects.filter(state="queued").exists()


def test_every_bell_of_the_table_is_answered_in_one_process_too() -> None:
    assert {bell for bell, _ in follow.AFTER.values()} - {"workers"} <= driver.CONTROL.keys()


def test_bells_that_ring_each_other_for_ever_are_ended_and_named() -> None:
    def ring_again(pk: int) -> None:
        doorbell.control("control.check" if pk % 2 else "control.advance", pk + 1)

    with driver.driving({"control.advance": ring_again, "control.check": ring_again}) as loop:
        doorbell.control("control.advance", 1)
        with pytest.raises(RuntimeError, match=r"10 bells .*control\.advance 5 times, control\.check 5 times"):
            loop.to_the_end(at_most=10)


def test_a_bell_that_nobody_answers_is_let_go(loop: Driver, bells: Bells) -> None:
    doorbell.workers(7)
    assert bells == [("gpu_runner.ring", (7,))]
    assert loop.to_the_end() == 0
    assert bells == []
