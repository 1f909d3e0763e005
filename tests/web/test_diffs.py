"""A reviewer sees every line of a patch, as what it is."""

from __future__ import annotations

import pytest

from webapp import diffs

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
