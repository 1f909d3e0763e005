"""A gate says no, and people disagree with it: two sign, with a reason, on exactly what it found."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction

from research.change.drafts import Edit, Override
from research.gates import overridden, process
from research.lifecycle import LostRace
from research.models import Campaign, Decision, Event, Finding, Gate, Proposal, Revision, Run
from research.propose import briefing, drafting
from research.record import audit
from research.review import decisions, override
from research.runs import dispatch
from tests import builders
from tests.conftest import Bells

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def blocked(campaign: Campaign) -> Proposal:
    return builders.make_blocked(campaign)


def sign(proposal: Proposal, by: User, **over: Any) -> Decision:
    """With what the page would have shown."""
    revision = proposal.revision
    shown = {"digest": revision.digest, "gates_sha256": overridden.sha256_of(overridden.failed(revision))}
    return override.sign(proposal.pk, by=by, **(shown | {"reason": f"{by.first_name} has read it"} | over))


def state_of(proposal: Proposal) -> str:
    proposal.refresh_from_db()
    return proposal.state


def test_one_signature_changes_nothing_but_the_record(blocked: Proposal, bob: User) -> None:
    signed = sign(blocked, bob)
    assert state_of(blocked) == "blocked"
    assert (signed.choice, signed.digest) == ("override", blocked.revision.digest)
    told = Event.objects.get(kind="proposal.override_signed")
    assert told.by == "user:bob"
    assert "a second person has to sign" in told.sentence
    assert told.payload["gates"] == ["code"]
    assert not Run.objects.filter(purpose="smoke").exists()


def test_two_people_let_it_go_on_to_the_smoke_run_and_then_to_a_reviewer_who_still_decides(
    blocked: Proposal, bob: User, dana: User
) -> None:
    sign(blocked, bob)
    sign(blocked, dana)
    assert state_of(blocked) == "checking"
    lease = builders.claim(builders.make_worker())
    assert lease is not None and lease.spec.purpose == "smoke"
    builders.finish(lease, val_bpb=5.0)
    assert state_of(blocked) == "pending_review"
    assert Gate.objects.get(revision=blocked.revision, name="code").outcome == "failed"  # and stays on record
    assert "two reviewers let it go on: Dana has read it" in Finding.objects.get(proposal=blocked).text
    decisions.decide(blocked.pk, digest=blocked.revision.digest, choice="approve", by=bob)
    assert state_of(blocked) == "approved"
    audit.chain()
    assert audit.verify().findings == []


def test_the_same_person_does_not_count_twice(blocked: Proposal, bob: User) -> None:
    sign(blocked, bob)
    with pytest.raises(ValueError, match="somebody else has to sign, too"):
        sign(blocked, bob)
    assert Decision.objects.count() == 1
    with pytest.raises(IntegrityError), transaction.atomic():  # nor past the verb
        Decision.objects.create(
            revision=blocked.revision, choice="override", reason="again", by=bob,
            digest=blocked.revision.digest, gates_sha256=Decision.objects.get().gates_sha256,
        )  # fmt: skip
    assert state_of(blocked) == "blocked"


def test_neither_alice_without_the_role_nor_a_stranger_signs(blocked: Proposal, alice: User, charlie: User) -> None:
    for person in (alice, charlie):
        with pytest.raises(PermissionDenied, match="reviewer role"):
            sign(blocked, person)
    assert not Decision.objects.exists()


def test_nobody_overrides_for_their_own_proposal(campaign: Campaign, bob: User, dana: User) -> None:
    mine = builders.make_blocked(campaign, arm="human", author=bob)
    with pytest.raises(PermissionDenied, match="own proposal"):
        sign(mine, bob)
    sign(mine, dana)
    assert state_of(mine) == "blocked"


def test_whoever_wrote_a_later_revision_is_an_author_too(blocked: Proposal, bob: User) -> None:
    drafting.write_revision(blocked, briefing.draft_of(blocked.revision), origin="edited", author=bob)
    with pytest.raises(PermissionDenied, match="own proposal"):
        sign(blocked, bob)
    assert not Decision.objects.exists()


def test_a_reason_is_needed_and_the_field_is_named(blocked: Proposal, bob: User) -> None:
    for reason, words in (("  ", "reason: write why the gates are wrong"), ("x" * 4_001, "reason: 4,001 characters")):
        with pytest.raises(ValueError, match=words):
            sign(blocked, bob, reason=reason)
    assert not Decision.objects.exists()


def test_a_signature_is_on_what_was_on_the_screen(blocked: Proposal, bob: User) -> None:
    with pytest.raises(LostRace, match="revision 1 is on the table now"):
        sign(blocked, bob, digest="0" * 64)
    with pytest.raises(LostRace, match="found something else"):
        sign(blocked, bob, gates_sha256="0" * 64)
    assert not Decision.objects.exists()


def test_a_first_signature_is_void_when_the_gates_find_something_else(blocked: Proposal, bob: User, dana: User) -> None:
    sign(blocked, bob)
    gate = Gate.objects.get(revision=blocked.revision, name="code")
    Gate.objects.filter(pk=gate.pk).update(sentence=gate.sentence + " And more.")
    sign(blocked, dana)
    assert state_of(blocked) == "blocked"
    sign(blocked, bob)  # on the new findings
    assert state_of(blocked) == "checking"


def test_a_smoke_run_that_fails_blocks_an_overridden_proposal_again_and_takes_two_more_signatures(
    blocked: Proposal, bob: User, dana: User
) -> None:
    sign(blocked, bob)
    sign(blocked, dana)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    builders.fail(lease)
    assert state_of(blocked) == "blocked"
    sign(blocked, bob)
    assert state_of(blocked) == "blocked"
    sign(blocked, dana)
    assert state_of(blocked) == "pending_review"  # every gate has looked: nothing is tried a second time


def test_gates_that_look_again_keep_an_override_of_the_very_same_findings(
    blocked: Proposal, bob: User, dana: User
) -> None:
    """The control worker died between the second signature and the smoke run."""
    sign(blocked, bob)
    sign(blocked, dana)
    Run.objects.all().delete()
    process.recheck(blocked.revision)
    assert state_of(blocked) == "checking"
    assert Run.objects.filter(purpose="smoke", state="queued").exists()


@pytest.mark.parametrize(
    "over",
    [
        {"edits": (Edit(path="train.py", search="import math\nfrom c", replace="import math\u202e\nfrom c"),)},
        {"edits": (), "overrides": (Override(key="depth", value=10_000, reason="more"),)},
    ],
    ids=["hidden characters", "out of bounds"],
)
def test_what_nobody_could_read_or_run_is_not_overridden(campaign: Campaign, bob: User, over: dict[str, Any]) -> None:
    proposal = builders.make_blocked(campaign, **over)
    with pytest.raises(ValueError, match="cannot be overridden"):
        sign(proposal, bob)
    assert state_of(proposal) == "blocked"


def test_two_reviewers_do_not_speak_for_the_operator_of_a_machine_without_a_sandbox(bob: User) -> None:
    campaign = builders.make_campaign(sandbox_level="none")
    edit = Edit(path="train.py", search="import math\nfrom c", replace="import math\n\nfrom c")
    proposal = builders.make_blocked(campaign, arm="claude", edits=(edit,))
    with pytest.raises(ValueError, match="'sandbox' cannot be overridden"):
        sign(proposal, bob)


def test_an_override_waits_for_todays_conditions(blocked: Proposal, bob: User) -> None:
    Campaign.objects.update(min_effect_bpb=0.5)
    with pytest.raises(LostRace, match="have it checked again first"):
        sign(Proposal.objects.select_related("campaign").get(pk=blocked.pk), bob)


def test_bob_has_it_checked_again_under_todays_conditions(blocked: Proposal, bob: User, bells: Bells) -> None:
    override.check_again(blocked.pk, by=bob)
    assert state_of(blocked) == "stale"
    assert ("control.rebase", (blocked.pk,)) in bells
    drafting.rebase(Proposal.objects.select_related("campaign").get(pk=blocked.pk))
    assert (state_of(blocked), blocked.revision.number, blocked.revision.origin) == ("drafted", 2, "rebased")
    with pytest.raises(LostRace, match="already drafted"):
        override.check_again(blocked.pk, by=bob)


def test_a_stranger_has_nothing_checked_again(blocked: Proposal, charlie: User) -> None:
    with pytest.raises(PermissionDenied, match="researcher role"):
        override.check_again(blocked.pk, by=charlie)
    assert state_of(blocked) == "blocked"


def test_bob_withdraws_it_and_the_next_prompt_reads_why(blocked: Proposal, bob: User) -> None:
    override.withdraw(blocked.pk, reason="Nobody wants a socket.", by=bob)
    assert state_of(blocked) == "withdrawn"
    assert "Nobody wants a socket." in Finding.objects.get(proposal=blocked).text
    with pytest.raises(LostRace, match="already withdrawn"):
        override.withdraw(blocked.pk, reason="Twice.", by=bob)


def test_withdrawing_what_runs_stops_its_runs(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    dispatch.advance(campaign)
    lease = builders.claim_candidate()
    override.withdraw(proposal.pk, reason="A better idea came.", by=bob)
    assert state_of(proposal) == "withdrawn"
    live = Run.objects.get(pk=lease.spec.run_id)
    assert (live.state, live.stop_reason) == ("leased", f"P-{proposal.pk} was withdrawn")
    others = proposal.revision.runs.filter(purpose="candidate").exclude(pk=live.pk)
    assert {run.state for run in others} == {"cancelled"}


def test_alice_withdraws_her_own_and_nobody_elses(campaign: Campaign, alice: User, blocked: Proposal) -> None:
    mine = builders.make_proposal(campaign, arm="human", author=alice)
    override.withdraw(mine.pk, reason="A typo in it.", by=alice)
    assert state_of(mine) == "withdrawn"
    with pytest.raises(PermissionDenied, match="somebody else's"):
        override.withdraw(blocked.pk, reason="I dislike it.", by=alice)
    assert state_of(blocked) == "blocked"


def test_gates_that_are_late_with_an_old_revision_say_nothing_of_the_new_one(blocked: Proposal) -> None:
    old = blocked.revision
    drafting.write_revision(blocked, builders.make_draft(), origin="edited")
    Proposal.objects.filter(pk=blocked.pk).update(state="checking")
    process.recheck(Revision.objects.select_related("proposal__campaign").get(pk=old.pk))
    assert state_of(blocked) == "checking"
    assert not Run.objects.filter(purpose="smoke").exists()
