"""The record cannot be rewritten unnoticed: dana verifies it, mallory has the database."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction

from gpu_runner import contract
from research import audit, events, override, propose, reconcile, review, tasks
from research.gates import overridden
from research.models import AuditHead, Campaign, Decision, Event, Incumbent, Proposal, Revision, Score, Verdict
from tests import builders

CHANGED: dict[str, Any] = {
    "base_commit": "b" * 40,
    "patch": "--- a/train.py",
    "overrides": {"depth": 5},
    "budget": {"kind": "seconds", "amount": 1e6},
    "seeds": {"min_pairs": 1, "max_pairs": 1, "alpha": 0.9, "min_effect_bpb": 0.005},
    "dataset_sha256": "0" * 64,
    "scorer_version": "0",
    "lock_sha256": "f" * 64,
    "sandbox_level": "none",
    "gate_version": "0",
}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _without_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_send", lambda name, args, *, queue: None)


@pytest.fixture
def record(bob: User) -> Campaign:
    """A campaign with a decision, and some events; all in the chain."""
    campaign = builders.make_campaign()
    proposal = builders.make_pending(campaign)
    review.decide(
        proposal.pk, digest=proposal.revision.digest, choice="reject", category="later", reason="Not now.", by=bob
    )
    audit.chain()
    return campaign


def write(campaign: Campaign, num: int = 1) -> None:
    for number in range(num):
        with transaction.atomic():
            events.record("test.written", f"Number {number}", by="user:alice", campaign=campaign, value=number / 7)


def run(*words: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("verify_audit", *words, stdout=out, stderr=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_a_record_that_nobody_touched_is_what_was_written(record: Campaign) -> None:
    found = audit.verify()
    assert (found.findings, found.num_unchained) == ([], 0)
    assert found.num_events == Event.objects.count() > 5
    assert run()[0] == 0


def test_new_events_are_chained_by_reconcile_and_until_then_counted(record: Campaign) -> None:
    before = audit.verify()
    write(record, 3)
    assert audit.verify().num_unchained == 3
    assert "3 of the last seconds not chained yet" in run()[1]
    reconcile.reconcile()
    after = audit.verify()
    assert (after.findings, after.num_unchained) == ([], 0)
    assert after.num_events >= before.num_events + 3


@pytest.mark.parametrize(
    "change",
    [
        {"sentence": "Nothing happened"},
        {"by": "user:somebody"},
        {"payload": {"digest": "f" * 64}},
        {"kind": "proposal.approved"},
        {"campaign_id": None},
        {"at": "2020-01-01T00:00:00Z"},
        {"sha256": "0" * 64},
    ],
)
def test_a_changed_event_is_named(record: Campaign, change: dict[str, Any]) -> None:
    event = Event.objects.get(position=3)
    Event.objects.filter(pk=event.pk).update(**change)
    findings = audit.verify().findings
    assert f"event {event.pk} (position 3" in findings[0]
    assert run()[0] == 1


def test_a_removed_event_is_missed_in_the_middle_and_at_the_end(record: Campaign) -> None:
    last = Event.objects.count()
    Event.objects.filter(position__in=(3, 4)).delete()
    findings = audit.verify().findings
    assert findings[0] == "2 events, positions 3 to 4, were removed"
    Event.objects.filter(position=last).delete()
    assert f"1 events at the end, from position {last}, were removed" in audit.verify().findings


def test_an_inserted_or_moved_event_is_found(record: Campaign) -> None:
    Event.objects.create(kind="x", by="user:mallory", sentence="I was here", position=1_000, sha256="1" * 64)
    assert any("removed" in finding or "added by hand" in finding for finding in audit.verify().findings)
    Event.objects.filter(position=1_000).delete()
    Event.objects.filter(position=2).update(position=2_000)
    Event.objects.filter(position=3).update(position=2)
    Event.objects.filter(position=2_000).update(position=3)
    assert len(audit.verify().findings) >= 2


def test_a_whole_new_chain_does_not_hold_the_head_that_was_kept_elsewhere(record: Campaign) -> None:
    kept = run("--export")[1].split()[-1]
    assert run("--head", kept)[0] == 0
    write(record)
    audit.chain()
    assert run("--head", kept)[0] == 0  # it has grown since
    Event.objects.filter(position=3).update(sentence="Nothing happened")
    Event.objects.update(position=None, sha256="")
    AuditHead.objects.all().delete()
    audit.chain()
    assert run()[0] == 0
    code, said = run("--head", kept)
    assert code == 1
    assert "the given head is nowhere in the chain" in said


@pytest.mark.parametrize(
    "change", [{"reason": "Yes!"}, {"choice": "approve"}, {"digest": "f" * 64}, {"category": "unsafe"}]
)
def test_a_changed_decision_is_found(record: Campaign, change: dict[str, str]) -> None:
    decision = Decision.objects.get()
    Decision.objects.update(**change)
    assert audit.verify().findings[0] == f"decision {decision.pk} is not what the events say was decided"


@pytest.mark.parametrize("field", contract.Approval.model_fields)
def test_a_revision_that_was_changed_after_it_was_signed_is_found_field_by_field(record: Campaign, field: str) -> None:
    revision = Revision.objects.get()
    changed = revision.approval | {field: CHANGED[field]}
    Revision.objects.update(approval=changed)
    name = f"revision 1 of P-{revision.proposal_id}"
    assert audit.verify().findings == [f"{name} is not what its digest was taken of"]
    # With its digest made to fit, it is no longer the one that was decided on.
    Revision.objects.update(
        patch=changed["patch"],
        overrides=[{"key": key, "value": value} for key, value in changed["overrides"].items()],
        digest=contract.Approval.model_validate(changed).digest(),
    )
    signed, stated = audit.verify().findings
    assert signed.startswith(f"{name} has another digest than decision")
    assert stated == f"{name} does not state what the events say it stated"


@pytest.mark.parametrize("change", [{"patch": "--- a/train.py"}, {"overrides": []}, {"approval": {"patch": ""}}])
def test_a_page_that_shows_another_change_than_the_one_that_was_signed_is_found(
    record: Campaign, change: dict[str, Any]
) -> None:
    Revision.objects.update(**change)
    assert "is not what its digest was taken of" in audit.verify().findings[0]


def test_a_removed_and_a_forged_decision_are_found(record: Campaign, bob: User, alice: User) -> None:
    decision = Decision.objects.get()
    forged = Decision.objects.create(revision=decision.revision, choice="approve", digest=decision.digest, by=alice)
    assert audit.verify().findings == [f"decision {forged.pk} is not what the events say was decided"]
    number = decision.pk
    Decision.objects.all().delete()
    assert audit.verify().findings == [f"decision {number} was removed"]


@pytest.fixture
def judged(bob: User) -> Campaign:
    """A proposal was kept, so that there are scores, a verdict and two incumbents."""
    campaign = builders.make_campaign()
    proposal = builders.make_pending(campaign)
    review.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    while (lease := builders.claim(builders.make_worker())) is not None:
        builders.finish(lease, val_bpb=1.5 if lease.spec.purpose == "candidate" else 1.6)
    assert Incumbent.objects.count() == 2
    audit.chain()
    assert audit.verify().findings == []
    return campaign


@pytest.mark.parametrize("change", [{"val_bpb": 1.1}, {"outcome": "disputed"}])
def test_a_score_that_was_changed_is_found(judged: Campaign, change: dict[str, Any]) -> None:
    score = Score.objects.filter(run__purpose="candidate")[0]
    Score.objects.filter(pk=score.pk).update(**change)
    assert audit.verify().findings == [f"the score of R-{score.run_id} is not what the events say was measured"]


@pytest.mark.parametrize("change", [{"outcome": "discard"}, {"effect_bpb": -1.0}, {"num_pairs": 9}])
def test_a_verdict_that_was_changed_is_found(judged: Campaign, change: dict[str, Any]) -> None:
    Verdict.objects.update(**change)
    assert audit.verify().findings == [
        f"the verdict on P-{Verdict.objects.get().revision.proposal_id} is not what the events say was found"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"effect_bpb": -0.011},
        {"low_bpb": -1.0},
        {"high_bpb": 1.0},
        {"chance_to_win": 0.99},
        {"hypothesis": "I knew it"},
        {"refuted_if": "Never."},
        {"time_factor": 2.0},
        {"model": "claude-of-tomorrow"},
        {"origin": "edited"},
    ],
)
def test_a_prediction_that_was_made_afterwards_is_found(judged: Campaign, change: dict[str, Any]) -> None:
    Revision.objects.update(**change)
    name = f"revision 1 of P-{Revision.objects.get().proposal_id}"
    assert audit.verify().findings == [f"{name} does not state what the events say it stated"]


@pytest.mark.parametrize("written", [[{}], ["depth"], [3], {"depth": 4}, [{"key": [], "value": 1}]])
def test_whatever_mallory_writes_is_named_and_ends_nothing(judged: Campaign, written: Any) -> None:
    Revision.objects.update(overrides=written)
    findings = audit.verify().findings
    assert any("is not what its digest was taken of" in finding for finding in findings)
    assert any("does not state what the events say" in finding for finding in findings)


@pytest.mark.parametrize(
    "payload",
    [
        {"stated": 3, "revision": [1], "decision": [1], "val_bpb": [], "number": {}},
        {"found": {}, "decision": None},
        ["stated", "found", "decision", "val_bpb"],
        3,
    ],
)
def test_torn_events_are_named_and_end_nothing(judged: Campaign, payload: Any) -> None:
    Event.objects.update(payload=payload)
    assert len(audit.verify().findings) > 20


def test_a_win_that_was_given_to_another_arm_is_found(judged: Campaign) -> None:
    Proposal.objects.update(arm="claude")
    assert audit.verify().findings[0].endswith("does not state what the events say it stated")


def test_every_revision_is_held_to_its_own_words_and_a_removed_one_is_missed(
    record: Campaign, alice: User, bob: User
) -> None:
    proposal = builders.make_pending(record, title="Twice", overrides=[builders.make_override(value=0.3)])
    shown = proposal.revision
    review.decide(proposal.pk, digest=shown.digest, choice="request_changes", reason="Milder, please.", by=bob)
    propose.revise(Proposal.objects.get(pk=proposal.pk))
    assert proposal.revisions.count() == 2
    audit.chain()
    assert audit.verify().findings == []
    proposal.revisions.filter(number=2).update(chance_to_win=0.5)
    assert audit.verify().findings == [f"revision 2 of P-{proposal.pk} does not state what the events say it stated"]
    proposal.revisions.filter(number=2).delete()
    assert audit.verify().findings == [f"revision 2 of P-{proposal.pk} was removed"]


@pytest.mark.parametrize("change", [{"outcome": "passed"}, {"sentence": "Fine."}, {"measured": {}}])
def test_a_gate_that_was_made_to_say_something_else_is_found(record: Campaign, change: dict[str, Any]) -> None:
    proposal = builders.make_blocked(record)
    audit.chain()
    assert audit.verify().findings == []
    proposal.revision.gates.filter(outcome="failed").update(**change)
    assert audit.verify().findings == [
        f"the gates of revision 1 of P-{proposal.pk} are not what the events say they found"
    ]


def test_a_gate_that_was_removed_after_it_passed_is_found(record: Campaign) -> None:
    revision = Revision.objects.get()
    assert revision.gates.count() > 5
    revision.gates.filter(name="smoke run").delete()
    assert audit.verify().findings == [
        f"the gates of revision 1 of P-{revision.proposal_id} are not what the events say they found"
    ]


def test_gates_that_are_looking_or_were_overridden_are_no_forgery(record: Campaign, bob: User, dana: User) -> None:
    proposal = builders.make_blocked(record)
    sha256 = overridden.sha256_of(overridden.failed(proposal.revision))
    for person in (bob, dana):
        override.sign(proposal.pk, digest=proposal.revision.digest, gates_sha256=sha256, reason="Seen.", by=person)
    audit.chain()
    assert audit.verify().findings == []  # its smoke run waits
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    builders.finish(lease, val_bpb=5.0)
    audit.chain()
    assert Proposal.objects.get(pk=proposal.pk).state == "pending_review"
    assert audit.verify().findings == []


def test_an_incumbent_that_was_changed_or_slipped_in_is_found(judged: Campaign) -> None:
    Incumbent.objects.filter(number=1).update(commit="f" * 40)
    assert audit.verify().findings == [f"incumbent 1 of {judged} is not what the events say was promoted"]
    Incumbent.objects.create(campaign=judged, number=7, commit="e" * 40)
    assert len(audit.verify().findings) == 2


def test_what_is_added_as_the_application_would_add_it_is_not_told_from_it(judged: Campaign, bob: User) -> None:
    """docs/security.md says so: the chain shows that the past stayed as it was, not who wrote today's rows."""
    revision = Revision.objects.all()[0]
    forged = Decision.objects.create(revision=revision, choice="approve", digest=revision.digest, by=bob)
    told = {"decision": forged.pk, "decided": audit.summary(forged)}
    Event.objects.create(kind="proposal.approved", by="user:bob", sentence="Bob approved", payload=told)
    audit.chain()
    assert audit.verify().findings == []


def test_the_answer_is_one_object_for_programs_and_bad_heads_are_refused(record: Campaign) -> None:
    code, said = run("--json")
    found = json.loads(said)
    assert (code, found["findings"], found["num_events"]) == (0, [], Event.objects.count())
    assert run("--head", "abc")[0] == 2


def test_many_findings_are_cut_short(record: Campaign) -> None:
    write(record, 80)
    audit.chain()
    Event.objects.update(by="user:mallory")
    assert len(audit.verify().findings) == audit.MAX_FINDINGS + 1


def test_an_empty_record_is_whole() -> None:
    assert audit.verify().findings == []
    assert audit.chain() == 0
