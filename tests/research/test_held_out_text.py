"""A change in which a worker found held-out text: what people read of it, and what no proposer does."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from research.arms.claude import prompt
from research.change.drafts import Edit
from research.gates import process
from research.models import Campaign, Proposal
from research.propose import briefing
from research.record import learn
from research.record.rights import COMMAND_LINE
from tests import builders
from tests.web.people import browser_of, text_of
from webapp.api import tokens

pytestmark = pytest.mark.django_db(transaction=True)
LEARNED = "the quick brown fox of the sealed split"
EDIT = Edit(path="train.py", search="# --- layers -", replace=f"# {LEARNED}\n# --- layers -")


def smoked(campaign: Campaign, kind: str) -> Proposal:
    """Blocked: its smoke run ended so."""
    proposal = builders.make_proposal(campaign, overrides=(), edits=(EDIT,))
    process.check(proposal.revision)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    builders.fail(lease, kind=kind)
    proposal.refresh_from_db()
    assert proposal.state == "blocked"
    return proposal


def read_by_claude(campaign: Campaign) -> str:
    return str(prompt.propose(briefing.brief(campaign, 1)))


def read_by_an_agent(campaign: Campaign, alice: User) -> str:
    token = tokens.make("scout", campaign=campaign, by=COMMAND_LINE)
    answer = Client().get(f"/api/v1/campaigns/{campaign.slug}/brief", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_next_prompt_tells_that_it_was_found_and_not_what(campaign: Campaign, alice: User) -> None:
    smoked(campaign, "held_out_text")
    for text in (read_by_claude(campaign), read_by_an_agent(campaign, alice)):
        assert LEARNED not in text
        assert "left out: it holds held-out text" in text


def test_a_change_that_failed_otherwise_is_told_with_its_patch(campaign: Campaign, alice: User) -> None:
    smoked(campaign, "out_of_memory")
    assert LEARNED in read_by_claude(campaign)
    assert LEARNED in read_by_an_agent(campaign, alice)


def test_it_is_still_known_as_the_same_change(campaign: Campaign) -> None:
    smoked(campaign, "held_out_text")
    again = builders.make_proposal(campaign, title="Once more", overrides=(), edits=(EDIT,))
    process.check(again.revision)
    assert again.revision.gates.get(name="novelty").outcome == "warned"


def test_bob_reads_why_on_its_page(campaign: Campaign, bob: User) -> None:
    proposal = smoked(campaign, "held_out_text")
    finding = learn.precedents(campaign)[0].reason
    assert "Blocked by the gate" in finding
    assert "smoke run" in text_of(browser_of(bob), f"/proposals/{proposal.pk}/").lower()
