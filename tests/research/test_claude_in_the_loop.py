"""alice sets a key: Claude's answers become proposals, its price lands in the ledger, bob's comment reaches it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User

from research.arms.claude import prompt
from research.change.drafts import Answer, Edit
from research.gates import process
from research.lifecycle import LostRace
from research.loop import tasks
from research.models import Campaign, Event, Proposal, Turn
from research.propose import briefing, drafting, turns
from research.record import ledger, moves
from research.review import decisions, edit
from tests import builders

from .anthropic_server import Script, error, message, serving, text

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _with_a_key(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    settings.ANTHROPIC_CONFIGURED = True


def make_answer(value: float) -> dict[str, Any]:
    return {
        "design": "One ramp, to see whether the first steps are too large.",
        "drafts": [
            {
                "title": "Warm up first",
                "hypothesis": "The first steps are too large.",
                "mechanism": "A ramp lets the moments settle.",
                "refuted_if": "val_bpb does not fall",
                "prediction": {"effect_bpb": -0.01, "low_bpb": -0.03, "high_bpb": 0.01, "chance_to_win": 0.4},
                "risk": "contained",
                "cost": {"time_factor": 1.0, "memory_factor": 1.0},
                "why_together": "",
                "what_changed": None,
                "overrides": [{"key": "warmup_fraction", "value": value, "reason": "a ramp"}],
                "edits": [],
                "precedents": [],
            }
        ],
    }


def test_claude_proposes_bob_comments_and_the_revision_answers_him(monkeypatch: pytest.MonkeyPatch, bob: User) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    with serving(message(text(make_answer(0.1))), message(text(make_answer(0.05)))) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        (proposal,) = drafting.top_up(campaign)
        assert (proposal.arm, proposal.revision.knobs) == ("claude", {"warmup_fraction": 0.1})
        assert ledger.spent(campaign).usd > 0

        builders.pass_gates(proposal)
        comment = "Half of that ramp, please."
        digest = proposal.revision.digest
        decisions.decide(proposal.pk, digest=digest, choice="request_changes", by=bob, reason=comment)
        proposal.refresh_from_db()
        drafting.revise(proposal)
    assert comment in str(anthropic.asked[1])
    assert proposal.revision.reply == "One ramp, to see whether the first steps are too large."
    assert (proposal.state, proposal.revision.number, proposal.revision.answers) == ("drafted", 2, comment)
    assert proposal.revision.knobs == {"warmup_fraction": 0.05}
    assert proposal.revision.digest != digest
    assert Campaign.objects.get(pk=campaign.pk).ledger.filter(kind="claude").count() == 2


def ask(monkeypatch: pytest.MonkeyPatch, campaign: Campaign, *drafts: dict[str, Any]) -> list[Proposal]:
    with serving(message(text({"design": "Both ends of the ramp.", "drafts": list(drafts)}))) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        written = drafting.top_up(campaign)
    campaign.refresh_from_db()
    return written


def make_said(**over: Any) -> dict[str, Any]:
    (said,) = make_answer(0.1)["drafts"]
    return said | over


def test_what_comes_in_one_answer_is_one_wave_that_says_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = builders.make_campaign(num_waiting=2)
    longer = [{"key": "warmup_fraction", "value": 0.3, "reason": "a long ramp"}]
    cost = {"time_factor": 1.1, "memory_factor": 0.9}
    first, second = ask(monkeypatch, campaign, make_said(), make_said(title="Longer", overrides=longer, cost=cost))
    wave = campaign.waves.get()
    assert [p.wave for p in (first, second)] == [wave, wave]
    assert (wave.arm, wave.design, wave.model) == ("claude", "Both ends of the ramp.", "claude-opus-5-5")
    revision = second.revision
    assert (revision.risk, revision.time_factor, revision.memory_factor) == ("contained", 1.1, 0.9)
    assert (revision.model, revision.prompt_sha256, revision.templates_sha256) == (
        wave.model, wave.prompt_sha256, prompt.templates_sha256()
    )  # fmt: skip
    assert len(wave.prompt_sha256) == 64


def test_a_wave_of_which_nothing_could_be_written_down_is_none() -> None:
    """The incumbent moved while Claude wrote: its edits find nothing to replace."""
    campaign = builders.make_campaign()
    lost = Edit(path="train.py", search="not in this file any more", replace="x")
    assert builders.make_wave(campaign, builders.make_draft(overrides=(), edits=(lost,))) == []
    campaign.refresh_from_db()
    assert "could not be written down" in turns.of(campaign).problem
    assert not campaign.waves.exists()


def test_a_rebase_keeps_everything_that_was_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    (proposal,) = ask(monkeypatch, campaign, make_said(why_together="no need", risk="heavier"))
    Proposal.objects.update(state="stale")
    proposal.refresh_from_db()
    drafting.rebase(proposal)
    old, new = proposal.revisions.order_by("number")
    for field in ("risk", "time_factor", "memory_factor", "why_together", "model", "prompt_sha256", "templates_sha256"):
        assert getattr(old, field) == getattr(new, field) != "", field


def test_an_idea_that_bob_rejected_is_asked_again_only_with_what_has_changed(
    monkeypatch: pytest.MonkeyPatch, bob: User
) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    rejected = builders.make_pending(campaign)
    decisions.decide(
        rejected.pk, digest=rejected.revision.digest, choice="reject", by=bob, category="later", reason="Not yet."
    )
    assert ask(monkeypatch, campaign, make_said()) == []
    assert f"a person rejected the same change, proposal {rejected.pk}" in turns.of(campaign).problem
    assert Event.objects.filter(kind="proposer.problem").count() == 1
    Turn.objects.update(retry_at=None)
    campaign.refresh_from_db()
    change = {"proposal": rejected.pk, "difference": "The rows are twice as long now."}
    (proposal,) = ask(monkeypatch, campaign, make_said(what_changed=change))
    revision = proposal.revision
    assert (revision.returns_from, revision.what_changed) == (rejected, "The rows are twice as long now.")


def test_carol_may_repeat_what_claude_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = builders.make_campaign(num_waiting=2)
    tried = builders.make_proposal(campaign)
    assert ask(monkeypatch, campaign, make_said()) == []
    assert f"proposal {tried.pk} makes the same change and is still open" in turns.of(campaign).problem
    again = builders.make_proposal(campaign, arm="human")
    process.check(again.revision)
    assert again.revision.gates.get(name="novelty").outcome == "warned"


def test_a_reviewer_who_wants_other_words_gets_a_revision_of_the_same_change(
    monkeypatch: pytest.MonkeyPatch, bob: User
) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    (proposal,) = ask(monkeypatch, campaign, make_said())
    builders.pass_gates(proposal)
    digest = proposal.revision.digest
    decisions.decide(proposal.pk, digest=digest, choice="request_changes", by=bob, reason="Predict less.")
    proposal.refresh_from_db()
    with serving(message(text(make_answer(0.1)))) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        drafting.revise(proposal)
    assert (proposal.state, proposal.revision.number) == ("drafted", 2)


def send_back(campaign: Campaign, monkeypatch: pytest.MonkeyPatch, bob: User) -> Proposal:
    (proposal,) = ask(monkeypatch, campaign, make_said())
    builders.pass_gates(proposal)
    digest = proposal.revision.digest
    decisions.decide(proposal.pk, digest=digest, choice="request_changes", by=bob, reason="Predict less.")
    return Proposal.objects.get(pk=proposal.pk)


def try_to_revise(monkeypatch: pytest.MonkeyPatch, proposal: Proposal, script: Script) -> Proposal:
    monkeypatch.setattr("research.arms.claude.client._pause", lambda *args: 60.0)
    with serving(script) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        drafting.revise(proposal)
    return Proposal.objects.get(pk=proposal.pk)


def test_a_revision_that_never_comes_is_asked_for_three_times_whatever_else_succeeds(
    monkeypatch: pytest.MonkeyPatch, bob: User
) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    proposal = send_back(campaign, monkeypatch, bob)
    for state in ("changes_requested", "changes_requested", "withdrawn"):
        proposal = try_to_revise(monkeypatch, proposal, message(text("{broken")))
        assert proposal.state == state
        Turn.objects.update(num_problems=0)  # other proposals came meanwhile
    revising = [entry for entry in campaign.ledger.order_by("pk") if entry.usage.get("purpose") == "revise"]
    assert [entry.usage["stop_reason"] for entry in revising] == ["end_turn"] * 3


def test_an_outage_withdraws_nothing_that_bob_wants_to_see_again(monkeypatch: pytest.MonkeyPatch, bob: User) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    proposal = send_back(campaign, monkeypatch, bob)
    for _ in range(5):
        proposal = try_to_revise(monkeypatch, proposal, error(529, "overloaded_error", "busy"))
        assert proposal.state == "changes_requested"
    assert try_to_revise(monkeypatch, proposal, message(text(make_answer(0.1)))).state == "drafted"


@pytest.mark.parametrize("script", [message(text(make_answer(0.05))), message(text("{broken"))], ids=["late", "none"])
def test_an_answer_to_what_bob_said_earlier_leaves_danas_revision_on_the_table(
    monkeypatch: pytest.MonkeyPatch, bob: User, dana: User, script: Script
) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    proposal = send_back(campaign, monkeypatch, bob)
    monkeypatch.setattr(drafting, "TRIES_AT_A_REVISION", 1)
    heard = turns.heard

    def while_dana_edits(*args: Any, **more: Any) -> Answer:
        answer = heard(*args, **more)
        read = proposal.revision
        draft = replace(briefing.draft_of(read), hypothesis="Dana's words.")
        edit.edit(proposal.pk, draft, number=1, digest=read.digest, by=dana)
        again = builders.pass_gates(Proposal.objects.get(pk=proposal.pk))
        decisions.decide(again.pk, digest=read.digest, choice="request_changes", by=bob, reason="More of this.")
        return answer

    monkeypatch.setattr(turns, "heard", while_dana_edits)
    with pytest.raises(LostRace, match="revision 2 is on the table now"):
        try_to_revise(monkeypatch, proposal, script)
    proposal.refresh_from_db()
    assert (proposal.state, proposal.revision.hypothesis) == ("changes_requested", "Dana's words.")
    assert campaign.ledger.filter(usage__purpose="revise").count() == 1  # it is paid for all the same


@pytest.mark.parametrize("state", ["paused", "halted"])
def test_claude_revises_nothing_while_the_campaign_rests(
    monkeypatch: pytest.MonkeyPatch, bob: User, state: str
) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    proposal = send_back(campaign, monkeypatch, bob)
    moves.move_campaign(campaign, state, by=bob, reason="Let us think.")
    with serving(message(text(make_answer(0.05)))) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        tasks.revise(proposal.pk)
        assert anthropic.asked == []
        moves.move_campaign(Campaign.objects.get(), "active", by=bob, reason="Go on.")
        tasks.revise(proposal.pk)
    assert Proposal.objects.get(pk=proposal.pk).revision.number == 2


def test_what_bob_writes_with_an_approval_reaches_the_next_prompt(bob: User) -> None:
    campaign = builders.make_campaign()
    proposal = builders.make_pending(campaign)
    reason = "Watch the first hundred steps."
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob, reason=reason)
    asked = prompt.propose(briefing.brief(campaign, 1))
    assert f"approve: {reason}" in str(asked.messages)


def test_a_refusal_is_said_on_the_campaign_and_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = builders.make_campaign()
    refusal = message(stop_reason="refusal", stop_details={"type": "refusal", "category": "frontier_llm"})
    with serving(refusal) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        assert drafting.top_up(campaign) == []
    campaign.refresh_from_db()
    assert "frontier_llm" in turns.of(campaign).problem
    assert turns.of(campaign).taken_at is None
    assert ledger.spent(campaign).usd > Decimal(0)
