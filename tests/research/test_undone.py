"""alice's edits take one another back: she is told which, and what does change is left alone."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.change.drafts import Edit
from research.change.patches import apply_edits
from research.change.undone import undone

FILES = {"train.py": "a\nb\nc\nd\n", "net.py": "x\n"}
Pair = tuple[str, str] | tuple[str, str, str]


def made(*pairs: Pair) -> list[Edit]:
    return [Edit(path=more[0] if more else "train.py", search=old, replace=new) for old, new, *more in pairs]


@pytest.mark.parametrize(
    ("pairs", "numbers"),
    [
        ([("b", "B"), ("B", "b")], [1, 2]),
        ([("b", "B"), ("d", "D"), ("B", "b")], [1, 3]),
        ([("b", "B"), ("B", "Q"), ("Q", "b"), ("d", "D")], [1, 2, 3]),
        ([("b", "B"), ("x", "y", "net.py"), ("B", "b")], [1, 3]),
        ([("b\n", ""), ("a\nc", "a\nb\nc")], [1, 2]),
        ([("b\n", "b\nnew\n"), ("a", "A"), ("new\n", "")], [1, 3]),
        ([("b", "b  "), ("b  \n", "b\n")], [1, 2]),
    ],
)
def test_edits_that_come_to_nothing_are_named(pairs: list[Pair], numbers: list[int]) -> None:
    assert undone(FILES, made(*pairs)) == [("train.py", numbers)]


@pytest.mark.parametrize(
    "pairs",
    [
        [("b", "B"), ("B", "C")],
        [("b", "B"), ("B\nc", "b\nC")],
        [("b", "B"), ("c", "b")],
        [("a", "b"), ("b\nb", "b\na")],
        [("b", "b  ")],
    ],
)
def test_edits_that_change_something_are_left_alone(pairs: list[Pair]) -> None:
    assert undone(FILES, made(*pairs)) == []


@given(st.lists(st.tuples(st.text("abc\n", min_size=1, max_size=4), st.text("abc\n", max_size=4)), max_size=6))
def test_without_what_is_named_the_same_comes_out(pairs: list[tuple[str, str]]) -> None:
    files, edits = {"train.py": "ab\nbc\ncab\n"}, []
    for edit in made(*pairs):
        with suppress(ValueError):
            apply_edits(files, [*edits, edit])
            edits.append(edit)
    for _, numbers in undone(files, edits):
        rest = [edit for number, edit in enumerate(edits, start=1) if number not in numbers]
        with suppress(ValueError):  # one that was made between them may need the text that they had left
            assert apply_edits(files, rest) == apply_edits(files, edits)
