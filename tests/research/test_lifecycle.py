"""The tables of legal moves, and that nothing gets around them."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TransactionTestCase

from research import lifecycle
from research.models import Campaign, Event
from research.record import moves
from research.record.rights import Part
from tests import builders

TABLES = {"campaign": lifecycle.CAMPAIGN, "proposal": lifecycle.PROPOSAL, "run": lifecycle.RUN}


def test_a_state_that_nothing_reaches_is_refused() -> None:
    table = {"a": frozenset({"b"}), "b": frozenset(), "island": frozenset({"b"})}
    with pytest.raises(ValueError, match="no move leads to island"):
        lifecycle.check(table, "a", frozenset({"b"}))


def test_a_dead_end_by_mistake_is_refused() -> None:
    with pytest.raises(ValueError, match="ends are b, meant are"):
        lifecycle.check({"a": frozenset({"b"}), "b": frozenset()}, "a", frozenset())


@given(st.sampled_from(sorted(TABLES)), st.data())
def test_allowed_says_what_the_table_says(name: str, draw: st.DataObject) -> None:
    table = TABLES[name]
    old, new = draw.draw(st.sampled_from(sorted(table))), draw.draw(st.sampled_from(sorted(table)))
    if new in table[old]:
        lifecycle.allowed(table, old, new)
    else:
        with pytest.raises(lifecycle.IllegalMove, match=f"{old} cannot become {new}"):
            lifecycle.allowed(table, old, new)


class TwoPeopleMoveOneCampaign(TransactionTestCase):
    """Whatever two people do, from whatever they last saw: the row only ever takes legal moves, each with its Event."""

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(st.booleans(), st.sampled_from(sorted(lifecycle.CAMPAIGN))), max_size=12))
    def test_only_legal_moves_happen_and_each_leaves_an_event(self, acts: list[tuple[bool, str]]) -> None:
        Event.objects.all().delete()
        campaign = builders.make_campaign(slug=f"c{Campaign.objects.count()}")
        screens = {who: Campaign.objects.get(pk=campaign.pk) for who in (True, False)}
        history = ["active"]
        for who, new in acts:
            seen, true = screens[who].state, history[-1]
            try:
                moves.move_campaign(screens[who], new, by=Part("test"), reason="why not")
            except lifecycle.IllegalMove:
                assert new not in lifecycle.CAMPAIGN[seen]
            except lifecycle.LostRace:
                assert seen != true
                screens[who].refresh_from_db()
            else:
                assert seen == true
                assert new in lifecycle.CAMPAIGN[true]
                history.append(new)
        campaign.refresh_from_db()
        assert campaign.state == history[-1]
        told = Event.objects.filter(campaign=campaign).exclude(kind="campaign.created").order_by("pk")
        assert [event.kind for event in told] == [f"campaign.{state}" for state in history[1:]]
