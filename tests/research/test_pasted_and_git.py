"""Whatever happens to alice's diff on its way: it does what she meant, as git would do it, or a sentence refuses it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from research.change.pasted import as_git_writes, edits_of
from research.change.patches import apply_edits

NAME = "train.py"
SENTENCE = re.compile(r"line \d+: .+|this is not a unified diff; .+")
Mangle = Callable[[str, int], str]


def git(*args: str, cwd: Path, stdin: str = "", ok: tuple[int, ...] = (0,)) -> str | None:
    """What git prints; None where it refuses."""
    clean = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    done = subprocess.run(
        ["git", "-c", "core.autocrlf=false", *args],
        cwd=cwd,
        input=stdin.encode(),
        capture_output=True,
        timeout=30,
        env=clean,
        check=False,
    )
    return done.stdout.decode() if done.returncode in ok else None


def git_diff(before: str, after: str, context: int) -> str:
    """As alice's clone prints it, hashes and all."""
    with tempfile.TemporaryDirectory() as scratch:
        for folder, text in (("old", before), ("new", after)):
            (Path(scratch) / folder).mkdir()
            (Path(scratch) / folder / NAME).write_bytes(text.encode())
        names = (f"old/{NAME}", f"new/{NAME}")
        printed = git("diff", "--no-index", f"-U{context}", *names, cwd=Path(scratch), ok=(1,))
        assert printed is not None
        return _in_the_head(printed, lambda head: head.replace("a/old/", "a/").replace("b/new/", "b/"))


def git_apply(before: str, patch: str, *options: str) -> str | None:
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / NAME).write_bytes(before.encode())
        if git("apply", "--whitespace=nowarn", *options, "-", cwd=Path(scratch), stdin=patch) is None:
            return None
        return (Path(scratch) / NAME).read_bytes().decode()


# --- what happens to diffs on their way ------------------------------------------------------------

HEAD = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@.*$", re.M)


def _headers(patch: str, change: Callable[[list[int]], str]) -> str:
    return HEAD.sub(lambda m: change([int(m[1]), int(m[2] or 1), int(m[3]), int(m[4] or 1)]), patch)


def _in_the_lines(patch: str, change: Callable[[str], str]) -> str:
    head, mark, hunks = patch.partition("\n@@")
    return head + mark + re.sub(r"^[-+ ].*$", lambda m: change(m[0]), hunks, flags=re.M)


def _in_the_head(patch: str, change: Callable[[str], str]) -> str:
    head, mark, hunks = patch.partition("\n@@")
    return change(head) + mark + hunks


MANGLES: dict[str, Mangle] = {
    "nothing": lambda p, n: p,
    "counts off": lambda p, n: _headers(p, lambda h: f"@@ -{h[0]},{max(0, h[1] + n)} +{h[2]},{h[3] + 3 - n} @@"),
    "new count off": lambda p, n: _headers(p, lambda h: f"@@ -{h[0]},{h[1]} +{h[2]},{max(0, h[3] + n)} @@"),
    "numbers off": lambda p, n: _headers(p, lambda h: f"@@ -{max(1, h[0] + n)},{h[1]} +{max(1, h[2] + n)},{h[3]} @@"),
    "no counts": lambda p, n: HEAD.sub("@@ -1 +1 @@", p),
    "bare": lambda p, n: HEAD.sub("@@", p),
    "ellipses": lambda p, n: HEAD.sub("@@ ... @@", p),
    "a function": lambda p, n: HEAD.sub("@@ def act(x): @@", p),
    "a fence": lambda p, n: f"Here it is:\n\n```diff\n{p}```\n\nThat should help.\n",
    "a fence without its end": lambda p, n: f"```\n{p}",
    "an indent": lambda p, n: "".join(f"    {line}\n" for line in p.split("\n")[:-1]),
    "a quoting mail": lambda p, n: "".join(f"> {line}\n" for line in p.split("\n")[:-1]),
    "blank lines without a blank": lambda p, n: re.sub(r"^ $", "", p, flags=re.M),
    "no blanks at the end": lambda p, n: _in_the_lines(p, lambda line: line if line[0] == "+" else line.rstrip(" \t")),
    "CRLF": lambda p, n: p.replace("\n", "\r\n"),
    "CRLF in the lines": lambda p, n: _in_the_lines(p, lambda line: f"{line}\r"),
    "no newline": lambda p, n: p.rstrip("\n"),
    "blank lines behind": lambda p, n: p + "\n\n",
    "deep": lambda p, n: _in_the_head(p, lambda head: head.replace(f"/{NAME}", f"/lab/recipes/gpt/{NAME}")),
    "no a and b": lambda p, n: _in_the_head(p, lambda head: head.replace(f"a/{NAME}", NAME).replace(f"b/{NAME}", NAME)),
    "no git": lambda p, n: p[p.index("--- ") :] if "--- " in p else p,
    "no hash": lambda p, n: re.sub(r"^index .*\n", "", p, flags=re.M),
    "a mail": lambda p, n: f"From: Alice\nSubject: [PATCH] x\n\nIt helps.\n---\n train.py | 2 +-\n\n{p}-- \n2.39.5\n\n",
    "colours": lambda p, n: re.sub(r"^(.+)$", "\x1b[32m\\1\x1b[m", p, flags=re.M),
    "a part is cut off": lambda p, n: "\n".join(p.split("\n")[: -2 - n]) + "\n",
    "a line is lost": lambda p, n: "\n".join(line for at, line in enumerate(p.split("\n")) if at != 6 + n),
    "prose behind": lambda p, n: p + "I hope that this helps.\n",
    "other folders": lambda p, n: _in_the_head(p, lambda head: head.replace(" a/", " old/").replace(" b/", " new/")),
}
HARMLESS = [
    "nothing", "a fence", "a fence without its end", "an indent", "a quoting mail", "blank lines without a blank",
    "CRLF", "CRLF in the lines", "no newline", "blank lines behind", "deep", "no a and b", "a mail", "colours",
]  # fmt: skip
# With these git takes the patch's blanks and ends of lines for the file's, also in lines that stay.
UNLIKE_GIT = {"CRLF", "CRLF in the lines", "no blanks at the end"}
LOSSY = {"a part is cut off", "a line is lost"}  # nobody can know that something is gone: held to git's word only

