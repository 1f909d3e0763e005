"""alice pastes a diff from wherever it comes: all of it is read, or a sentence names the line and what to do."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.change.pasted import as_git_writes, edits_of
from research.change.patches import apply_edits, to_patch
from tests.research.pasted_cases import BOTH, FILES, GIT, GOOD, HEAD, LR, NET, QUICK, REFUSED, TAKEN, TRAIN


@pytest.mark.parametrize("name", TAKEN)
def test_what_has_one_meaning_is_taken(name: str) -> None:
    patch, wanted = TAKEN[name]
    edits = edits_of(patch, FILES)
    assert apply_edits(FILES, edits) == wanted
    assert as_git_writes(patch, FILES) == to_patch(FILES, edits)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_none_or_two_is_refused_with_its_line(name: str) -> None:
    patch, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence):
        edits_of(patch, FILES)


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("line", ["stray words\n", "@@@\n", "old mode 100644\n", "?\n"])
def test_nothing_that_is_added_to_a_diff_goes_unsaid(name: str, line: str) -> None:
    """Behind the last line of the last hunk; a fence, a mail's end or a shell's would make words of it."""
    patch, _ = TAKEN[name]
    if (
        any(mark in patch for mark in ("```", "~~~", "\n-- \n", "\n--\n", "EOF", "END", "\x1b", "\r@"))
        or patch[0] in " >A"
    ):
        return
    end = "" if patch.endswith("\n") else "\n"
    with pytest.raises(ValueError, match=r"line \d+: "):
        edits_of(patch + end + line, FILES)


def test_a_line_number_decides_where_gits_hashes_bear_it_out(tmp_path: Path) -> None:
    for command in (["git", "init", "-q"], ["git", "add", "train.py"]):
        (tmp_path / "train.py").write_text(TRAIN)
        subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    changed = TRAIN.replace("# shifted\n    return y", "# shifted\n    return -y")
    (tmp_path / "train.py").write_text(changed)
    patch = subprocess.run(
        ["git", "diff", "-U0"], cwd=tmp_path, check=True, timeout=30, capture_output=True, text=True
    ).stdout
    assert "@@ -14 +14 @@" in patch
    assert apply_edits(FILES, edits_of(patch, FILES))["train.py"] == changed
    for other in (patch.replace("-14 +14", "-9 +9"), patch.replace("+    return -y", "+    return 0")):
        with pytest.raises(ValueError, match=r"line 5: .*2 places.*not borne out"):
            edits_of(other, FILES)
    with pytest.raises(ValueError, match="not borne out"):  # the incumbent has moved on
        edits_of(patch, FILES | {"train.py": f"import sys\n{TRAIN}"})


SQL = {"q.py": "A = 1\n-- a/x.py\nB = 2\n"}
PAIR = "--- a/q.py\n+++ b/q.py\n@@ -1,{old} +1,{new} @@\n A = 1\n--- a/x.py\n+++ b/x.py\n"


def test_a_line_that_goes_and_looks_like_a_header_is_told_from_one_by_its_counts() -> None:
    counted = PAIR.format(old=3, new=3) + " B = 2\n"
    assert apply_edits(SQL, edits_of(counted, SQL))["q.py"] == "A = 1\n++ b/x.py\nB = 2\n"
    with pytest.raises(ValueError, match=r"line 5: .*can be a header or a line that goes"):
        edits_of(PAIR.format(old=9, new=9) + "@@ -3 +3 @@\n-B = 2\n+B = 3\n", SQL)


def test_a_line_that_goes_and_looks_like_a_mails_end_is_told_from_one() -> None:
    files = {"q.sql": "a\n- \nb\n2.5\n"}
    patch = "--- a/q.sql\n+++ b/q.sql\n@@ -1,4 +1,3 @@\n a\n--\n b\n 2.5\n"
    assert apply_edits(files, edits_of(patch, files))["q.sql"] == "a\nb\n2.5\n"
    with pytest.raises(ValueError, match=r"line 5: .*can be a header or a line that goes"):
        edits_of("--- a/q.sql\n+++ b/q.sql\n@@\n-a\n-- \n2.39.5\n", files)


CRLF = TRAIN.replace("\n", "\r\n")


@pytest.mark.parametrize(
    "patch", [GOOD, GOOD.replace("\n", "\r\n"), f"{HEAD}@@ -1,4 +1,4 @@\n" + LR.replace("\n", "\r\n")]
)
def test_a_file_with_windows_ends_keeps_them_whatever_the_diff_has(patch: str) -> None:
    files = FILES | {"train.py": CRLF}
    assert apply_edits(files, edits_of(patch, files))["train.py"] == CRLF.replace("LR = 0.1", "LR = 0.2")


def test_a_file_with_both_ends_takes_a_diff_that_says_which(tmp_path: Path) -> None:
    files = FILES | {"train.py": TRAIN.replace("LR = 0.1\n", "LR = 0.1\r\n")}
    patch = GOOD.replace("LR = 0.1\n", "LR = 0.1\r\n").replace("LR = 0.2\n", "LR = 0.2\r\n")
    assert apply_edits(files, edits_of(patch, files))["train.py"] == files["train.py"].replace("0.1", "0.2")
    with pytest.raises(ValueError, match=r"line 1: train.py ends some lines with CRLF and some with LF"):
        edits_of(patch.replace("\r\n", "\n").replace("\n", "\r\n"), files)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_stays_whether_or_not_the_diff_shows_it(mark: str) -> None:
    files = FILES | {"train.py": f"\ufeff{TRAIN}"}
    patch = GOOD.replace(" import", f" {mark}import")
    assert apply_edits(files, edits_of(patch, files))["train.py"] == f"\ufeff{QUICK['train.py']}"
    first = f"{HEAD}@@ -1 +1 @@\n-{mark}import math\n+{mark}import cmath\n"
    after = apply_edits(files, edits_of(first, files))["train.py"]
    assert after == f"\ufeff{TRAIN}".replace("import math", "import cmath")


def test_blanks_that_an_editor_took_from_the_ends_of_lines_that_stay_come_back() -> None:
    files = FILES | {"train.py": TRAIN.replace("import math\n", "import math  \n")}
    assert apply_edits(files, edits_of(GOOD, files))["train.py"] == files["train.py"].replace("0.1", "0.2")


def test_where_blanks_may_have_been_taken_a_place_without_them_is_no_likelier() -> None:
    files = {"train.py": "a  \nb\nc\nx\na\nb\nc\n"}
    with pytest.raises(ValueError, match=r"line 3: .*2 places, from lines 1 and 5 on"):
        edits_of(f"{HEAD}@@\n a\n-b\n+B\n c\n", files)
    assert apply_edits(files, edits_of(f"{HEAD}@@\n a  \n-b\n+B\n c\n", files))["train.py"].startswith("a  \nB\n")


@pytest.mark.parametrize("indent", ["", "    ", "> "])
def test_a_fence_in_the_file_is_none_around_the_diff(indent: str) -> None:
    files = FILES | {"train.py": "a\n```diff\nb\n```\nc\n"}
    patch = f"{HEAD}@@\n a\n ```diff\n b\n ```\n-c\n+d\n{NET}"
    after = apply_edits(files, edits_of("".join(f"{indent}{row}\n" for row in patch.split("\n")[:-1]), files))
    assert after == BOTH | {"train.py": "a\n```diff\nb\n```\nd\n"}


def test_an_empty_file_may_gain_lines() -> None:
    files = FILES | {"lib/net.py": ""}
    patch = "--- a/lib/net.py\n+++ b/lib/net.py\n@@ -0,0 +1 @@\n+x = 1\n"
    assert apply_edits(files, edits_of(patch, files))["lib/net.py"] == "x = 1\n"
    assert "@@ -0,0 +1 @@" in as_git_writes(patch, files)


def test_escapes_that_the_file_has_and_texts_that_hold_some_are_code() -> None:
    line = "TABLE = {'&lt;': '<'}"
    patch = f"{HEAD}@@ -3,2 +3,3 @@\n LR = 0.1\n+{line}\n WARMUP = 0.05\n"
    assert line in apply_edits(FILES, edits_of(patch, FILES))["train.py"]
    files = FILES | {"train.py": f"# a &amp; b\n{TRAIN}"}
    patch = patch.replace(line, "# c &lt; d")
    assert "# c &lt; d" in apply_edits(files, edits_of(patch, files))["train.py"]


def test_dots_that_are_code_are_a_line() -> None:
    files = {"train.py": "def f(x):\n    ...\n"}
    patch = f"{HEAD}@@\n def f(x):\n-    ...\n+    return x\n"
    assert apply_edits(files, edits_of(patch, files))["train.py"] == "def f(x):\n    return x\n"


def test_a_last_line_that_lost_its_end_is_as_the_others() -> None:
    patch = (HEAD + "@@ -3 +3 @@\n-LR = 0.1\r\n+LR = 0.2\r\n").removesuffix("\r\n")
    assert apply_edits(FILES, edits_of(patch, FILES)) == QUICK
    files = FILES | {"train.py": CRLF}
    assert apply_edits(files, edits_of(patch, files))["train.py"] == CRLF.replace("LR = 0.1", "LR = 0.2")


@pytest.mark.parametrize("row", [" import math", "-LR = 0.1", "+LR = 0.2", " WARMUP = 0.05"])
def test_a_file_keeps_its_ends_also_where_one_line_of_the_diff_has_others(row: str) -> None:
    patch = GOOD.replace(f"{row}\n", f"{row}\r\n")
    assert apply_edits(FILES, edits_of(patch, FILES)) == QUICK
    files = FILES | {"train.py": CRLF}
    assert apply_edits(files, edits_of(patch, files))["train.py"] == CRLF.replace("LR = 0.1", "LR = 0.2")


def test_a_tab_that_lost_the_blank_before_it_is_a_line_that_stays() -> None:
    files = {"train.py": "def f(x):\n\ty = x\n\treturn y\n"}
    patch = f"{HEAD}@@ -1,3 +1,3 @@\n def f(x):\n-\ty = x\n+\ty = 2 * x\n\treturn y\n"
    assert apply_edits(files, edits_of(patch, files))["train.py"] == files["train.py"].replace("= x", "= 2 * x")


def test_a_file_without_a_last_newline_may_gain_lines() -> None:
    files = {"train.py": "a\nb"}
    patch = f"{HEAD}@@ -1,2 +1,3 @@\n a\n b\n+c\n"
    assert apply_edits(files, edits_of(patch, files)) == {"train.py": "a\nb\nc\n"}


def test_the_empty_patch_is_no_edit() -> None:
    assert edits_of(" \n", FILES) == () and as_git_writes("", FILES) == ""


def test_a_patch_beyond_all_reading_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="has 300,000 lines; at most 20,000"):
        edits_of(HEAD + "@@\n" + "+x\n" * 299_997, FILES)
    with pytest.raises(ValueError, match="has 1,000,001 characters; at most 1,000,000"):
        edits_of("x" * 1_000_000 + "\r\n", FILES)


def test_many_hunks_in_a_long_file_take_no_time() -> None:
    lines = [f"x{n % 40} = {n}\n" for n in range(3_000)]
    changed = [line.replace("=", "= -") if n % 9 == 0 else line for n, line in enumerate(lines)]
    files = {"train.py": "".join(lines)}
    patch = to_patch(files, edits_of(_whole(lines, changed), files))
    assert apply_edits(files, edits_of(patch, files))["train.py"] == "".join(changed)


def _whole(before: list[str], after: list[str]) -> str:
    return f"{HEAD}@@\n" + "".join(f"-{line}" for line in before) + "".join(f"+{line}" for line in after)


ODD_LINES = [
    "```",
    "-- ",
    "\\ No newline",
    "@@",
    "",
    "+",
    "-",
    " ",
    "*** End Patch",
    "<<<<<<< SEARCH",
    "=======",
    "train.py",
]
MORE_ODD_LINES = [
    ">>>>>>> REPLACE",
    "> --- a/train.py",
    "    @@",
    "index 1a2b3c4..2b3c4d5",
    "*** Update File: train.py",
]


@given(st.lists(st.sampled_from([*GIT.split("\n"), *GOOD.split("\n"), *ODD_LINES, *MORE_ODD_LINES]), max_size=25))
def test_any_order_of_lines_is_edits_or_a_sentence(lines: list[str]) -> None:
    with suppress(ValueError):
        edits = edits_of("\n".join(lines), FILES)
        assert edits == () or apply_edits(FILES, edits) != FILES


STRAYS = [
    "+A = 1",
    "-WARMUP = 0.05",
    "+LR = 0.2",
    "words",
    "</patch>",
    "2.39.5",
    "cat <<EOF",
    "EOF",
    "> +A = 1",
    "    +A = 1",
]
BASES = [
    "a fence and words around it",
    "two files",
    "two mails in one file",
    "OpenAI's patches, two files",
    "git format-patch",
]


@given(
    st.sampled_from(BASES),
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([*STRAYS, *ODD_LINES, *GOOD.split("\n")])), max_size=4),
)
def test_whatever_gets_into_a_diff_no_line_that_comes_is_lost_and_none_that_goes_stays(
    name: str, strays: list[tuple[int, str]]
) -> None:
    rows = TAKEN[name][0].split("\n")
    for at, row in strays:
        rows.insert(at, row)
    if any("<<<<<<<" in row for row in rows):
        return  # a block's lines have no marks
    with suppress(ValueError):
        after = apply_edits(FILES, edits_of("\n".join(rows), FILES))
        lines = [line for text in after.values() for line in text.split("\n")]
        come = [row[1:] for row in rows if row.startswith("+") and not row.startswith("+++ ")]
        go = [row[1:] for row in rows if row.startswith("-") and not row.startswith("--") and row.strip("-")]
        assert all(lines.count(line) >= come.count(line) for line in come)
        assert all(lines.count(line) <= come.count(line) for line in go)
