"""The record cannot be rewritten unnoticed: dana verifies it, mallory has the database."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction

from gpu_runner import contract
from research.gates import overridden
from research.loop import reconcile
from research.models import AuditHead, Campaign, Decision, Event, Incumbent, Proposal, Revision, Score, Verdict
from research.propose import drafting
from research.record import audit, chain, events, held, kinds
from research.record import seal as seals
from research.record.rights import AUDIT
from research.review import decisions, override
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
    "environment_sha256": "0" * 64,
}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def record(bob: User) -> Campaign:
    """A campaign with a decision, and some events; all in the chain."""
    campaign = builders.make_campaign()
    proposal = builders.make_pending(campaign)
    decisions.decide(
        proposal.pk, digest=proposal.revision.digest, choice="reject", category="later", reason="Not now.", by=bob
    )
    audit.chain()
    return campaign


def write(campaign: Campaign, num: int = 1) -> None:
    for number in range(num):
        with transaction.atomic():
            fact = kinds.BETTER_ON_VAL(final={"value": number / 7})
            events.record(fact, f"Number {number}", by="user:alice", campaign=campaign)


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
        {"rows": {}},
        {"seal": None},
        {"seal": "0" * 104},
    ],
)
def test_a_changed_event_is_named(record: Campaign, change: dict[str, Any]) -> None:
    event = Event.objects.get(kind="proposal.pending_review")
    Event.objects.filter(pk=event.pk).update(**change)
    findings = audit.verify().findings
    assert f"event {event.pk} (position {event.position}" in findings[0]
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


def test_a_whole_new_chain_does_not_hold_the_head_that_was_kept_elsewhere(record: Campaign, settings: Any) -> None:
    line = run("--export")[1].splitlines()[-1]
    kept = line.split()[2]
    assert run("--head", kept)[0] == run("--head", line)[0] == 0
    write(record)
    audit.chain()
    assert run("--head", kept)[0] == 0  # it has grown since
    Event.objects.filter(position=3).update(sentence="Nothing happened")
    Event.objects.update(position=None, sha256="", seal=None)
    AuditHead.objects.all().delete()
    Path(settings.AUDIT_HEAD).unlink()  # mallory has a home of his own
    settings.AUDIT_KEY = "mallory's"
    chain.begin("It has always been so", by=AUDIT)
    assert run()[0] == 0
    code, said = run("--head", kept)
    assert code == 1
    assert "the given head is nowhere in the chain" in said
    assert "the record is signed with the key" in run("--head", line)[1]


@pytest.mark.parametrize(
    "change", [{"reason": "Yes!"}, {"choice": "approve"}, {"digest": "f" * 64}, {"category": "unsafe"}]
)
def test_a_changed_decision_is_found(record: Campaign, change: dict[str, str]) -> None:
    decision = Decision.objects.get()
    Decision.objects.update(**change)
    assert f"decision {decision.pk} is not what the events tell of it" in audit.verify().findings


@pytest.mark.parametrize("field", contract.Approval.model_fields)
def test_a_revision_that_was_changed_after_it_was_signed_is_found_field_by_field(record: Campaign, field: str) -> None:
    revision = Revision.objects.get()
    changed = revision.approval | {field: CHANGED[field]}
    Revision.objects.update(approval=changed)
    name = f"revision 1 of P-{revision.proposal_id}"
    untold = f"{name} is not what the events tell of it"
    assert audit.verify().findings == [f"{name} is not what its digest was taken of", untold]
    # With its digest made to fit, it is no longer the one that was decided on.
    Revision.objects.update(
        patch=changed["patch"],
        overrides=[{"key": key, "value": value} for key, value in changed["overrides"].items()],
        digest=contract.Approval.model_validate(changed).digest(),
    )
    signed, told = audit.verify().findings
    assert signed.startswith(f"{name} has another digest than decision")
    assert told == untold


@pytest.mark.parametrize("change", [{"patch": "--- a/train.py"}, {"overrides": []}, {"approval": {"patch": ""}}])
def test_a_page_that_shows_another_change_than_the_one_that_was_signed_is_found(
    record: Campaign, change: dict[str, Any]
) -> None:
    Revision.objects.update(**change)
    assert "is not what its digest was taken of" in audit.verify().findings[0]


def test_a_removed_and_a_forged_decision_are_found(record: Campaign, bob: User, alice: User) -> None:
    decision = Decision.objects.get()
    forged = Decision.objects.create(revision=decision.revision, choice="approve", digest=decision.digest, by=alice)
    assert audit.verify().findings == [f"decision {forged.pk} was added by hand: no event tells of it"]
    number = decision.pk
    Decision.objects.all().delete()
    assert audit.verify().findings == [f"decision {number} was removed"]


@pytest.fixture
def judged(bob: User) -> Campaign:
    """A proposal was kept, so that there are scores, a verdict and two incumbents."""
    campaign = builders.make_campaign()
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
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
    assert audit.verify().findings == [f"the score of R-{score.run_id} is not what the events tell of it"]


@pytest.mark.parametrize("change", [{"outcome": "discard"}, {"effect_bpb": -1.0}, {"num_pairs": 9}])
def test_a_verdict_that_was_changed_is_found(judged: Campaign, change: dict[str, Any]) -> None:
    Verdict.objects.update(**change)
    assert audit.verify().findings == [
        f"the verdict on P-{Verdict.objects.get().revision.proposal_id} is not what the events tell of it"
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
    assert audit.verify().findings == [f"{name} is not what the events tell of it"]


@pytest.mark.parametrize("written", [[{}], ["depth"], [3], {"depth": 4}, [{"key": [], "value": 1}]])
def test_whatever_mallory_writes_is_named_and_ends_nothing(judged: Campaign, written: Any) -> None:
    Revision.objects.update(overrides=written)
    findings = audit.verify().findings
    assert any("is not what its digest was taken of" in finding for finding in findings)
    assert any("is not what the events tell of it" in finding for finding in findings)


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
    assert audit.verify().findings[0].endswith("is not what the events tell of it: see arm")


def test_every_revision_is_held_to_its_own_words_and_a_removed_one_is_missed(
    record: Campaign, alice: User, bob: User
) -> None:
    proposal = builders.make_pending(record, title="Twice", overrides=[builders.make_override(value=0.3)])
    shown = proposal.revision
    decisions.decide(proposal.pk, digest=shown.digest, choice="request_changes", reason="Milder, please.", by=bob)
    drafting.revise(Proposal.objects.get(pk=proposal.pk))
    assert proposal.revisions.count() == 2
    audit.chain()
    assert audit.verify().findings == []
    proposal.revisions.filter(number=2).update(chance_to_win=0.5)
    assert audit.verify().findings == [f"revision 2 of P-{proposal.pk} is not what the events tell of it"]
    number = proposal.revisions.get(number=2).pk
    proposal.revisions.filter(number=2).delete()
    assert audit.verify().findings == [f"revision {number} was removed"]


@pytest.mark.parametrize("change", [{"outcome": "passed"}, {"sentence": "Fine."}, {"measured": {}}])
def test_a_gate_that_was_made_to_say_something_else_is_found(record: Campaign, change: dict[str, Any]) -> None:
    proposal = builders.make_blocked(record)
    audit.chain()
    assert audit.verify().findings == []
    proposal.revision.gates.filter(outcome="failed").update(**change)
    assert audit.verify().findings == [f"the gates of revision 1 of P-{proposal.pk} is not what the events tell of it"]


def test_a_gate_that_was_removed_after_it_passed_is_found(record: Campaign) -> None:
    revision = Revision.objects.get()
    assert revision.gates.count() > 5
    revision.gates.filter(name="smoke run").delete()
    assert audit.verify().findings == [
        f"the gates of revision 1 of P-{revision.proposal_id} is not what the events tell of it"
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
    assert audit.verify().findings == [f"incumbent 1 of {judged} is not what the events tell of it"]
    Incumbent.objects.create(campaign=judged, number=7, commit="e" * 40)
    assert len(audit.verify().findings) == 2


def with_a_right_hash(event: Event) -> Event:
    """As the application chains it, by somebody who has all of its code and none of its key."""
    head = AuditHead.objects.get()
    event.position = head.num_events + 1
    row = {name: getattr(event, name) for name in chain.COLUMNS}
    event.sha256 = chain.link(head.sha256, row)
    event.save()
    AuditHead.objects.update(num_events=event.position, sha256=event.sha256)
    return event


@pytest.mark.parametrize("seal", ["made up", "copied", "none"])
def test_an_event_with_a_right_hash_is_found_without_the_key_that_seals_it(
    judged: Campaign, bob: User, seal: str
) -> None:
    revision = Revision.objects.all()[0]
    forged = Decision.objects.create(revision=revision, choice="approve", digest=revision.digest, by=bob)
    event = Event.objects.create(kind="proposal.approved", by="user:bob", sentence="Bob approved")
    event.rows = held.told([forged])
    sealed = {"made up": seals.mark() + "0" * 96, "copied": Event.objects.earliest("pk").seal, "none": None}[seal]
    if (
        seal == "copied"
    ):  # the column is unique; who has the database may drop that, or take the seal of what he removes
        Event.objects.order_by("pk").first().delete()  # type: ignore[union-attr]
    event.seal = sealed
    with_a_right_hash(event)
    findings = audit.verify().findings
    assert any(finding.startswith(f"event {event.pk} (position") for finding in findings)
    assert f"decision {forged.pk} was added by hand: no event tells of it" in findings
    assert "the head of the chain was written by hand, its signature does not fit" in findings[0]


def test_an_event_that_waits_for_its_place_gets_none_without_a_seal(judged: Campaign, bob: User) -> None:
    write(judged)
    revision = Revision.objects.all()[0]
    forged = Decision.objects.create(revision=revision, choice="approve", digest=revision.digest, by=bob)
    told = held.told([forged])
    event = Event.objects.create(kind="proposal.approved", by="user:bob", sentence="Bob approved", rows=told)
    write(judged)
    for _ in range(2):
        found = audit.verify()
        assert f"event {event.pk} ({event.at:%Y-%m-%d %H:%M}) was not written by the application" in found.findings
        assert f"decision {forged.pk} was added by hand: no event tells of it" in found.findings
        audit.chain()
    assert (Event.objects.get(pk=event.pk).position, found.num_unchained) == (None, 0)


@pytest.mark.parametrize("change", [{"sentence": "Nothing"}, {"rows": {}}, {"by": "user:eve"}])
def test_what_was_written_in_the_last_seconds_is_held_already(record: Campaign, change: dict[str, Any]) -> None:
    write(record)
    event = Event.objects.latest("pk")
    Event.objects.filter(pk=event.pk).update(**change)
    assert any(f"event {event.pk} " in finding for finding in audit.verify().findings) or change == {"rows": {}}
    Event.objects.filter(pk=event.pk).update(seal="")
    assert any(f"event {event.pk} " in finding for finding in audit.verify().findings)


def test_an_earlier_state_of_everything_is_not_what_this_home_signed(record: Campaign) -> None:
    """A copy of the whole database from before, put back: every seal and the head's signature fit."""
    before, events_before = AuditHead.objects.values().get(), list(Event.objects.values_list("pk", flat=True))
    write(record, 3)
    audit.chain()
    Event.objects.exclude(pk__in=events_before).delete()
    AuditHead.objects.update(**before)
    (finding,) = audit.verify().findings
    assert finding.startswith(f"this home signed {before['num_events'] + 3} events until")
    assert "--begin-anew" in finding


