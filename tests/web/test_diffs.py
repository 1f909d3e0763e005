"""A reviewer sees every line of a patch, as what it is."""

from __future__ import annotations

import pytest

from research.change import unified
from research.change.drafts import Edit
from research.change.patches import to_patch
from webapp.drawing import diffs

SPOOF = """--- a/train.py
+++ b/train.py
@@ -1,3 +1,3 @@ def train(run):
 first
--- comment that looks like a header
+++ b/harmless.py
 last
"""


def test_a_removed_line_that_looks_like_a_file_header_stays_in_its_file() -> None:
    (file,) = diffs.parse(SPOOF)
    assert file.path == "train.py"
    shown = [(line.kind, line.old, line.new, "".join(text for _, text in line.parts)) for line in file.lines]
    assert shown == [
        ("hunk", None, None, "@@ def train(run):"),
        ("", 1, 1, "first"),
        ("del", 2, None, "-- comment that looks like a header"),
        ("add", None, 2, "++ b/harmless.py"),
        ("", 3, 3, "last"),
    ]


def test_blanks_that_come_or_go_can_be_seen() -> None:
    edits = [Edit(path="train.py", search="x = 1  \n\ty = 2\n", replace="x = 1\n    y = 2\n")]
    (file,) = diffs.parse(to_patch({"train.py": "x = 1  \n\ty = 2\nz = 3  \n"}, edits))
    shown = [(line.kind, [text for kind, text in line.parts if kind == "ws"]) for line in file.lines[1:]]
    assert shown == [("del", ["  "]), ("del", ["\t"]), ("add", []), ("add", []), ("", [])]


def test_lines_of_a_patch_that_are_no_diff_are_shown_and_not_dropped() -> None:
    (file,) = diffs.parse("old mode 100644\nnew mode 100755\n")
    assert [line.parts[0][1] for line in file.lines] == ["old mode 100644", "new mode 100755"]


def test_two_files_a_new_one_and_one_without_a_last_newline() -> None:
    patch = (
        "--- a/one.py\n+++ b/one.py\n@@ -1 +1 @@\n-x = 1\n\\ No newline at end of file\n+x = 2\n"
        "--- /dev/null\n+++ b/two.py\n@@ -0,0 +1,2 @@\n+import os\n+\n"
    )
    one, two = diffs.parse(patch)
    assert (one.path, one.num_added, one.num_removed) == ("one.py", 1, 1)
    assert (two.path, two.num_added, two.num_removed) == ("two.py", 2, 0)


@pytest.mark.parametrize(("path", "coloured"), [("a.py", True), ("a.unknown", False)])
def test_python_is_coloured_and_the_text_is_never_changed(path: str, coloured: bool) -> None:
    source = "    return self.f(1.5)  # <b>"
    (file,) = diffs.parse(f"--- a/{path}\n+++ b/{path}\n@@ -0,0 +1 @@\n+{source}\n")
    parts = file.lines[1].parts
    assert "".join(text for _, text in parts) == source
    assert any(name for name, _ in parts) == coloured


ENDS_ELSEWHERE = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"]


@pytest.mark.parametrize("character", ENDS_ELSEWHERE)
@pytest.mark.parametrize("path", ["a.py", "a.unknown"])
def test_what_ends_a_line_elsewhere_ends_none_here_and_can_be_seen(path: str, character: str) -> None:
    text = f"x = 1\ny = 2  # a{character}+z = 3\nw = 4\n"
    patch = to_patch({path: text}, [Edit(path=path, search="w = 4", replace=f"w = 5{character}- w")])
    (file,) = diffs.parse(patch)
    shown = [(line.kind, line.old, line.new, "".join(text for _, text in line.parts)) for line in file.lines]
    seen = f"<U+{ord(character):04X}>"
    assert shown[1:] == [
        ("", 1, 1, "x = 1"),
        ("", 2, 2, f"y = 2  # a{seen}+z = 3"),
        ("del", 3, None, "w = 4"),
        ("add", None, 3, f"w = 5{seen}- w"),
    ]
    change = unified.read(patch)
    assert (file.num_added, file.num_removed) == (change.num_added, change.num_removed) == (1, 1)


def test_a_byte_order_mark_and_windows_ends_can_be_seen() -> None:
    (file,) = diffs.parse("--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-\ufeffx = 1\r\n+\ufeffx = 2\r\n")
    assert ["".join(text for _, text in line.parts) for line in file.lines[1:]] == [
        "<U+FEFF>x = 1<U+000D>", "<U+FEFF>x = 2<U+000D>",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["a.py", "a.unknown"])
def test_a_hidden_character_is_told_from_text_that_spells_one_out(path: str) -> None:
    (file,) = diffs.parse(f"--- a/{path}\n+++ b/{path}\n@@ -0,0 +1 @@\n+# a <U+202E> b\t\u202e c\n")
    assert [text for name, text in file.lines[1].parts if name == "hid"] == ["<U+202E>"]
    assert "".join(text for _, text in file.lines[1].parts) == "# a <U+202E> b\t<U+202E> c"
