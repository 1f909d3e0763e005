"""Claude does not put before bob what is open, tried or rejected already, in whatever words."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_runner.contract import KnobValue
from research.change.drafts import Answer, Draft, Edit, Override, Precedent, Prediction, Return
from research.change.patches import to_patch
from research.propose import repeats
from tests.research.briefs import RECIPE, TRAIN, make_brief, make_precedent

FILES = {"train.py": TRAIN, "recipe.toml": RECIPE}
SQUARE = Edit(path="train.py", search="x.relu()", replace="x.relu().square()")
SAME_IN_OTHER_WORDS = Edit(path="train.py", search="x.relu()", replace="x.relu() .square()  # much better")


def draft(*changes: Edit | Override, **over: Any) -> Draft:
    said = Prediction(effect_bpb=-0.01, low_bpb=-0.02, high_bpb=0.0, chance_to_win=0.4)
    base: dict[str, Any] = {"title": "T", "hypothesis": "h", "mechanism": "m", "refuted_if": "r", "prediction": said}
    edits = tuple(c for c in changes if isinstance(c, Edit))
    overrides = tuple(c for c in changes if isinstance(c, Override))
    return Draft(**(base | {"edits": edits, "overrides": overrides} | over))


def earlier(like: Draft, **over: Any) -> Precedent:
    base = {"number": 3, "overrides": like.overrides, "patch": to_patch(FILES, like.edits)}
    return make_precedent(**(base | over))


def screened(drafts: list[Draft], *precedents: Precedent, apart_from: int | None = None) -> Answer:
    brief = make_brief(precedents=precedents)
    return repeats.screened(Answer(drafts=tuple(drafts)), brief, apart_from=apart_from)


OPEN = {"state": "pending_review", "outcome": None, "on_incumbent": False}
REJECTED = {"state": "rejected", "outcome": None, "on_incumbent": False}


@pytest.mark.parametrize("edit", [SQUARE, SAME_IN_OTHER_WORDS])
@pytest.mark.parametrize(
    ("became", "why"),
    [
        ({}, "proposal 3 makes the same change and was tried on this incumbent"),
        (OPEN, "proposal 3 makes the same change and is still open"),
        (REJECTED, "a person rejected the same change, proposal 3, and it does not say what has changed"),
    ],
)
def test_an_equal_or_equivalent_change_is_dropped_with_its_reason(edit: Edit, became: dict[str, Any], why: str) -> None:
    answer = screened([draft(edit)], earlier(draft(SQUARE), **became))
    assert answer.drafts == ()
    assert answer.problem == f"'T' was dropped: {why}."


def test_one_number_written_two_ways_is_one_override() -> None:
    mine = draft(Override(key="depth", value=6.0, reason="mine"))
    assert screened([mine], make_precedent()).drafts == ()


@pytest.mark.parametrize("value", [2**53 + 1, 10**400, True, "6"])
def test_numbers_that_a_float_takes_for_equal_or_cannot_hold_are_told_apart(value: KnobValue) -> None:
    old = draft(Override(key="depth", value={True: 1}.get(value, 2**53), reason="theirs"))
    mine = draft(Override(key="depth", value=value, reason="mine"))
    assert screened([mine], earlier(old)).drafts == (mine,)
    assert screened([mine], earlier(mine)).drafts == ()


def test_what_was_discarded_on_another_incumbent_may_be_tried_again() -> None:
    assert screened([draft(SQUARE)], earlier(draft(SQUARE), on_incumbent=False)).drafts


def test_a_rejected_idea_comes_back_when_it_says_what_has_changed() -> None:
    back = draft(SQUARE, returns=Return(proposal=3, what_changed="The widths are doubled now."))
    assert screened([back], earlier(draft(SQUARE), **REJECTED)).drafts == (back,)


def test_naming_another_rejection_does_not_help() -> None:
    back = draft(SQUARE, returns=Return(proposal=4, what_changed="Everything."))
    other = earlier(draft(Override(key="depth", value=8, reason="")), number=4, **REJECTED)
    answer = screened([back], earlier(draft(SQUARE), **REJECTED), other)
    assert answer.drafts == ()


def test_a_reason_does_not_bring_back_what_is_open() -> None:
    back = draft(SQUARE, returns=Return(proposal=3, what_changed="Much."))
    answer = screened([back], earlier(draft(SQUARE), **REJECTED), earlier(draft(SQUARE), number=5, **OPEN))
    assert "proposal 5 makes the same change and is still open" in answer.problem


def test_twins_in_one_answer_count_once_and_the_others_stay() -> None:
    other = draft(Override(key="depth", value=8, reason=""))
    answer = screened([draft(SQUARE), draft(SAME_IN_OTHER_WORDS), other])
    assert answer.drafts == (draft(SQUARE), other)
    assert "stands twice" in answer.problem


def test_a_revision_may_change_its_words_alone() -> None:
    own = earlier(draft(SQUARE), number=9, state="changes_requested", outcome=None)
    assert screened([draft(SQUARE)], own, apart_from=9).drafts
    assert screened([draft(SQUARE)], own).drafts == ()