@pytest.mark.parametrize("removed", ["head", "signature", "all"])
def test_whoever_takes_the_signature_away_gets_no_other(record: Campaign, removed: str) -> None:
    write(record)
    if removed == "signature":
        AuditHead.objects.update(signature="")
    else:
        AuditHead.objects.all().delete()
    if removed == "all":
        Event.objects.all().delete()
    with pytest.raises(chain.Broken, match="the signed head of the chain was removed"):
        audit.chain()
    reconcile.reconcile()  # goes on, and says so in the log
    assert "the signed head of the chain was removed from the database" in audit.verify().findings[0]


def test_a_lost_key_is_said_in_one_sentence_and_the_way_out_works(record: Campaign, settings: Any) -> None:
    settings.AUDIT_KEY = "another home's"
    write(record)
    found = audit.verify()
    assert len(found.findings) == 1
    assert "bring back the home's file audit_key (or COUNTERSIGN_AUDIT_KEY)" in found.findings[0]
    with pytest.raises(chain.Broken, match="bring back"):
        audit.chain()
    code, said = run("--begin-anew", "The disk of the old home is gone")
    assert (code, "until now: the record is signed with the key" in said) == (0, True)
    assert f"From position {found.num_events + 2} on they carry the seal of this home's key" in said
    begun = Event.objects.get(kind=kinds.AUDIT_BEGUN, payload__was__num_events=found.num_events + 1)
    assert begun.by.startswith("operator:")
    assert begun.sentence.endswith("at the command line: The disk of the old home is gone")
    write(record)
    audit.chain()
    assert audit.verify().findings == []
    Event.objects.filter(position=3).update(sentence="Nothing")
    assert "position 3" in audit.verify().findings[0]  # what was before is hashed