LINES = st.sampled_from(
    [
        "",
        "a",
        "b",
        "c",
        "    return x",
        "\treturn x",
        "x = 1  ",
        "-- a/train.py",
        "- ",
        "--",
        "++ b/x",
        "@@ -1 +1 @@",
        "é",
    ]
)
FILES = st.lists(LINES, min_size=1, max_size=25)


@st.composite
def edited(draw: st.DrawFn) -> tuple[str, str]:
    """(before, after): a few stretches of lines replaced."""
    lines = draw(FILES)
    after = list(lines)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(after)))
        after[at : at + draw(st.integers(0, 2))] = draw(st.lists(LINES, max_size=3))
    ends = draw(st.sampled_from([("\n", "\n"), ("\n", "\n"), ("\n", "\n"), ("", ""), ("", "\n"), ("\n", "")]))
    return "\n".join(lines) + ends[0], "\n".join(after) + ends[1]


def read(patch: str, before: str) -> str | None:
    """What the reader makes of the file; None where a sentence refuses the patch."""
    try:
        edits = edits_of(patch, {NAME: before})
    except ValueError as error:
        sentence = str(error)
    else:
        return apply_edits({NAME: before}, edits)[NAME]
    assert SENTENCE.fullmatch(sentence)
    return None


@pytest.mark.parametrize("names", [(name,) for name in MANGLES] + [("counts off", "no hash"), ("bare", "a fence")])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(edited(), st.integers(0, 5), st.integers(-2, 4))
def test_what_is_taken_is_what_alice_meant(
    names: tuple[str, ...], texts: tuple[str, str], context: int, by: int
) -> None:
    before, after = texts
    if before == after or not before or not after:
        return
    patch = git_diff(before, after, context)
    for name in names:
        patch = MANGLES[name](patch, by)
    result = read(patch, before)
    if not set(names) & LOSSY:
        assert result in (None, after), (result, patch)
    counted = git_apply(before, patch, "--recount")
    assert result is None or counted is None or result == counted or not context or set(names) & UNLIKE_GIT, patch


@settings(max_examples=60, deadline=None)
@given(edited(), st.sampled_from(HARMLESS), st.integers(1, 5))
def test_what_only_changes_the_looks_of_a_diff_is_taken(texts: tuple[str, str], name: str, context: int) -> None:
    before, after = texts
    if before == after or not before or not after:
        return
    assert read(MANGLES[name](git_diff(before, after, context), 0), before) == after


@settings(max_examples=30, deadline=None)
@given(edited(), st.integers(1, 5))
def test_git_applies_what_is_signed_to_the_same_text(texts: tuple[str, str], context: int) -> None:
    before, after = texts
    if before == after or not before or not after:
        return
    signed = as_git_writes(git_diff(before, after, context), {NAME: before})
    assert git_apply(before, signed) == after
