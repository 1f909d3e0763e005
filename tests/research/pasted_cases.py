"""Diffs as people, mail clients, pages and models give them: by what is odd about them, and what becomes of them.

The shapes come from public reports on git apply, aider, Codex's apply_patch, SWE-agent and their like; the words and
the code are ours.
"""

# ruff: noqa: E501  # a case is read in one line, beside the others

from __future__ import annotations

TRAIN = """import math

LR = 0.1
WARMUP = 0.05


def act(x):
    y = x * 2
    return y


def gate(x):
    y = x + 2  # shifted
    return y


class Net:
    depth = 4

    def forward(self, x):
        x = act(x)
        return gate(x)
"""
RECIPE = """[recipe]
name = "r"
about = ""
editable = ["train.py", "lib/net.py"]
[knobs.lr]
type = "float"
default = 0.1
low = 0.01
high = 1.0
help = ""
"""
FILES = {"train.py": TRAIN, "lib/net.py": "WIDTH = 4\nHEADS = 2\n", "recipe.toml": RECIPE}
HEAD = "--- a/train.py\n+++ b/train.py\n"
GIT = f"diff --git a/train.py b/train.py\n{HEAD}"
LR = " import math\n \n-LR = 0.1\n+LR = 0.2\n WARMUP = 0.05\n"
GOOD = f"{HEAD}@@ -1,4 +1,4 @@\n{LR}"
NET = "--- a/lib/net.py\n+++ b/lib/net.py\n@@ -1,2 +1,2 @@\n-WIDTH = 4\n+WIDTH = 8\n HEADS = 2\n"
FASTER = TRAIN.replace("LR = 0.1", "LR = 0.2")


def after(**texts: str) -> dict[str, str]:
    return FILES | {"train.py": texts.get("train", TRAIN), "lib/net.py": texts.get("net", FILES["lib/net.py"])}


QUICK = after(train=FASTER)
BOTH = after(train=FASTER, net="WIDTH = 8\nHEADS = 2\n")
MORE = after(train=TRAIN.replace("WARMUP = 0.05\n", "WARMUP = 0.05\nA = 1\nB = 2\nC = 3\n"))
SQUARE = after(train=TRAIN.replace("y = x * 2", "y = x * x"))

