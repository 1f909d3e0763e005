"""Reads what became of the commits that a history names: their parents, messages and diffs, where they still exist.

Nothing of the foreign repository is run and none of its configuration is read: git sees its objects alone, from an
empty repository of ours. So none of its hooks, filters, diff drivers or remotes can be reached.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from research.history import lineage
from research.history.past import MAX_MESSAGE_CHARS, MAX_PATCH_CHARS, Experiment, Reading, is_commit, text_of

GIT_S = 20.0
ALL_S = 120.0  # for the diffs of one history; what is not read by then has none, and a note says so
MAX_COMMITS = 2_000
MAX_ANCESTORS = 100_000
MAX_BYTES = 32 * 2**20
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "LANG": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
_HEX = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Commit:
    parent: str  # "" of the first one
    message: str


class Objects:
    """The objects of somebody else's repository, seen from an empty one of ours."""

    def __init__(self, git_dir: Path) -> None:
        self.git_dir = git_dir

    def run(self, *arguments: str, feed: Iterable[str] = (), at_most: int = MAX_BYTES, or_part: bool = False) -> bytes:
        """What a git command says, cut at ``at_most`` bytes; of one that fails nothing, unless ``or_part``."""
        if (git := shutil.which("git")) is None:
            raise ValueError("repository: git is not on PATH; install the package git")
        with tempfile.TemporaryFile() as told:
            told.write("".join(f"{line}\n" for line in feed).encode())
            told.seek(0)
            command = [git, f"--git-dir={self.git_dir}", *arguments]
            said, code = _said(command, told, ENVIRONMENT | {"HOME": str(self.git_dir)}, self.git_dir, at_most)
        return said if code == 0 or or_part or len(said) == at_most else b""


def _said(
    command: Sequence[str], told: IO[bytes], env: dict[str, str], cwd: Path, at_most: int
) -> tuple[bytes, int | None]:
    """(standard output, exit code); ended after GIT_S, or once it has said more than anybody reads."""
    with subprocess.Popen(
        command, stdin=told, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, cwd=cwd
    ) as process:
        assert process.stdout is not None
        clock = threading.Timer(GIT_S, process.kill)
        clock.start()
        try:
            said = process.stdout.read(at_most)
            return said, process.wait() if len(said) < at_most else None
        finally:
            process.kill()
            clock.cancel()


@contextmanager
def objects_of(repository: Path) -> Iterator[Objects]:
    """The objects of a repository, of a work tree or bare. Raises ValueError where it is none."""
    source = _objects_folder(repository)
    with tempfile.TemporaryDirectory() as scratch:
        ours = Path(scratch) / "repository.git"
        ours.mkdir()
        seen = Objects(ours)
        seen.run("init", "--quiet", "--bare", "--template=", ".")
        (ours / "objects" / "info").mkdir(exist_ok=True)
        (ours / "objects" / "info" / "alternates").write_text(f"{source}\n")
        _cut_where_it_is_shallow(source.parent, ours)
        yield seen


def _objects_folder(repository: Path) -> Path:
    try:
        dot = repository / ".git"
        git_dir = dot if dot.is_dir() else repository
        if dot.is_file():  # of a second work tree
            git_dir = repository / dot.read_text(encoding="utf-8")[:4_096].removeprefix("gitdir:").strip()
        if (common := git_dir / "commondir").is_file():
            git_dir = git_dir / common.read_text(encoding="utf-8")[:4_096].strip()
        found = (git_dir / "objects").resolve()
    except (OSError, ValueError) as error:
        raise ValueError(f"repository: {repository} cannot be read: {error}") from error
    if not found.is_dir() or "\n" in str(found):
        raise ValueError(
            f"repository: {repository} is no git repository; give the folder that holds .git, or a bare one"
        )
    return found


def _cut_where_it_is_shallow(theirs: Path, ours: Path) -> None:
    """A clone that was made with --depth says where its commits end; git would stumble over the missing ones."""
    if (shallow := theirs / "shallow").is_file() and shallow.stat().st_size < 2**20:
        names = [line for line in shallow.read_text(errors="replace").split() if _HEX.fullmatch(line)]
        (ours / "shallow").write_text("".join(f"{name}\n" for name in names))


