"""Figures: every mark lies inside its frame, whatever the numbers; a missing number has no mark."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.contract import Place
from webapp.drawing import disagreement, figures, progression
from webapp.templatetags import shown

bpb = st.floats(-5, 5, allow_nan=False).map(lambda v: round(v, 6))
intervals = st.tuples(bpb, bpb, bpb).map(sorted)


def effect(low_mid_high: list[float]) -> figures.Effect:
    low, mid, high = low_mid_high
    return figures.Effect(label="P-1", effect_bpb=mid, low_bpb=low, high_bpb=high)


@given(intervals, st.lists(intervals, max_size=3), st.none() | st.floats(1e-5, 1))
def test_an_effect_figure_holds_zero_and_every_interval(
    predicted: list[float], others: list[list[float]], noise_sd: float | None
) -> None:
    f = figures.effect_figure(effect(predicted), [effect(o) for o in others], noise_sd)
    for mark in (f.prediction, *f.others):
        assert mark.low is not None
        assert mark.high is not None
        assert 0 <= mark.low <= mark.at <= mark.high <= f.width
        assert f.top < mark.y < f.bottom
    assert 0 < f.zero < f.width
    assert (f.noise is None) == (noise_sd is None)
    assert 1 <= len(f.ticks) <= 12


@given(st.lists(st.floats(0, 1e300), max_size=12), st.floats(1.5, 1e4))
def test_evidence_stays_on_the_axis_however_strong_it_is(e_values: list[float], needed: float) -> None:
    f = figures.evidence_figure(e_values, max_pairs=12, needed=needed, width=546)
    assert len(f.dots) == len(e_values)
    for dot, e_value in zip(f.dots, e_values, strict=True):
        assert 14 <= dot.y <= f.bottom
        assert f.left <= dot.x <= f.right
        assert dot.crossed == (e_value >= needed)
    assert (f.last is None) == (not e_values)


@given(
    st.lists(st.tuples(st.integers(0, 4_096), st.floats(0, 1e6), st.booleans()), min_size=1, max_size=20),
    st.floats(1e-9, 1),
)
def test_every_place_of_a_dispute_is_a_dot_and_those_above_the_tolerance_lie_above_its_line(
    places: list[tuple[int, float, bool]], tolerance_nats: float
) -> None:
    found = [
        Place(row=1, position=at, cut=at + 1 if cut else None, first_nats=0.0, again_nats=nats, nats=nats)
        for at, nats, cut in places
    ]
    f = disagreement.disagreement_figure(found, tolerance_nats, width=330)
    assert [dot.cut for dot in f.dots] == [cut for _, _, cut in places]
    for dot, place in zip(f.dots, found, strict=True):
        assert f.left <= dot.x <= f.right
        assert 14 <= dot.y <= f.bottom
        assert place.nats <= tolerance_nats or dot.y <= f.tolerance_y
    assert len(f.yticks) <= 8


@given(st.lists(st.tuples(st.sampled_from(["keep", "discard", "crash"]), bpb), max_size=30), bpb, st.none() | bpb)
def test_the_staircase_steps_at_every_keep_and_nowhere_else(
    tried: list[tuple[str, float]], base: float, target: float | None
) -> None:
    judged = [
        progression.Judged(
            number=i, title="A title", outcome=outcome, crashed=outcome == "crash",
            candidate_bpb=None if outcome == "crash" else score,
        )
        for i, (outcome, score) in enumerate(tried)
    ]  # fmt: skip
    f = progression.staircase_figure(base, judged, target, width=1120)
    outcomes = [outcome for outcome, _ in tried]
    assert len(f.stairs) == 1 + outcomes.count("keep")
    assert f.path.count("V") == outcomes.count("keep")
    assert len(f.discarded) == outcomes.count("discard")
    assert len(f.crashes) == outcomes.count("crash")
    assert all(f.left <= s.x <= f.right and 14 <= s.y <= f.bottom for s in f.stairs)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_no_two_boxes_of_a_lineage_overlap(num_branches: list[int]) -> None:
    def branch() -> progression.Branch:
        return progression.Branch(title="A long title of a proposal", line="1.0000", url="/", tone="kept")

    f = progression.lineage_figure([(branch(), [branch() for _ in range(n)]) for n in num_branches])
    wide, high = f.box
    for i, one in enumerate(f.boxes):
        assert 0 <= one.x <= f.width - wide
        assert 0 <= one.y <= f.height - high
        for other in f.boxes[:i]:
            assert abs(one.x - other.x) >= wide or abs(one.y - other.y) >= high
    assert len(f.links) == len(f.boxes) - 1


def test_a_missing_number_is_a_dash_that_says_why() -> None:
    for missing in (None, "", math.nan):
        assert str(shown.number(missing, "bpb", "not scored <yet>")) == (
            '<span class="none" title="not scored &lt;yet&gt;">–<span class="sr"> not scored &lt;yet&gt;</span></span>'
        )
    assert str(shown.number(0.0, "bpb")) == "0.0000"


def test_numbers_are_written_as_people_write_them() -> None:
    assert [shown.seconds(v) for v in (0.42, 31.2, 124, 3600, 4335, 90_000)] == [
        "0.4 s", "31 s", "2 min 4 s", "1 h", "1 h 12 min", "1 d 1 h",
    ]  # fmt: skip
    assert [shown.signed(v) for v in (-0.0047, 0.00001, 0.5)] == ["−0.0047", "0", "+0.5000"]
    assert [shown.usd(v) for v in (19.2, 0.0043, 1214.4, 0)] == ["$19.20", "$0.0043", "$1,214", "$0.00"]
    assert [shown.big(v) for v in (750_000, 1_840_000, 12)] == ["750 k", "1.84 M", "12"]
    assert [shown.ago(v) for v in (3, 60, 3_500, 7_300, 172_000)] == [
        "just now", "1 min ago", "1 h ago", "2 h ago", "2 d ago",
    ]  # fmt: skip
    assert [shown.ago(v) for v in (-3, -60, -3_500)] == ["in a moment", "in 1 min", "in 1 h"]
