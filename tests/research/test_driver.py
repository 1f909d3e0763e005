"""The loop in one process: an approval becomes a verdict, though there is neither a broker nor a second process."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from celery import Celery
from django.contrib.auth.models import User
from django.utils import timezone

from research.loop import driver, follow, reconcile
from research.loop.driver import Driver
from research.models import Proposal, Run
from research.propose import drafting
from research.record import approval, doorbell
from research.review import decisions
from research.runs import dispatch
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


# --- with a broker that is not well ---------------------------------------------------------------


@pytest.fixture
def silent_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """It accepts every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        monkeypatch.setattr(doorbell, "current_app", Celery("senders", broker=url, set_as_current=False))
        with doorbell.rung_by(doorbell.to_the_broker):
            yield server


def seconds_for(num_bells: int) -> float:
    began = time.monotonic()
    for number in range(num_bells):
        doorbell.workers(number)
    return time.monotonic() - began


def num_knocks(server: socket.socket) -> int:
    """How many connections were made since we looked last."""
    num = 0
    server.settimeout(0.1)
    try:
        while True:
            server.accept()[0].close()
            num += 1
    except TimeoutError:
        return num


def test_a_person_waits_two_seconds_once_for_a_broker_that_never_answers(
    silent_broker: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert seconds_for(20) < 3 * doorbell.ANSWERS_WITHIN_S
    assert caplog.text.count("no broker for gpu_runner.ring(0,), nor for what follows in 30 s") == 1
    assert caplog.text.count("no broker") == 1
    assert num_knocks(silent_broker) == 1
    later = time.monotonic() + doorbell.PAUSE_S
    with monkeypatch.context() as clock:
        clock.setattr(time, "monotonic", lambda: later)
        doorbell.workers(21)
    assert num_knocks(silent_broker) == 1, "after the pause it is tried again"


def test_a_broker_that_is_not_there_costs_nobody_a_second(silent_broker: socket.socket) -> None:
    silent_broker.close()
    assert seconds_for(20) < 1.0


# --- two processes that were installed from different lock files ----------------------------------


def test_different_lock_files_of_two_processes_keep_nobody_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The web side, where workers claim, finds all of the control worker's runs outdated, and the other way round."""
    campaign = builders.make_campaign(min_pairs=2, max_pairs=2, num_waiting=1)
    worker = builders.make_worker()

    def work(_: int) -> None:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(approval, "lock_sha256", lambda: "f" * 64)
            assert builders.claim(worker) is None

    with driver.driving({**driver.CONTROL, "gpu_runner.ring": work}) as loop:
        dispatch.advance(campaign)
        doorbell.control("control.propose", campaign.pk)
        loop.to_the_end(at_most=100)
        proposal = campaign.proposals.get()
        assert (proposal.state, proposal.revision.number) == ("stale", 2), "once at once, it may have been a person"
        assert campaign.runs.filter(purpose="baseline").count() == 2
        Proposal.objects.update(state_at=timezone.now() - drafting.REBASED_AGAIN_AFTER)
        reconcile.reconcile()
        loop.to_the_end(at_most=100)
    proposal.refresh_from_db()
    assert (proposal.state, proposal.revision.number) == ("stale", 3), "and then again at reconcile's pace"