TAKEN: dict[str, tuple[str, dict[str, str]]] = {
    "as git writes it": (GIT + f"@@ -1,4 +1,4 @@\n{LR}", QUICK),
    "three lines come where the header says one": (f"{HEAD}@@ -4,1 +4,2 @@\n WARMUP = 0.05\n+A = 1\n+B = 2\n+C = 3\n", MORE),
    "fewer lines than the header says": (f"{HEAD}@@ -1,7 +1,9 @@\n{LR}", QUICK),
    "a header that says nothing": (f"{HEAD}@@\n{LR}", QUICK),
    "a header with ellipses": (f"{HEAD}@@ ... @@\n{LR}", QUICK),
    "a header with a function": (f"{HEAD}@@ def act(x): @@\n-    y = x * 2\n+    y = x * x\n", SQUARE),
    "a class and a function, one below the other": (f"{HEAD}@@ class Net:\n@@ def act(x):\n-    y = x * 2\n+    y = x * x\n", SQUARE),
    "a header without its end": (f"{HEAD}@@ -1,4 +1,4\n{LR}", QUICK),
    "line numbers of another file": (f"{HEAD}@@ -201,4 +233,4 @@\n{LR}", QUICK),
    "an edited line that was taken out of the hunk": (f"{GIT}@@ -1,4 +1,6 @@ x\n{LR}", QUICK),
    "no line after the change": (f"{HEAD}@@ -1,3 +1,3 @@\n import math\n \n-LR = 0.1\n+LR = 0.2\n", QUICK),
    "a count too high, and then the next file without a diff line": (GOOD.replace("-1,4 +1,4", "-1,5 +1,5") + NET, BOTH),
    "a count left out, and then the next file": (f"{HEAD}@@ -3 +3 @@\n-LR = 0.1\n+LR = 0.2\n{NET}", BOTH),
    "two files": (GOOD + NET, BOTH),
    "two files, with empty lines between": (f"{GOOD}\n\n{NET}\n", BOTH),
    "two hunks": (
        f"{GOOD}@@ -8,2 +8,2 @@ def act(x):\n-    y = x * 2\n+    y = x * x\n     return y\n",
        after(train=FASTER.replace("y = x * 2", "y = x * x")),
    ),
    "two hunks, the later one first": (
        f"{HEAD}@@ -8,2 +8,2 @@\n-    y = x * 2\n+    y = x * x\n     return y\n@@ -1,4 +1,4 @@\n{LR}",
        after(train=FASTER.replace("y = x * 2", "y = x * x")),
    ),
    "each hunk with the file's header": (
        f"{GOOD}{HEAD}@@ -8,2 +8,2 @@\n-    y = x * 2\n+    y = x * x\n     return y\n",
        after(train=FASTER.replace("y = x * 2", "y = x * x")),
    ),
    "a fence and words around it": (f"Sure! Here is the change:\n\n```diff\n{GOOD}```\n\n- It raises the rate.\n- Nothing else.\n", QUICK),
    "a fence of tildes": (f"~~~\n{GOOD}~~~\n", QUICK),
    "a fence that is not closed": (f"```diff\n{GOOD}", QUICK),
    "two fences": (f"First:\n```diff\n{GOOD}```\nthen:\n```diff\n{NET}```\n", BOTH),
    "a fence beside one with other code": (f"Now it is\n```python\nLR = 0.1\n```\nand becomes\n```diff\n{GOOD}```\n", QUICK),
    "indented as a whole": ("".join(f"    {line}\n" for line in GOOD.split("\n")[:-1]), QUICK),
    "a fence in a list": ("1. This:\n   ```diff\n" + "".join(f"   {line}\n" for line in GOOD.split("\n")[:-1]) + "   ```\n", QUICK),
    "quoted in a mail": ("Ada wrote:\n" + "".join(f"> {line}\n" for line in GOOD.split("\n")[:-1]), QUICK),
    "quoted in a mail, blanks at the ends gone": ("".join(f"> {line}".rstrip() + "\n" for line in GOOD.split("\n")[:-1]), QUICK),
    "no a/ and b/": (GOOD.replace("a/", "").replace("b/", ""), QUICK),
    "a deep folder": (GOOD.replace("a/train", "a/repo/sub/recipe/train").replace("b/train", "b/repo/sub/recipe/train"), QUICK),
    "the whole path of a machine": (GOOD.replace("a/train", "/workspace/repo/train").replace("b/train", "/workspace/repo/train"), QUICK),
    "backslashes": (GOOD.replace("a/train", "a\\recipe\\train").replace("b/train", "b\\recipe\\train"), QUICK),
    "only the new name": (GOOD.replace("--- a/train.py\n", ""), QUICK),
    "diff -u beside a copy": (GOOD.replace("--- a/train.py", "--- train.py.orig\t2026-01-01 10:00:00.000000000 +0000"), QUICK),
    "diff -u, its tabs made blanks": (GOOD.replace("a/train.py", "old/train.py 2026-01-01 10:00:00.123 +0100"), QUICK),
    "diff -ru": (f"diff -ru old/train.py new/train.py\n{GOOD}", QUICK),
    "a model's words behind the names": (GOOD.replace("a/train.py", "train.py (original)").replace("b/train.py", "train.py (modified)"), QUICK),
    "only the old name": (GOOD.replace("+++ b/train.py\n", ""), QUICK),
    "git's line and no other name": (f"diff --git a/train.py b/train.py\n@@ -1,4 +1,4 @@\n{LR}", QUICK),
    "tags around it": (f"<answer>\n<patch>\n{GOOD}</patch>\n</answer>\n", QUICK),
    "a fence's end alone": (f"{GOOD}```\n", QUICK),
    "blanks on a blank line that stays": (GOOD.replace("\n \n", "\n     \n"), QUICK),
    "blanks on a line behind": (f"{HEAD}@@\n{LR}   \n", QUICK),
    "svn": (
        "Index: train.py\n" + "=" * 67 + "\n--- train.py\t(revision 12)\n+++ train.py\t(working copy)\n@@ -1,4 +1,4 @@\n" + LR,
        QUICK,
    ),
    "hg": (f"diff -r 1a2b3c4d5e6f train.py\n{GOOD}", QUICK),
    "git format-patch": (
        f"From {'1a' * 20} Mon Sep 17 00:00:00 2001\nFrom: Ada <ada@lab.example>\nSubject: [PATCH] Raise it\n\n"
        f"+1 from Bo\n---\n train.py | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\n{GIT}@@ -1,4 +1,4 @@\n{LR}-- \n2.39.5\n\n".replace("+1 from", "A word from"),
        QUICK,
    ),
    "two mails in one file": (
        f"From {'1a' * 20} Mon Sep 17 00:00:00 2001\nSubject: one\n\n{GOOD}-- \n2.39.5\n\n"
        f"From {'2b' * 20} Mon Sep 17 00:00:00 2001\nSubject: two\n\nand more\n---\n{NET}-- \n2.39.5\n",
        BOTH,
    ),
    "a mail's end, its blank gone": (f"Subject: x\n\n{HEAD}@@ -1,9 +1,9 @@\n{LR}--\n2.39.5\n", QUICK),
    "colours": ("".join(f"\x1b[1m{line}\x1b[m\n" for line in (GIT + f"@@ -1,4 +1,4 @@\n{LR}").split("\n")[:-1]), QUICK),
    "a here-document": (f"git apply <<'EOF'\n{GOOD}EOF\n", QUICK),
    "a here-document in a list": ("- run\n" + "".join(f"    {row}\n" for row in f"git apply <<'EOF'\n{GOOD}EOF".split("\n")), QUICK),
    "a byte order mark": (f"\ufeff{GOOD}", QUICK),
    "no newline at its end": (GOOD.rstrip("\n"), QUICK),
    "blank lines that lost their blank": (GOOD.replace("\n \n", "\n\n"), QUICK),
    "an empty line behind the header": (f"{HEAD}@@ ... @@\n\n     y = x * 2\n-    return y\n+    return -y\n", after(train=TRAIN.replace("y = x * 2\n    return y", "y = x * 2\n    return -y"))),
    "Windows ends of lines": (GOOD.replace("\n", "\r\n"), QUICK),
    "a diff of a file with Windows ends": (f"{HEAD}@@ -1,4 +1,4 @@\n" + LR.replace("\n", "\r\n"), QUICK),
    "the mode of the file, which stays": (GIT.replace("--- a", "index 1a2b3c4..2b3c4d5 100755\n--- a") + f"@@ -1,4 +1,4 @@\n{LR}", QUICK),
    "OpenAI's patches": (f"*** Begin Patch\n*** Update File: train.py\n@@\n{LR}*** End Patch\n", QUICK),
    "OpenAI's patches, with stars behind": (f"*** Begin Patch ***\n*** Update File: /repo/train.py\n@@ def x\n{LR}*** End Patch ***\n", QUICK),
    "OpenAI's patches, two files": (
        f"*** Begin Patch\n*** Update File: train.py\n{LR}*** Update File: lib/net.py\n@@\n-WIDTH = 4\n+WIDTH = 8\n*** End Patch\n",
        BOTH,
    ),
    "OpenAI's patches, at the end of the file": (
        "*** Begin Patch\n*** Update File: train.py\n@@\n-        return gate(x)\n+        return -gate(x)\n*** End of File\n*** End Patch\n",
        after(train=TRAIN.replace("return gate(x)", "return -gate(x)")),
    ),
    "a search-and-replace block": ("train.py\n```python\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n```\n", QUICK),
    "two blocks for one file": (
        "**train.py**\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n\n<<<<<<< SEARCH\n    y = x * 2\n=======\n    y = x * x\n>>>>>>> REPLACE\n",
        after(train=FASTER.replace("y = x * 2", "y = x * x")),
    ),
    "blocks for two files": (
        "train.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\nlib/net.py\n<<<<<<< SEARCH\nWIDTH = 4\n=======\nWIDTH = 8\n>>>>>>> REPLACE\n",
        BOTH,
    ),
    "git format-patch --base": (f"Subject: x\n\n{GIT}@@ -1,4 +1,4 @@\n{LR}\nbase-commit: {'1a' * 20}\n-- \n2.39.5\n\n", QUICK),
    "a mail from a list, which adds its own words": (
        f"Subject: x\n\n{GIT}@@ -1,4 +1,4 @@\n{LR}-- \n2.39.5\n{'_' * 47}\nlab mailing list\nhttps://lab.example/list\n", QUICK,
    ),
    "svn's git format": (
        f"Index: train.py\n{'=' * 67}\n{GIT}@@ -1,4 +1,4 @@\n{LR}".replace("b/train.py\n@@", "b/train.py\t(working copy)\n@@"), QUICK,
    ),
    "cvs": (
        f"Index: train.py\n{'=' * 67}\nRCS file: /cvs/r/train.py,v\nretrieving revision 1.4\ndiff -u -p -r1.4 train.py\n{GOOD}", QUICK,
    ),
    "hg, its tabs made blanks": (GOOD.replace("/train.py\n", "/train.py Thu Jan 01 00:00:00 1970 +0000\n"), QUICK),
    "only the new name of a second file": (GOOD + NET.replace("--- a/lib/net.py\n", ""), BOTH),
    "only the old name of a second file": (GOOD + NET.replace("+++ b/lib/net.py\n", ""), BOTH),
    "only the new name of a second file, without counts": (f"{HEAD}@@\n{LR}+++ b/lib/net.py\n@@\n-WIDTH = 4\n+WIDTH = 8\n", BOTH),
    "two fences, the second in a list": (
        f"```diff\n{GOOD}```\n- and\n\n  ```diff\n" + "".join(f"  {line}\n" for line in NET.split("\n")[:-1]) + "  ```\n", BOTH,
    ),
    "OpenAI's patches, with counts and at the end of the file": (
        "*** Begin Patch\n*** Update File: train.py\n@@ -21 +21 @@\n-        return gate(x)\n+        return -gate(x)\n*** End of File\n*** End Patch\n",
        after(train=TRAIN.replace("return gate(x)", "return -gate(x)")),
    ),
    "ends of lines of the old Mac": (GOOD.replace("\n", "\r"), QUICK),
    "counts of letters": (f"{HEAD}@@ -x,y +x,y @@\n{LR}", QUICK),
    "git's mnemonic prefixes": (GOOD.replace("a/train", "i/train").replace("b/train", "w/train"), QUICK),
    "git show": (f"commit {'1a' * 20}\nAuthor: Ada <ada@lab.example>\n\n    Raise it\n\n    - more\n    +LR = 4\n\n{GIT}@@ -1,4 +1,4 @@\n{LR}", QUICK),
    "git diff --stat -p": (f" train.py | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n\n{GIT}@@ -1,4 +1,4 @@\n{LR}", QUICK),
    "a shell's commands around it": (f"cat > p.diff << 'END'\n{GOOD}END\ngit apply p.diff\n", QUICK),
    "a file that is changed twice, one after the other": (GOOD + GOOD.replace("0.2", "0.3").replace("0.1", "0.2"), after(train=TRAIN.replace("LR = 0.1", "LR = 0.3"))),
    "a line that goes and looks like a header, counted rightly": (
        "--- a/lib/net.py\n+++ b/lib/net.py\n@@ -1,2 +1,3 @@\n WIDTH = 4\n-HEADS = 2\n+HEADS = 4\n+++ b/x = 1\n",
        after(net="WIDTH = 4\nHEADS = 4\n++ b/x = 1\n"),
    ),
}  # fmt: skip

