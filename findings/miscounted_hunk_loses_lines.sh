#!/usr/bin/env bash
# git apply, unidiff 0.7.5 and whatthepatch 1.0.7, and a unified diff whose hunk header counts one added line too few, as
# models write them: "@@ -1,3 +1,4 @@" above three lines of context and two that come.
#
# Behaviour: all three take it without a word and lose the line behind the count; git's exit status is 0 and its stderr empty.
# What follows a counted hunk is a mail's text to them, even when it begins with "+". A reviewer who read the patch as it was
# sent approves another change than the one that is made. (A count that is too high is an error to git: "corrupt patch".)
# Way out: git apply --recount keeps the line; but in a patch of two files without "diff" lines it takes the second file's
# "--- a/" for a line that goes, and refuses. Or count what stands there, and refuse what no hunk counts.
#
# Seen with git 2.39.5 on Python 3.11 (lines that come, of 2):
#     git apply: 1 of 2, exit status 0, stderr ''
#     unidiff: 1 of 2
#     whatthepatch: 1 of 2
#     git apply --recount: 2 of 2, exit status 0
#     git apply --recount, two files: 0 of 2, exit status 1
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet unidiff==0.7.5 whatthepatch==1.0.7
cat > "$here/try.py" <<'PY'
import os
import subprocess
import sys
import tempfile

import unidiff
import whatthepatch

HUNK = "--- a/one.txt\n+++ b/one.txt\n@@ -1,3 +1,4 @@\n a\n b\n+first\n c\n+second\n"
OTHER = "--- a/two.txt\n+++ b/two.txt\n@@ -1 +1 @@\n-x\n+y\n"
CLEAN = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}


def come(text: str) -> int:
    return sum(word in text for word in ("first", "second"))


def by_git(patch: str, *options: str) -> tuple[int, int, str]:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("one.txt", "a\nb\nc\n"), ("two.txt", "x\n")):
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        command = ["git", "apply", *options, "-"]
        done = subprocess.run(command, cwd=folder, env=CLEAN, input=patch, text=True, capture_output=True, timeout=30)
        with open(os.path.join(folder, "one.txt")) as file:
            return come(file.read()), done.returncode, done.stderr


plain, status, said = by_git(HUNK)
read = "".join(str(line) for file in unidiff.PatchSet(HUNK) for hunk in file for line in hunk)
(diff,) = whatthepatch.parse_patch(HUNK)
applied = "\n".join(whatthepatch.apply_diff(diff, "a\nb\nc"))
recounted, recounted_status, _ = by_git(HUNK, "--recount")
both, both_status, _ = by_git(HUNK + OTHER, "--recount")
print(subprocess.run(["git", "--version"], text=True, capture_output=True, check=True).stdout.strip(), "Python", sys.version.split()[0])
print(f"git apply: {plain} of 2, exit status {status}, stderr {said!r}")
print(f"unidiff: {come(read)} of 2")
print(f"whatthepatch: {come(applied)} of 2")
print(f"git apply --recount: {recounted} of 2, exit status {recounted_status}")
print(f"git apply --recount, two files: {both} of 2, exit status {both_status}")
seen = (plain, status, said, come(read), come(applied), recounted, recounted_status, both, both_status)
sys.exit(seen != (1, 0, "", 1, 1, 2, 0, 0, 1))
PY
"$here/venv/bin/python" "$here/try.py"
