"""alice sets a key: Claude's answers become proposals, its price lands in the ledger, bob's comment reaches it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User

from research import ledger, propose, review, tasks
from research.models import Campaign
from tests import builders

from .anthropic_server import message, serving, text

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _with_a_key(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr(tasks, "_send", lambda name, args, *, queue: None)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    settings.ANTHROPIC_CONFIGURED = True


def make_answer(value: float) -> dict[str, Any]:
    return {
        "drafts": [
            {
                "title": "Warm up first",
                "hypothesis": "The first steps are too large.",
                "mechanism": "A ramp lets the moments settle.",
                "refuted_if": "val_bpb does not fall",
                "prediction": {"effect_bpb": -0.01, "low_bpb": -0.03, "high_bpb": 0.01, "chance_to_win": 0.4},
                "overrides": [{"key": "warmup_fraction", "value": value, "reason": "a ramp"}],
                "edits": [],
                "precedents": [],
            }
        ]
    }


def test_claude_proposes_bob_comments_and_the_revision_answers_him(monkeypatch: pytest.MonkeyPatch, bob: User) -> None:
    campaign = builders.make_campaign(num_waiting=1)
    with serving(message(text(make_answer(0.1))), message(text(make_answer(0.05)))) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        (proposal,) = propose.top_up(campaign)
        assert (proposal.arm, proposal.revision.knobs) == ("claude", {"warmup_fraction": 0.1})
        assert ledger.spent(campaign).usd > 0

        builders.pass_gates(proposal)
        comment = "Half of that ramp, please."
        digest = proposal.revision.digest
        review.decide(proposal.pk, digest=digest, choice="request_changes", by=bob, reason=comment)
        proposal.refresh_from_db()
        propose.revise(proposal)
    assert comment in str(anthropic.asked[1])
    assert (proposal.state, proposal.revision.number, proposal.revision.answers) == ("drafted", 2, comment)
    assert proposal.revision.knobs == {"warmup_fraction": 0.05}
    assert proposal.revision.digest != digest
    assert Campaign.objects.get(pk=campaign.pk).ledger.filter(kind="claude").count() == 2


def test_a_refusal_is_said_on_the_campaign_and_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = builders.make_campaign()
    refusal = message(stop_reason="refusal", stop_details={"type": "refusal", "category": "frontier_llm"})
    with serving(refusal) as anthropic:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic.url)
        assert propose.top_up(campaign) == []
    campaign.refresh_from_db()
    assert "frontier_llm" in campaign.proposer_problem
    assert campaign.proposing_since is None
    assert ledger.spent(campaign).usd > Decimal(0)
