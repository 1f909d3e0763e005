"""What carol writes by hand: overrides in lines, and the diff of her clone."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.contract import KnobValue, parse_recipe
from research.change.drafts import Edit, Override
from research.change.handwritten import as_they_were, diff_of, lines_of, overrides_of
from research.change.pasted import edits_of
from research.change.patches import apply_edits, to_patch
from tests.research.briefs import RECIPE

RECIPE_ = parse_recipe(RECIPE)
FILE = "".join(f"line {n}\n" for n in range(40))
FILES = {"train.py": FILE}


def test_lines_become_overrides_with_their_reasons() -> None:
    text = "depth = 6  # deeper\n\n  matrix_lr=0.03#faster  \n"
    assert overrides_of(text, RECIPE_) == (
        Override(key="depth", value=6, reason="deeper"),
        Override(key="matrix_lr", value=0.03, reason="faster"),
    )


@pytest.mark.parametrize(
    ("line", "value"),
    [("depth = 4.0", 4), ("depth = deep", "deep"), ("on = true", True), ("day = 2026-01-01", "2026-01-01")],
)
def test_values_are_read_as_they_are_meant_and_judged_later(line: str, value: object) -> None:
    (override,) = overrides_of(line, RECIPE_)
    assert (override.value, type(override.value)) == (value, type(value))


@pytest.mark.parametrize("line", ["depth", "= 3", "depth =", "depth = # why", "a b = 3"])
def test_a_line_that_is_no_override_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"line 2: write key = value"):
        overrides_of(f"depth = 6\n{line}", RECIPE_)


@given(st.lists(st.integers(0, 39), unique=True, max_size=6), st.booleans())
def test_a_diff_says_the_same_as_the_edits_that_it_becomes(changed: list[int], drop: bool) -> None:
    lines = FILE.splitlines(keepends=True)
    for n in changed:
        lines[n] = "" if drop else f"changed {n}\nand one more {n}\n"
    after = "".join(lines)
    patch = to_patch(FILES, [Edit(path="train.py", search=FILE, replace=after)]) if changed else ""
    edits = edits_of(patch, FILES)
    assert apply_edits(FILES, edits)["train.py"] == after
    assert to_patch(FILES, edits) == patch


@given(st.lists(st.integers(0, 39), unique=True, min_size=1, max_size=6))
def test_edits_become_a_diff_that_can_be_read_back_even_where_lines_repeat(changed: list[int]) -> None:
    files = {"train.py": "".join(f"line {n % 3}\n" for n in range(40))}
    after = files["train.py"].splitlines(keepends=True)
    for n in changed:
        after[n] = f"changed {n}\n"
    edits = [Edit(path="train.py", search=files["train.py"], replace="".join(after))]
    patch = diff_of(files, edits)
    assert apply_edits(files, edits_of(patch, files))["train.py"] == "".join(after)


OVERRIDES = (
    Override(key="depth", value=6, reason="deeper,\nmuch"),
    Override(key="matrix_lr", value=1e-05, reason="slower"),
    Override(key="on", value=True, reason="on # and off"),
    Override(key="shape", value="linear", reason=""),
)


def test_overrides_become_lines_and_come_back_in_the_words_in_which_they_were_given() -> None:
    lines = lines_of(OVERRIDES)
    assert lines.splitlines()[0] == "depth = 6  # deeper, much"
    read = overrides_of(lines, RECIPE_)
    assert [(o.key, o.value) for o in read] == [(o.key, o.value) for o in OVERRIDES]
    assert as_they_were(read, OVERRIDES)[:3] == OVERRIDES[:3]
    assert as_they_were(overrides_of("depth = 8  # deeper, much", RECIPE_), OVERRIDES)[0].value == 8


@pytest.mark.parametrize(("value", "line"), [(1, "x = true"), (True, "x = 1"), (1, "x = 1.0"), (0.0, "x = -0.0")])
def test_another_value_is_another_one_also_where_python_takes_it_for_equal(value: KnobValue, line: str) -> None:
    earlier = Override(key="x", value=value, reason="in two\nlines")
    (read,) = as_they_were(overrides_of(f"{line}  # in two lines", RECIPE_), [earlier])
    assert read != earlier or repr(read.value) != repr(earlier.value)


def test_a_choice_that_looks_like_a_number_is_written_as_it_is_shown() -> None:
    table = (
        '[recipe]\nname = "x"\n[knobs.warm]\ntype = "choice"\nchoices = ["0", "1", "true"]\ndefault = "0"\nhelp = "h"\n'
    )
    recipe = parse_recipe(table)
    for choice in ("1", "true", '"1"'):
        (override,) = overrides_of(f"warm = {choice}", recipe)
        assert recipe.problems_with({"warm": override.value}) == []


def test_windows_line_ends_and_a_mail_around_the_diff_do_no_harm() -> None:
    patch = to_patch(FILES, [Edit(path="train.py", search="line 3\n", replace="LINE 3\n")])
    mail = "From: carol\r\nSubject: try this\r\n\r\n" + patch.replace("\n", "\r\n") + "\r\n-- \r\n2.39\r\n"
    assert "LINE 3\n" in apply_edits(FILES, edits_of(mail, FILES))["train.py"]


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        ("please change line 3", "not a unified diff"),
        ("--- a/train.py\n+++ b/train.py\n@@ -1,1 +1,1 @@\n-line 99\n+x\n", "line 4: .*nearest to .*git diff -U12"),
        ("--- a/other.py\n+++ b/other.py\n@@ -1 +1 @@\n-a\n+b\n", "line 1: there is no such file"),
        ("--- a/train.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-line 0\n", "line 1: .*not removed"),
        ("--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,3 @@\n line 0\n", "line 3: .*changes nothing"),
        ("--- a/train.py\n+++ b/train.py\n@@ -1,2 +1,2 @@\n line 0\n?line 1\n", "line 5: .*belongs to no hunk"),
    ],
)
def test_a_diff_that_cannot_be_read_says_where_and_what_to_do(patch: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        edits_of(patch, FILES)


@given(st.text())
def test_any_text_is_edits_or_a_sentence(text: str) -> None:
    for read in (lambda: edits_of(text, FILES), lambda: overrides_of(text, RECIPE_)):
        with suppress(ValueError):
            read()