REFUSED: dict[str, tuple[str, str]] = {
    "no diff": ("please raise the rate\n", "not a unified diff; paste what `git diff` prints"),
    "a hunk without a file": (f"@@ -1,4 +1,4 @@\n{LR}", "line 1: this hunk belongs to no file; write --- a/train.py"),
    "lines without any header": ("-LR = 0.1\n+LR = 0.2\n", "line 1: .*stands before any file's header"),
    "words behind": (f"{GOOD}I hope that this helps.\n", "line 9: 'I hope .* belongs to no hunk"),
    "words between hunks": (f"{GOOD}and then\n@@ -8 +8 @@\n-    y = x * 2\n+    y = x\n", "line 9: 'and then' belongs to no"),
    "a line without its mark": (GOOD.replace(" WARMUP", "WARMUP"), "line 8: 'WARMUP = 0.05' belongs to no hunk"),
    "three dots for lines": (f"{HEAD}@@\n import math\n...\n-LR = 0.1\n+LR = 0.2\n", "line 5: .*lines that were left out; write two"),
    "a hunk that only keeps": (f"{GOOD}@@ -8 +8 @@\n     y = x * 2\n", "line 9: this hunk changes nothing"),
    "a header without a hunk": (f"{GOOD}--- a/lib/net.py\n+++ b/lib/net.py\n", "line 9: .*lib/net.py changes no line"),
    "lines that cancel": (f"{HEAD}@@ -3 +3 @@\n-LR = 0.1\n+LR = 0.1\n", "line 3: this hunk changes nothing: .*are the same"),
    "context that stands twice": (f"{HEAD}@@ -9 +9 @@\n-    return y\n+    return -y\n", "line 3: .*2 places, from lines 9 and 14.*git diff -U12"),
    "context that stands twice, another version's hash": (
        f"{GIT.replace('--- a', 'index 1a2b3c4..2b3c4d5 100644' + chr(10) + '--- a')}@@ -9 +9 @@\n-    return y\n+    return -y\n",
        "line 5: .*2 places.*not borne out by git's hashes",
    ),
    "only lines that come": (f"{HEAD}@@ -4,0 +5 @@\n+A = 1\n", "line 3: this hunk only adds lines.*git diff -U3"),
    "only lines that come, below a function's name": (
        "*** Begin Patch\n*** Update File: train.py\n@@ def act(x):\n+    x = x + 1\n*** End Patch\n",
        "line 3: this hunk only adds lines",
    ),
    "a tab for blanks": (f"{HEAD}@@ -8 +8 @@\n-\ty = x * 2\n+\ty = x\n", "line 4: .*line 8 is the same but for white space: 4 blanks where the text sought has a tab"),
    "a no-break space": (GOOD.replace("-LR = 0.1", "-LR\xa0= 0.1"), "line 6: .*line 3 .*a blank where the text sought has a no-break space"),
    "another value": (GOOD.replace("-LR = 0.1", "-LR = 0.3"), "line 6: .*line 3 reads 'LR = 0.1' where the text sought has 'LR = 0.3'"),
    "made already": (f"{HEAD}@@ -1,3 +1,3 @@\n import math\n \n-LR = 0.3\n+LR = 0.1\n", "line 3: what this hunk makes stands in train.py already, at line 1"),
    "the same line twice": (f"{GOOD}@@ -3 +3 @@\n-LR = 0.1\n+LR = 0.4\n", "line 10: .*changes or keeps lines that line 6 of the patch changes"),
    "a line that one hunk keeps and another takes": (f"{GOOD}@@ -4,2 +4,1 @@\n-WARMUP = 0.05\n-\n \n", "line 10: .*line 8"),
    "another file": (GOOD.replace("train", "other"), "line 1: there is no such file in the recipe, 'a/other.py'; it has lib/net.py"),
    "another case": (GOOD.replace("train", "Train"), "line 1: there is no such file.*; write train.py"),
    "two names": (GOOD.replace("+++ b/train.py", "+++ b/lib/net.py"), "line 1: the section names two files, lib/net.py and train.py"),
    "git's name and the others differ": (f"diff --git a/lib/net.py b/lib/net.py\n{GOOD}", "line 1: the section names two files"),
    "a name that climbs": (GOOD.replace("a/train", "../train"), "line 1: the name '../train.py' climbs"),
    "a quoted name": (GOOD.replace("a/train.py", '"a/tr\\141in.py"'), "line 1: the name .* is quoted"),
    "a file that comes": (f"{GOOD}--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n", "line 9: 'b/new.py' would be added"),
    "a file that goes": ("diff --git a/lib/net.py b/lib/net.py\ndeleted file mode 100644\n", "line 2: 'deleted file mode 100644' does more"),
    "a file that goes, without git": ("--- lib/net.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-WIDTH = 4\n-HEADS = 2\n", "line 1: 'lib/net.py' would be removed"),
    "a rename beside a change": (
        f"{GOOD}diff --git a/lib/net.py b/lib/web.py\nsimilarity index 100%\nrename from lib/net.py\nrename to lib/web.py\n",
        "line 10: 'similarity index 100%' does more than change lines",
    ),
    "a copy": ("diff --git a/train.py b/t.py\ncopy from train.py\ncopy to t.py\n", "line 2: 'copy from train.py' does more"),
    "another mode": (f"{GOOD}diff --git a/lib/net.py b/lib/net.py\nold mode 100644\nnew mode 100755\n", "line 10: 'old mode 100644' does more"),
    "a symlink": (GIT.replace("--- a", "index 1a2b3c4..2b3c4d5 120000\n--- a") + f"@@ -1,4 +1,4 @@\n{LR}", "line 2: 'index .* does more"),
    "a binary": (f"{GOOD}diff --git a/x.bin b/x.bin\nGIT binary patch\nliteral 0\nHcmV?d00001\n\n", "line 10: 'GIT binary patch' does more"),
    "a binary, without git": (f"{GOOD}Binary files a/x.bin and b/x.bin differ\n", "line 9: 'Binary files .* does more"),
    "only in one folder": (f"Only in new: x.py\n{GOOD}", "line 1: 'Only in new: x.py' does more"),
    "svn's properties": (f"{GOOD}\nProperty changes on: train.py\n", "line 10: 'Property changes on: train.py' does more"),
    "a merge": ("diff --cc train.py\nindex 1,2..3\n--- a/train.py\n+++ b/train.py\n@@@ -1,4 -1,4 +1,4 @@@\n", "line 1: this is a diff of a merge"),
    "a merge's hunk": (f"{HEAD}@@@ -1,4 -1,4 +1,4 @@@\n  import math\n", "line 3: this is a diff of a merge"),
    "a conflict": ("<<<<<<< HEAD\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> other\n", "line 1: .*marks a conflict; resolve it"),
    "by words": (f"{HEAD}@@ -1,4 +1,4 @@\nimport math\n\nLR = [-0.1-]{{+0.2+}}\n", "line 4: 'import math' belongs to no hunk"),
    "by words, at once": (f"{HEAD}@@ -3 +3 @@\nLR = [-0.1-]{{+0.2+}}\n", "line 4: .*is of a diff by words; paste git diff without"),
    "a context diff": ("*** train.py\t2026\n--- train.py\t2026\n***************\n*** 1,4 ****\n", "line 3: this is a context diff"),
    "without context": ("3c3\n< LR = 0.1\n---\n> LR = 0.2\n", "line 1: this is a diff without context"),
    "OpenAI's, a file that comes": ("*** Begin Patch\n*** Add File: x.py\n+x = 1\n*** End Patch\n", "line 2: .*does more than change"),
    "OpenAI's, a file that moves": (
        f"*** Begin Patch\n*** Update File: train.py\n*** Move to: t.py\n@@\n{LR}*** End Patch\n", "line 3: .*does more than change",
    ),
    "a line that goes, before any header": (f"-WARMUP = 0.05\n{GOOD}", "line 1: .*stands before any file's header"),
    "a block without a name": ("<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n", "line 1: this block says not which file"),
    "a block without its end": ("train.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nLR = 0.2\n", "line 2: this block is not SEARCH"),
    "a block for nothing": ("train.py\n<<<<<<< SEARCH\n=======\nLR = 0.2\n>>>>>>> REPLACE\n", "line 2: this hunk only adds"),
    "a block with two middles": (
        "train.py\n<<<<<<< SEARCH\nLR = 0.1\n=======\nA = 1\n=======\nLR = 0.2\n>>>>>>> REPLACE\n", "line 6: a second =======",
    ),
    "a part outside of the fence": (f"```diff\n{GOOD}```\n{NET}", "line 11: a part of the diff stands outside of the fence"),
    "a line in another fence": (f"```diff\n{GOOD}```\n```\n+A = 1\n```\n", "line 12: a part of the diff stands outside"),
    "a line in a fence that is not closed": (f"```diff\n{GOOD}```\n```python\n-WARMUP = 0.05\n", "line 12: a part of the diff"),
    "a line outside of the fence": (f"```diff\n{GOOD}```\n+A = 1\n", "line 11: a part of the diff stands outside"),
    "an indent that stops": ("".join(f"  {line}\n" for line in GOOD.split("\n")[:5]) + "+LR = 0.2\n", "line 6: the patch is indented by '  '"),
    "lines behind a here-document's end": (
        f"git apply <<EOF\n{HEAD}@@ -1,4 +1,4 @@\n import math\n \n-LR = 0.1\n+LR = 0.2\nEOF\n+A = 1\n WARMUP = 0.05\n", "line 10: the patch goes on behind its end, EOF",
    ),
    "a line that goes, on the header's line": (f"{HEAD}@@ -3,1 +3,2 @@ -LR = 0.1\n+LR = 0.2\n WARMUP = 0.05\n", "line 3: '-LR = 0.1' stands behind the hunk's @@"),
    "a line that comes, on the header's line": (f"{HEAD}@@ -3,2 +3,4 @@+A = 1\n LR = 0.1\n+B = 2\n WARMUP = 0.05\n", "line 3: '.A = 1' stands behind"),
    "a line on a bare header's line": (f"{HEAD}@@ -LR = 0.1\n+LR = 0.2\n WARMUP = 0.05\n", "line 3: '-LR = 0.1' stands behind"),
    "a hunk that changes nothing beside one that does": (f"{GOOD}@@ -8 +8 @@\n-    y = x * 2\n+    y = x * 2\n", "line 9: this hunk changes nothing"),
    "a part that takes another one back": (GOOD + GOOD.replace("-LR = 0.1\n+LR = 0.2", "-LR = 0.2\n+LR = 0.1"), "line 9: this takes back what the part from line 1 on does to train.py"),
    "a part that takes another one back, beside a third": (
        GOOD + NET + GOOD.replace("-LR = 0.1\n+LR = 0.2", "-LR = 0.2\n+LR = 0.1"), "line 15: this takes back what the part from line 1",
    ),
    "a page's escapes in a line that comes": (f"{HEAD}@@ -3,2 +3,3 @@\n LR = 0.1\n+BIG = LR &gt; 3\n WARMUP = 0.05\n", "line 5: .*holds &gt;, as the source of a page writes '>'"),
    "a page's escapes in a line that stays": (GOOD.replace(" import math", " import&nbsp;math"), "line 4: "),
    "JSON": (GOOD.replace("\n", "\\n"), "line 1: this diff is written with .n for the ends of its lines"),
    "a typed minus": (GOOD.replace("-LR", "\u2212LR"), r"line 6: .* begins with U\+2212, which only looks like -"),
    "a wide plus": (GOOD.replace("+LR", "\uff0bLR"), r"line 7: .* begins with U\+FF0B, which only looks like \+"),
    "a no-break space for the blank": (GOOD.replace(" import", "\xa0import"), r"line 4: .* begins with U\+00A0, which only looks like a blank"),
    "words for lines that stay": (f"{HEAD}@@\n import math\n # ... existing code ...\n-LR = 0.1\n+LR = 0.2\n", "line 5: .*lines that were left out; write two"),
    "words for lines that would go": (f"{HEAD}@@\n-LR = 0.1\n-WARMUP = 0.05\n+LR = 0.2\n+# ... rest of the code unchanged\n", "line 7: .*lines that would be lost"),
    "dots in a block": ("train.py\n<<<<<<< SEARCH\ndef act(x):\n    ...\n    return y\n=======\ndef act(x):\n    return -y\n>>>>>>> REPLACE\n", "line 4: .*lines that were left out"),
    "by words, of lines with an indent": (f"{HEAD}@@ -8,2 +8,2 @@\n    y = x [-* 2-]{{+* x+}}\n    return y\n", "line 4: .*of a diff by words"),
    "by words, porcelain": (f"{HEAD}@@ -3 +3 @@\n LR = \n-0.1\n+0.2\n~\n", "line 7: '~' is of a diff by words"),
    "a context diff, with its command": ("diff -c a/train.py b/train.py\n*** a/train.py\t2026\n--- b/train.py\t2026\n***************\n*** 1,4 ****\n", "line 2: this is a context diff"),
    "without context, with its command": ("diff old/train.py train.py\n3c3\n< LR = 0.1\n---\n> LR = 0.2\n", "line 2: this is a diff without context"),
    "a merge, without its first line": ("index 1a2b3c4,2b3c4d5..3c4d5e6\n--- a/train.py\n+++ b/train.py\n@@@ -1,4 -1,4 +1,4 @@@\n", "line 1: this is a diff of a merge"),
    "a NUL": (GOOD.replace("0.2", "0.2\0"), "line 7: it holds a NUL character"),
    "context that stands twice, in OpenAI's notation": (
        "*** Begin Patch\n*** Update File: train.py\n@@ def gate(x):\n-    return y\n+    return -y\n*** End Patch\n", "line 3: .*2 places, from lines 9 and 14 on; write more of the lines",
    ),
    "lines of git diff -w": (f"{HEAD}@@ -7,3 +7,4 @@\n def act(x):\n+    if x:\n         y = x * 2\n         return y\n", "line 6: .*white space: .*without -w"),
    "a blank line behind the last one": (
        f"{HEAD}@@\n-        return gate(x)\n+        return x\n \n+A = 1\n", "line 6: .*line 22 is the same but for white space: nothing where the text sought has an end of line",
    ),
    "what is left of a cut line": (GOOD[:GOOD.index(" = 0.1\n+")], "line 6: .*do not stand in train.py"),
    "headers without end": (GOOD.split("@@")[0] * 300, "line 401: more than 200 headers"),
    "a last line that is none": (GOOD + "\\ No newline at end of file\n", "line 8: it is said to be a last line without a newline"),
    "a last line in the middle": (f"{HEAD}@@ -3,2 +3,2 @@\n-LR = 0.1\n+LR = 0.2\n\\ No newline at end of file\n WARMUP = 0.05\n", "line 5: it is said to be the file's last line"),
}  # fmt: skip
