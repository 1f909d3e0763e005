"""Alice's tracker is told what happens: signed, at least once, and never by way of somebody else's network."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError
from standardwebhooks import Webhook, WebhookVerificationError

from research.models import Campaign, Event, Proposal
from research.record import doorbell, events, kinds
from research.record.kinds import Fact
from research.record.rights import COMMAND_LINE
from research.review import decisions
from research.runs import dispatch
from tests import builders
from tests.notify.conftest import Receiver, hang, make_due, say, trickle
from webapp.notify import deliver, outbox, post, tasks
from webapp.notify.models import DELIVER, Delivery, Endpoint

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def eager() -> Iterator[None]:
    """A control worker that is always there: a task runs where it is sent."""

    def at_once(task: str, rows: tuple[int, ...], queue: str) -> None:
        if task == DELIVER:
            tasks.deliver(*rows)

    with doorbell.rung_by(at_once):
        yield


def happen(campaign: Campaign, fact: Fact | None = None, sentence: str = "R-1 failed") -> Event:
    with transaction.atomic():
        return events.record(fact or kinds.RUN["failed"](), sentence, by="worker:box", campaign=campaign)


def owed(tracker: Endpoint) -> Delivery:
    return Delivery.objects.get(endpoint=tracker)


def seconds_until(moment: datetime | None) -> float:
    assert moment is not None
    return (moment - timezone.now()).total_seconds()


# --- what is sent ---------------------------------------------------------------------------


def test_a_proposal_that_waits_for_review_is_told_and_verified_by_an_independent_library(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://countersign.lab.example"
    proposal = builders.make_pending(campaign)
    assert deliver.drain(tracker.pk) == 2, "its smoke run finished, and it waits"
    told = {json.loads(got.body)["type"]: got for got in receiver.got}
    got = told["proposal.pending_review"]
    verified = Webhook(tracker.secret).verify(got.body, got.headers)
    event = Event.objects.get(kind="proposal.pending_review")
    assert verified["timestamp"] == verified["data"]["occurred_at"]
    assert datetime.fromisoformat(verified["timestamp"]) == event.at.replace(
        microsecond=event.at.microsecond // 1000 * 1000
    )
    assert verified["data"]["sequence"] == event.pk
    assert verified["data"]["proposal"]["url"] == f"https://countersign.lab.example/proposals/{proposal.pk}/"
    smoke = json.loads(told["run.finished"].body)["data"]["run"]
    assert (smoke["purpose"], smoke["val_bpb"]) == ("smoke", 5.0)
    assert got.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(tracker.secret).verify(got.body.replace(b"pending", b"rejecte"), got.headers)
    settled = Delivery.objects.get(kind="proposal.pending_review")
    assert (settled.state, settled.code, settled.num_attempts, settled.next_attempt_at) == ("delivered", 204, 1, None)


def test_a_verdict_carries_its_numbers(campaign: Campaign, bob: User, tracker: Endpoint, receiver: Receiver) -> None:
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    dispatch.advance(campaign)
    while Proposal.objects.get(pk=proposal.pk).state != "judged":
        lease = builders.claim(builders.make_worker())
        assert lease is not None
        effect = -0.1 if lease.spec.purpose == "candidate" else 0.0
        builders.finish(lease, val_bpb=1.6 + 0.001 * (lease.spec.seed % 7) + effect)
    deliver.drain(tracker.pk)
    body = next(json.loads(got.body) for got in receiver.got if json.loads(got.body)["type"] == "verdict")
    assert body["data"]["verdict"]["outcome"] == "keep"
    assert body["data"]["verdict"]["effect_bpb"] == pytest.approx(-0.1)
    assert body["data"]["verdict"]["num_pairs"] >= campaign.min_pairs


def test_what_was_rolled_back_is_told_to_nobody(campaign: Campaign, tracker: Endpoint) -> None:
    class ChangedMyMindError(Exception):
        pass

    def regret() -> None:
        with transaction.atomic():
            happen(campaign)
            assert Delivery.objects.count() == 1, "it was in the outbox, in the same transaction"
            raise ChangedMyMindError

    with pytest.raises(ChangedMyMindError):
        regret()
    assert not Delivery.objects.exists()


def test_an_endpoint_gets_only_what_it_asked_for(campaign: Campaign, tracker: Endpoint) -> None:
    Endpoint.objects.create(description="Verdicts only", url=tracker.url, kinds=["verdict"])
    Endpoint.objects.create(description="Off", url=tracker.url, kinds=["run.failed"], enabled=False)
    happen(campaign, kinds.RUN["timed_out"](val_bpb=None))
    happen(campaign, kinds.RUN["leased"]())
    assert [(row.endpoint.description, row.kind) for row in Delivery.objects.all()] == [
        ("Experiment tracker", "run.failed")
    ]


def test_the_longest_possible_body_is_small(tracker: Endpoint) -> None:
    campaign = builders.make_campaign(slug="s" * 50, name="\U0001f680" * 120)
    proposal = builders.make_proposal(campaign, title="\U0001f680" * 200)
    with transaction.atomic():
        fact = kinds.VERDICT(
            outcome="keep", effect_bpb=None, low_bpb=None, high_bpb=None, num_pairs=0, told="\U0001f680" * 600
        )
        events.record(fact, "\U0001f680" * 600, by="x" * 120, campaign=campaign, proposal=proposal)
    assert len(owed(tracker).body.encode()) < 5_000


def test_the_commit_rings_and_the_control_worker_delivers(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver, eager: None
) -> None:
    happen(campaign)
    assert [json.loads(got.body)["type"] for got in receiver.got] == ["run.failed"]


def test_without_a_broker_the_event_stands_and_the_pump_makes_it_good(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver, eager: None, caplog: Any
) -> None:
    def refuse(task: str, rows: tuple[int, ...], queue: str) -> None:
        raise OperationalError("connection refused")

    with doorbell.rung_by(refuse):
        happen(campaign)
    assert "no broker for notify.deliver" in caplog.text
    assert receiver.got == []
    tasks.pump()
    assert len(receiver.got) == 1
    tasks.pump()
    assert len(receiver.got) == 1, "nothing is due any more"


# --- when it does not arrive ----------------------------------------------------------------


def test_after_a_500_the_same_message_comes_again_with_a_new_timestamp(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver
) -> None:
    receiver.answers = [say(500, b"<b>broken</b>\x00\xff" + b"y" * 400)]
    happen(campaign)
    deliver.drain(tracker.pk)
    failed = owed(tracker)
    assert (failed.state, failed.code, failed.num_attempts) == ("pending", 500, 1)
    assert 3 < seconds_until(failed.next_attempt_at) <= 5
    assert failed.response_start == r"<b>broken</b>\x00\xff" + "y" * 241
    assert failed.response_sha256 == hashlib.sha256(b"<b>broken</b>\x00\xff" + b"y" * 400).hexdigest()
    assert deliver.drain(tracker.pk) == 0, "not before its time"
    make_due(tracker)
    Delivery.objects.update(created_at=timezone.now() - timedelta(hours=1))
    deliver.drain(tracker.pk)
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    Webhook(tracker.secret).verify(second.body, second.headers)
    tracker.refresh_from_db()
    assert (owed(tracker).state, tracker.num_failures, tracker.failing_since) == ("delivered", 0, None)


def test_ten_attempts_over_three_days_then_it_is_given_up_and_the_endpoint_switched_off(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver
) -> None:
    receiver.answers = [say(503)] * 10
    happen(campaign)
    waits = []
    for attempt in range(10):
        make_due(tracker)
        assert deliver.drain(tracker.pk) == 1
        if attempt < 9:
            waits.append(seconds_until(owed(tracker).next_attempt_at))
        if attempt == 0:
            Endpoint.objects.update(failing_since=timezone.now() - timedelta(hours=75))
    for wait, planned in zip(waits, deliver.DELAYS_S[1:], strict=True):
        assert planned - 2 < wait < 1.1 * planned + 2
    tracker.refresh_from_db()
    assert (owed(tracker).state, owed(tracker).num_attempts, tracker.enabled) == ("failed", 10, False)
    assert "Every attempt has failed since" in tracker.disabled_reason
    notice = Event.objects.get(kind="endpoint.disabled")
    assert "Experiment tracker" in notice.sentence


def test_410_switches_the_endpoint_off_at_once(campaign: Campaign, tracker: Endpoint, receiver: Receiver) -> None:
    receiver.answers = [say(410)]
    happen(campaign)
    happen(campaign)
    assert deliver.drain(tracker.pk) == 1
    happen(campaign)
    tracker.refresh_from_db()
    assert not tracker.enabled
    assert list(Delivery.objects.values_list("state", flat=True)) == ["failed", "failed"]
    assert deliver.endpoints_due() == []
    deliver.switch_on(tracker, by=COMMAND_LINE)
    happen(campaign)
    assert deliver.drain(tracker.pk) == 1
    assert Event.objects.filter(kind__in=["endpoint.disabled", "endpoint.enabled"]).count() == 2


def test_a_redirect_is_a_failure_and_is_not_followed(campaign: Campaign, tracker: Endpoint, receiver: Receiver) -> None:
    receiver.answers = [say(307, Location=f"{receiver.url}/elsewhere")]
    happen(campaign)
    deliver.drain(tracker.pk)
    assert [got.path for got in receiver.got] == ["/in"]
    assert (owed(tracker).state, owed(tracker).code) == ("pending", 307)
    assert "redirects" in owed(tracker).problem


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_makes_the_whole_endpoint_wait(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver, as_date: bool
) -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    receiver.answers = [say(429, Retry_After=in_an_hour if as_date else "3600")]
    happen(campaign)
    deliver.drain(tracker.pk)
    happen(campaign)
    assert deliver.drain(tracker.pk) == 0
    assert deliver.endpoints_due() == []
    tracker.refresh_from_db()
    assert 3_590 < seconds_until(tracker.busy_until) <= 3_600
    assert 3_590 < seconds_until(Delivery.objects.earliest("pk").next_attempt_at) <= 3_600


@pytest.mark.parametrize(
    ("said", "seconds"), [("643.323", 643.323), ("1e9", 86_400.0), ("-1", 5.0), ("nan", 5.0), ("inf", 5.0), (" ", 5.0)]
)
def test_retry_after_may_be_a_fraction_and_is_never_more_than_a_day(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver, said: str, seconds: float
) -> None:
    receiver.answers = [say(429, Retry_After=said)]
    happen(campaign)
    began = timezone.now()
    deliver.drain(tracker.pk)
    took = (timezone.now() - began).total_seconds()
    tracker.refresh_from_db()
    assert tracker.busy_until is not None
    assert seconds <= (tracker.busy_until - began).total_seconds() <= seconds + took


def test_a_dead_endpoint_costs_less_and_less_time(campaign: Campaign, tracker: Endpoint, receiver: Receiver) -> None:
    receiver.answers = [say(500)] * 9
    rests = []
    for _ in range(9):
        happen(campaign)
        Endpoint.objects.update(busy_until=None)
        assert deliver.drain(tracker.pk) == 1
        tracker.refresh_from_db()
        rests.append(round(seconds_until(tracker.busy_until)))
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300, 300]


@pytest.mark.parametrize("manner", [hang, trickle])
def test_a_receiver_that_never_ends_its_answer_is_hung_up_on(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver, manner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "READ_S", 0.3)
    monkeypatch.setattr(post, "TOTAL_S", 0.6)
    receiver.answers = [manner]
    happen(campaign)
    started = time.monotonic()
    deliver.drain(tracker.pk)
    assert time.monotonic() - started < 3
    assert receiver.gave_up.wait(5)
    assert (owed(tracker).state, owed(tracker).code) == ("pending", None)
    assert owed(tracker).problem.startswith("No complete answer within")


def test_nobody_there_is_a_sentence(campaign: Campaign, tracker: Endpoint) -> None:
    Endpoint.objects.update(url="http://127.0.0.1:1/")
    happen(campaign)
    deliver.drain(tracker.pk)
    assert owed(tracker).problem.startswith("No connection")


# --- who sends ------------------------------------------------------------------------------


def test_two_workers_never_make_the_same_attempt(campaign: Campaign, tracker: Endpoint, receiver: Receiver) -> None:
    happen(campaign)
    mine = deliver._claim(tracker.pk)
    assert mine is not None
    assert deliver.drain(tracker.pk) == 0, "another worker finds the endpoint taken"
    make_due(tracker)  # my lease has run out: I was killed, or very slow
    assert deliver.drain(tracker.pk) == 1
    deliver._settle(mine, post.Answer(code=500, latency_ms=1))
    assert (owed(tracker).state, owed(tracker).code, owed(tracker).num_attempts) == ("delivered", 204, 2)
    tracker.refresh_from_db()
    assert tracker.num_failures == 0, "an attempt whose lease ran out changes nothing"


def test_messages_of_one_endpoint_go_out_in_order(campaign: Campaign, tracker: Endpoint, receiver: Receiver) -> None:
    sequences = [happen(campaign).pk for _ in range(5)]
    assert deliver.drain(tracker.pk) == 5
    assert [json.loads(got.body)["data"]["sequence"] for got in receiver.got] == sequences


def test_while_a_secret_is_rotated_both_are_good_and_then_only_the_new_one(
    campaign: Campaign, tracker: Endpoint, receiver: Receiver
) -> None:
    old = tracker.secret
    new = deliver.rotate(tracker, by=COMMAND_LINE)
    happen(campaign)
    deliver.drain(tracker.pk)
    Endpoint.objects.update(old_secret_until=timezone.now())
    happen(campaign)
    deliver.drain(tracker.pk)
    during, after = receiver.got
    for secret in (old, new):
        Webhook(secret).verify(during.body, during.headers)
    Webhook(new).verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(after.body, after.headers)


def test_settled_deliveries_are_forgotten_after_thirty_days_and_owed_ones_never(
    campaign: Campaign, tracker: Endpoint
) -> None:
    happen(campaign)
    happen(campaign)
    Delivery.objects.update(created_at=timezone.now() - timedelta(days=31))
    settled = Delivery.objects.earliest("pk")
    Delivery.objects.filter(pk=settled.pk).update(state="delivered")
    deliver.forget_old()
    assert [row.state for row in Delivery.objects.all()] == ["pending"]


def test_a_test_message_says_that_nothing_happened(tracker: Endpoint, receiver: Receiver) -> None:
    outbox.put_test(tracker, by=COMMAND_LINE)
    deliver.drain(tracker.pk)
    (got,) = receiver.got
    assert Webhook(tracker.secret).verify(got.body, got.headers)["type"] == "test"