# --- what is asked of them ------------------------------------------------------------------------


def resolved(seen: Objects, names: Sequence[str]) -> dict[str, str]:
    """As written -> whole name, for those that are commits; an abbreviation that fits two is left out."""
    said = seen.run("cat-file", "--batch-check=%(objectname) %(objecttype)", feed=(f"{n}^{{commit}}" for n in names))
    rows = (line.split(" ") for line in said.decode(errors="replace").splitlines())
    return {n: row[0] for n, row in zip(names, rows, strict=False) if row[1:] == ["commit"]}


def first_parents(seen: Objects, names: Iterable[str]) -> dict[str, str]:
    """Commit -> its first parent, for ``names`` and all that they stand on."""
    said = seen.run(
        "rev-list", "--first-parent", "--parents", f"--max-count={MAX_ANCESTORS}", "--stdin", feed=names, or_part=True
    )
    rows = (line.split() for line in said.decode(errors="replace").splitlines())
    return {row[0]: row[1] for row in rows if len(row) > 1}


def message(seen: Objects, name: str) -> str:
    """A commit's message, without what git keeps before it."""
    said = seen.run("cat-file", "commit", name, at_most=64 * 1024).decode(errors="replace")
    return text_of(said.partition("\n\n")[2], MAX_MESSAGE_CHARS)


def patch(seen: Objects, name: str, parent: str, without: str) -> str:
    """The diff to its first parent, of text alone; without the file ``without``, which is the history itself."""
    options = ("-r", "-p", "--no-commit-id", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
    ends = (parent, name) if parent else ("--root", name)
    paths = ("--", ".", f":(exclude,glob,icase)**/{without}") if without else ()
    said = seen.run("diff-tree", *options, *ends, *paths, at_most=4 * MAX_PATCH_CHARS + 4)
    text = said.decode(errors="replace").replace("\0", "\ufffd")
    return text if len(text) <= MAX_PATCH_CHARS else _whole_lines(text)


def _whole_lines(text: str) -> str:
    return text[:MAX_PATCH_CHARS].rpartition("\n")[0] + "\n"


# --- the history with what git knows --------------------------------------------------------------


def looked_up(reading: Reading, repository: Path) -> Reading:
    """``reading`` with lineage, messages and diffs from git. Raises ValueError where there is no repository."""
    names = list(dict.fromkeys(e.commit for e in reading.experiments if is_commit(e.commit)))
    with objects_of(repository) as seen:
        full = resolved(seen, names[:MAX_COMMITS])
        parents = first_parents(seen, full.values()) if full else {}
        placed = lineage.by_git(reading.experiments, full, parents)
        file = Path(reading.name).name
        told, num_late = _told(seen, placed, full, parents, file if re.fullmatch(r"[\w.-]+", file) else "")
    note = _in_words(len(names), len(full), num_late)
    return replace(reading, experiments=tuple(told), notes=(*reading.notes, note))


def _told(
    seen: Objects, placed: Sequence[Experiment], full: dict[str, str], parents: dict[str, str], without: str
) -> tuple[list[Experiment], int]:
    """Every experiment with message and diff of its commit, and how many commits there was no time for."""
    until, found, late = time.monotonic() + ALL_S, list[Experiment](), set[str]()
    said: dict[str, tuple[str, str]] = {}
    for one in placed:
        if (name := full.get(one.commit)) is not None and name not in said and time.monotonic() < until:
            said[name] = patch(seen, name, parents.get(name, ""), without), message(seen, name)
        if name is not None and name not in said:
            late.add(name)
        its_patch, its_message = said.get(name or "", ("", ""))
        found.append(replace(one, patch=its_patch, message=its_message))
    return found, len(late)


def _in_words(num_named: int, num_found: int, num_late: int) -> str:
    if not num_named:
        return "No row names a commit, so git was not asked."
    gone = "; the others are gone, as autoresearch resets what it discards" if num_found < num_named else ""
    late = f"; there was no time to read the diffs of {num_late}" if num_late else ""
    return f"Commits that are named: {num_named}; in the repository: {num_found}{gone}{late}."
