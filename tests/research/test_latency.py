"""alice asks where the time goes between Claude's idea and the verdict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from research import lifecycle
from research.judge import latency
from research.judge.latency import Stay, quantile, stages

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def went(proposal: int, *moves: tuple[str, float]) -> list[Stay]:
    """(state, minutes after noon)"""
    return [Stay(proposal=proposal, state=state, at=NOON + timedelta(minutes=at)) for state, at in moves]


def minutes(rows: list[Stay], *asked_s: float) -> dict[str, tuple[float, ...]]:
    return {stage.name: tuple(s / 60 for s in stage.seconds) for stage in stages(rows, asked_s)}


def test_each_stage_of_a_proposal_that_went_straight_through() -> None:
    way = went(
        1, ("drafted", 0), ("checking", 1), ("pending_review", 3), ("approved", 63), ("running", 70), ("judged", 100)
    )
    assert minutes(way, 30.0) == {
        "Asking the proposer": (0.5,),
        "In the gates": (3,),
        "Waiting for a person": (60,),
        "Being revised": (),
        "Waiting for a GPU": (7,),
        "Running": (30,),
        "From proposal to verdict": (100,),
    }


def test_a_proposal_that_was_sent_back_waits_twice_and_each_time_counts() -> None:
    way = went(
        1, ("drafted", 0), ("checking", 0), ("pending_review", 2), ("changes_requested", 12), ("drafted", 14),
        ("checking", 14), ("pending_review", 19), ("drafted", 20), ("checking", 20), ("blocked", 21),
    )  # fmt: skip
    found = minutes(way)
    assert found["In the gates"] == (1, 2, 5)
    assert found["Waiting for a person"] == (1, 10)  # an edit ends a wait as a decision does
    assert found["Being revised"] == (2,)
    assert found["From proposal to verdict"] == ()


def test_what_was_broken_off_or_is_under_way_is_in_no_number() -> None:
    stale = went(1, ("drafted", 0), ("checking", 0), ("pending_review", 1), ("stale", 50), ("withdrawn", 51))
    waiting = went(2, ("drafted", 0), ("checking", 0), ("pending_review", 4))
    found = minutes([*stale, *waiting])
    assert found["In the gates"] == (1, 4)
    assert found["Waiting for a person"] == ()


def test_a_half_that_is_not_on_record_gives_no_whole() -> None:
    assert minutes(went(1, ("running", 5), ("judged", 9)))["From proposal to verdict"] == ()


@pytest.mark.parametrize(("n", "p90"), [(4, None), (5, 4.6)])
def test_a_ninetieth_percentile_needs_five(n: int, p90: float | None) -> None:
    stage = latency.Stage(name="x", seconds=tuple(float(i + 1) for i in range(n)))
    assert stage.p90_s == (None if p90 is None else pytest.approx(p90))
    assert latency.Stage(name="x", seconds=()).median_s is None


def test_every_state_that_a_stage_names_is_one() -> None:
    for within, ends in latency.STAGES.values():
        assert within | ends <= set(lifecycle.PROPOSAL)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0, 1))
def test_a_quantile_lies_between_the_extremes_and_grows(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert ordered[0] - 1e-6 <= found <= ordered[-1] + 1e-6
    assert quantile(ordered, share / 2) <= found + 1e-6