def test_a_record_of_an_earlier_version_is_taken_as_it_is_and_says_so(record: Campaign) -> None:
    """No seals, no rows in events, no signature: chained as the version before this one did."""
    Path(django_settings.AUDIT_HEAD).unlink()
    Event.objects.filter(kind=kinds.AUDIT_BEGUN).delete()
    Event.objects.update(position=None, sha256="", seal=None, rows={})
    head = ""
    for position, event in enumerate(Event.objects.order_by("pk"), start=1):
        fields = ("pk", "kind", "by", "campaign_id", "proposal_id", "run_id", "sentence", "payload")
        said = {name: getattr(event, name) for name in fields}
        said |= {"position": position, "at": event.at.timestamp()}
        head = contract.sha256(contract.canonical_json([head, said]))
        Event.objects.filter(pk=event.pk).update(position=position, sha256=head)
    num = Event.objects.count()
    AuditHead.objects.update(num_events=num, sha256=head, begun=0, signature="")
    assert audit.verify().findings == []
    assert "Nobody has signed this record yet" in run()[1]
    reconcile.reconcile()
    found = audit.verify()
    assert (found.findings, found.begun) == ([], num + 1)
    assert Event.objects.get(kind=kinds.AUDIT_BEGUN).position == num + 1
    Decision.objects.update(reason="Yes!")
    assert len(audit.verify().findings) == 1


