"""What alice's repository says of the commits in her results.tsv; and a repository that wants to run something."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from research.history import commits, reader
from research.history.past import MAX_PATCH_CHARS, Reading
from tests.history.repositories import begin, commit, git
from tests.history.tables import results_tsv


def looked_up(repository: Path, *rows: str) -> Reading:
    return commits.looked_up(reader.read("autoresearch", results_tsv(*rows), "results.tsv"), repository)


def row(name: str, said: str, value: float = 1.5) -> str:
    return f"{name}\t{value}\t12.0\t{said}\trow {name}"


def test_git_says_what_each_stands_on_what_it_changed_and_why(tmp_path: Path) -> None:
    repository = begin(tmp_path / "loop")
    base = commit(repository, "baseline\n\nAs it was.", train_py="lr = 1\n", data_bin=b"\0\1")
    worse = commit(repository, "raise lr", train_py="lr = 2\n", results_tsv="commit\n", data_bin=b"\0\2")
    git(repository, "revert", "--no-edit", "HEAD")  # as forks do that never reset
    better = commit(repository, "lower lr", train_py="lr = 0.5\n")
    git(repository, "checkout", "--quiet", base)
    aside = commit(repository, "another way", train_py="lr = 0.1\n")
    rows = (
        row(base, "keep"),
        row(worse, "discard"),
        row(better, "keep", 1.4),
        row(aside, "discard"),
        row("0" * 7, "keep"),
    )
    reading = looked_up(repository, *rows)
    assert [(e.parent, e.is_git_s) for e in reading.experiments] == [
        (None, False), (2, True), (2, True), (2, True), (4, False),
    ]  # fmt: skip
    assert reading.experiments[0].message == "baseline\n\nAs it was."
    assert "\n-lr = 1\n+lr = 2\n" in reading.experiments[1].patch
    assert "Binary files a/data.bin and b/data.bin differ" in reading.experiments[1].patch
    assert "results.tsv" not in reading.experiments[1].patch
    assert reading.experiments[4].patch == ""
    assert reading.notes == (
        "Commits that are named: 5; in the repository: 4; "
        "the others are gone, as autoresearch resets what it discards.",
    )
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "--quiet", "--bare", "--no-local", "--depth=1", f"file://{repository}", str(bare))
    git(repository, "worktree", "add", "--quiet", str(tmp_path / "second"), better)
    assert [bool(e.patch) for e in looked_up(tmp_path / "second", *rows).experiments] == [True] * 4 + [False]
    assert "in the repository: 1;" in looked_up(bare, *rows).notes[-1]


def test_several_rows_of_one_commit_stay_in_their_order(tmp_path: Path) -> None:
    repository = begin(tmp_path / "loop")
    first, second = (commit(repository, f"step {i}", train_py=f"lr = {i}\n") for i in range(2))
    rows = (row(first, "keep"), row(second, "keep", 1.4), row(second, "discard", 1.6), row("HEAD", "keep"))
    assert [e.parent for e in looked_up(repository, *rows).experiments] == [None, 2, 3, 3]


def test_a_diff_is_cut_at_a_line_and_no_credential_gets_through(tmp_path: Path) -> None:
    repository = begin(tmp_path / "loop")
    commit(repository, "first", train_py="")
    long = commit(repository, "long", train_py="learning = 1\n" * 10_000)
    patch = looked_up(repository, row(long, "keep")).experiments[0].patch
    assert MAX_PATCH_CHARS - 20 < len(patch) <= MAX_PATCH_CHARS and patch.endswith("\n+learning = 1\n")


def test_a_repository_that_wants_to_run_something_runs_nothing(tmp_path: Path) -> None:
    repository, ran = begin(tmp_path / "loop"), tmp_path / "ran"
    first = commit(repository, "first", train_py="lr = 1\n", data_txt="1\n")
    second = commit(repository, "second", train_py="lr = 2\n", data_txt="2\n", _gitattributes="*.txt diff=evil\n")
    spell = f"sh -c 'touch {ran}'"
    for key in (
        "diff.external",
        "diff.evil.command",
        "diff.evil.textconv",
        "core.fsmonitor",
        "core.pager",
        "gpg.program",
    ):
        git(repository, "config", key, spell)
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "remote.origin.url", f"ext::{spell}")
    git(repository, "config", "remote.origin.promisor", "true")
    git(repository, "config", "extensions.partialClone", "origin")
    git(repository, "config", "include.path", "/dev/zero")
    gone = git_hash(repository, second)
    reading = looked_up(repository, row(first, "keep"), row(second, "keep"))
    assert not ran.exists()
    assert "\n+2\n" in reading.experiments[1].patch
    (repository / ".git" / "objects" / gone[:2] / gone[2:]).unlink()  # what a promisor would be asked for
    assert looked_up(repository, row(second, "keep")).experiments[0].patch == ""
    assert not ran.exists()


def git_hash(repository: Path, name: str) -> str:
    """The file of the commit's train.py, among the objects. Without the configuration, which would be read here."""
    command = ["git", f"--git-dir={repository / '.git'}", "rev-parse", f"{name}:train.py"]
    (repository / ".git" / "config").rename(repository / ".git" / "config.evil")
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    finally:
        (repository / ".git" / "config.evil").rename(repository / ".git" / "config")


@pytest.mark.parametrize("what", ["nothing there", "a folder", "a file that points nowhere"])
def test_what_is_no_repository_is_refused_by_name(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    if what != "nothing there":
        place.mkdir()
    if what == "a file that points nowhere":
        (place / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(ValueError, match=r"^repository: .*place is no git repository"):
        looked_up(place, row("a1b2c3d", "keep"))
