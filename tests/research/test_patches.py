"""alice signs a diff: what she sees is what git applies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_runner.contract import parse_recipe
from research.change.drafts import Draft, Edit, Override, Prediction
from research.change.patches import answered_by, apply_edits, problems_with, to_patch
from tests.research.briefs import make_precedent

TRAIN = "import math\n\n\ndef act(x):\n    return x.relu()\n\n\nLR = 0.1\n"


def git_apply(tree: Path, files: dict[str, str], patch: str) -> dict[str, str]:
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(text.encode())
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=tree, input=patch.encode(), check=True, timeout=30)
    return {path: (tree / path).read_bytes().decode() for path in files}


def test_git_applies_what_alice_saw(tmp_path: Path) -> None:
    files = {"train.py": TRAIN, "lib/my model.py": "a = 1\n", "untouched.py": "x = 0\n"}
    edits = [
        Edit(path="train.py", search="x.relu()", replace="x.relu().square()"),
        Edit(path="lib/my model.py", search="a = 1\n", replace="a = 2\nb = 3\n"),
        Edit(path="train.py", search=".square()\n", replace=".square()  # ReLU²\n"),
    ]
    patch = to_patch(files, edits)
    assert "untouched.py" not in patch
    assert git_apply(tmp_path, files, patch) == apply_edits(files, edits)


@pytest.mark.parametrize(
    ("before", "search", "replace"),
    [
        ("a\nb", "b", "c"),  # no newline at the end, before and after
        ("a\nb", "b", "b\n"),  # gains one
        ("a\nb\n", "b\n", "b"),  # loses one
        ("a\r\nb\r\n", "b", "c"),  # CRLF
        ("a\x0cb\u2028c\n", "c", "d"),  # characters at which str.splitlines would split
        ("a\nb\n", "a\n", ""),  # deletion
    ],
)
def test_line_ends_survive(tmp_path: Path, before: str, search: str, replace: str) -> None:
    files, edits = {"train.py": before}, [Edit(path="train.py", search=search, replace=replace)]
    assert git_apply(tmp_path, files, to_patch(files, edits)) == apply_edits(files, edits)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["a", "b", "", "  c", "d\t"]), min_size=1, max_size=30), st.text("xyz\n", max_size=9))
def test_any_edit_in_any_file_applies(tmp_path: Path, lines: list[str], replace: str) -> None:
    lines.insert(len(lines) // 2, "NEEDLE")
    files, edits = {"train.py": "\n".join(lines)}, [Edit(path="train.py", search="NEEDLE", replace=replace)]
    if not apply_edits(files, edits)["train.py"]:
        return  # git removes a file that became empty; a recipe cannot
    assert git_apply(tmp_path, files, to_patch(files, edits)) == apply_edits(files, edits)


def test_the_same_edits_give_the_same_bytes_whatever_the_order_of_the_files() -> None:
    one, two = {"a.py": "a\n", "b.py": "b\n"}, {"b.py": "b\n", "a.py": "a\n"}
    edits = [Edit(path="b.py", search="b", replace="B"), Edit(path="a.py", search="a", replace="A")]
    assert to_patch(one, edits) == to_patch(two, edits)
    assert to_patch(one, []) == ""


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (Edit(path="train.py", search="gelu", replace="x"), r"edit 1 of train.py: .*'gelu' occurs 0 times"),
        (
            Edit(path="train.py", search="\n\n", replace="x"),
            "occurs 4 times; it must occur exactly once, and begins on lines 1, 2, 5 and 6: quote more",
        ),
        (
            Edit(path="train.py", search="\treturn x.relu()", replace="x"),
            "occurs 0 times; .*: line 5 is the same but for white space: 4 blanks where the text sought has a tab",
        ),
        (Edit(path="train.py", search="return x.relu() ", replace="x"), "line 5 .* an end of line where .* a blank"),
        (Edit(path="train.py", search="return x.gelu()", replace="x"), "nearest to .* is line 5, '    return x.relu"),
        (Edit(path="train.py", search="qqq", replace="x"), "occurs 0 times; .*nothing in the file is like it"),
        (Edit(path="train.py", search="", replace="x"), "the search text is empty"),
        (Edit(path="train.py", search="LR", replace="LR"), "search and replacement are the same"),
        (Edit(path="../etc/passwd", search="root", replace="x"), "there is no such file in the recipe"),
    ],
)
def test_an_edit_that_cannot_be_made_is_named(edit: Edit, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        to_patch({"train.py": TRAIN}, [edit])


RECIPE = parse_recipe(
    '[recipe]\nname = "gpt"\nabout = ""\neditable = ["train.py"]\n'
    '[knobs.lr]\ntype = "float"\ndefault = 0.1\nlow = 0.01\nhigh = 1.0\nhelp = ""\n'
)
FILES = {"train.py": TRAIN, "recipe.toml": "x\n"}


def make_draft(**over: object) -> Draft:
    base: dict[str, object] = {
        "title": "t",
        "hypothesis": "h",
        "mechanism": "m",
        "refuted_if": "r",
        "prediction": Prediction(effect_bpb=-0.01, low_bpb=-0.02, high_bpb=0.01, chance_to_win=0.3),
    }
    return Draft(**(base | over))  # type: ignore[arg-type]  # a builder: the test names the fields


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({}, "it changes nothing"),
        ({"overrides": (Override(key="lr", value=2.0, reason=""),)}, "lr: 2 is above its upper bound 1"),
        ({"overrides": (Override(key="lr", value=0.1, reason=""),)}, "lr: 0.1 is already the incumbent's value"),
        ({"overrides": (Override(key="wd", value=0.1, reason=""),)}, "wd: not declared"),
        ({"overrides": (Override(key="lr", value=0.2, reason=""),) * 2}, "lr: overridden twice"),
        ({"edits": (Edit(path="recipe.toml", search="x", replace="y"),)}, "recipe.toml: not editable"),
        (
            {
                "edits": (
                    Edit(path="train.py", search="LR = 0.1", replace="LR = 0.2"),
                    Edit(path="train.py", search="LR = 0.2", replace="LR = 0.1"),
                )
            },
            "edits: 1 and 2 cancel each other out in train.py",
        ),
        ({"edits": (Edit(path="train.py", search=TRAIN, replace=""),)}, "edits: nothing would be left of train.py"),
        ({"edits": (Edit(path="train.py", search="x.relu()", replace="x.relu("),)}, "it is not Python"),
        ({"edits": (Edit(path="train.py", search="x.relu()", replace="\0"),)}, "it is not Python"),
        (
            {"prediction": Prediction(effect_bpb=0.5, low_bpb=-0.1, high_bpb=0.1, chance_to_win=1.5)},
            "outside its interval",
        ),
    ],
)
def test_a_draft_that_cannot_be_an_experiment_says_why(over: dict[str, object], sentence: str) -> None:
    assert any(sentence in problem for problem in problems_with(make_draft(**over), RECIPE, FILES))


def test_edits_that_cancel_out_are_named_beside_others_that_do_not() -> None:
    away, back = ("x.relu()", "x.gelu()"), ("x.gelu()", "x.relu()")
    edits = tuple(Edit(path="train.py", search=search, replace=replace) for search, replace in (away, back))
    overrides = (Override(key="lr", value=0.2, reason="warmer"),)
    problems = problems_with(make_draft(overrides=overrides, edits=edits), RECIPE, FILES)
    said = "edits: 1 and 2 cancel each other out in train.py, which stays as it is there; leave them out"
    assert problems == [said]


def test_a_source_with_a_byte_order_mark_is_python() -> None:
    files = FILES | {"train.py": f"\ufeff{TRAIN}"}
    edit = Edit(path="train.py", search="x.relu()", replace="x.relu().square()")
    assert problems_with(make_draft(edits=(edit,)), RECIPE, files) == []


def test_a_draft_in_order_has_no_problem() -> None:
    draft = make_draft(
        overrides=(Override(key="lr", value=0.2, reason="warmer"),),
        edits=(Edit(path="train.py", search="x.relu()", replace="x.relu().square()"),),
    )
    assert problems_with(draft, RECIPE, FILES) == []


# --- has it been asked before? --------------------------------------------------------------------


def test_a_line_that_looks_like_a_header_is_a_change_like_any_other() -> None:
    """``-- one`` that goes reads ``--- one`` in a diff."""
    files = {"train.py": '"""Two remarks.\n\n-- one\n-- two\n"""\n'}
    first, second = (
        make_draft(edits=(Edit(path="train.py", search=f"-- {which}\n", replace=""),)) for which in ("one", "two")
    )
    earlier = make_precedent(patch=to_patch(files, first.edits), overrides=(), on_incumbent=True)
    assert answered_by(second, [earlier], files) is None
    assert answered_by(first, [earlier], files) == earlier