def test_a_new_database_in_an_old_home_begins_and_one_with_rows_does_not(alice: User) -> None:
    audit.chain()
    Event.objects.all().delete()
    AuditHead.objects.all().delete()
    with pytest.raises(chain.Broken):
        audit.chain()
    User.objects.all().delete()
    Event.objects.all().delete()
    assert audit.chain() == 0
    assert audit.verify().findings == []


def test_the_answer_is_one_object_for_programs_and_bad_heads_are_refused(record: Campaign) -> None:
    code, said = run("--json")
    found = json.loads(said)
    assert (code, found["findings"], found["num_events"]) == (0, [], Event.objects.count())
    assert run("--head", "abc")[0] == 2


def test_what_mallory_writes_into_a_name_neither_hides_a_finding_nor_forges_a_line(
    record: Campaign, alice: User
) -> None:
    """The name stands in the sentence, and the sentence on dana's terminal."""
    audit.chain()
    User.objects.filter(pk=alice.pk).update(username="x\x1b[2K\x1b[1A\r\u202e\n9 events are what was written")
    code, said = run()
    assert code == 1
    assert len(said.splitlines()) == 1
    assert "x<U+001B>[2K<U+001B>[1A<U+000D><U+202E> 9 events" in said


def test_many_findings_are_cut_short(record: Campaign) -> None:
    write(record, 80)
    audit.chain()
    Event.objects.update(by="user:mallory")
    assert len(audit.verify().findings) == audit.MAX_FINDINGS + 1


def test_an_empty_record_is_whole() -> None:
    assert audit.verify().findings == []
    assert audit.chain() == 0
    assert audit.verify().findings == []
