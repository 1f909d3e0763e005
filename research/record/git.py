"""git as a process: no configuration of the machine's owner, a bounded time, its own words as an error."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

TIMEOUT_S = 30.0
NAME, EMAIL = "Countersign", "countersign@localhost"
SUBMODULE, LINK, EXECUTABLE = "160000", "120000", "100755"


class GitError(ValueError):
    """git failed; the message is its own."""


class Entry(NamedTuple):
    """A file of a commit. ``size`` in bytes; None where the repository lacks its content."""

    mode: str
    blob: str
    size: int | None
    path: str


def git(
    *args: str,
    cwd: Path,
    stdin: bytes | IO[bytes] | None = None,
    env: dict[str, str] | None = None,
    within_s: float = TIMEOUT_S,
) -> bytes:
    """What git writes to its standard output. Raises GitError, or ChildProcessError where it was killed.

    Also raises subprocess.TimeoutExpired after ``within_s`` seconds.
    """
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    done = subprocess.run(
        ["git", "-c", "core.autocrlf=false", "-c", "core.fsmonitor=false", *args],
        cwd=cwd,
        capture_output=True,
        timeout=within_s,
        env=clean(cwd) | (env or {}),
        check=False,
        **given,
    )
    if done.returncode < 0:  # it refused nothing: whoever asked has to ask again
        raise ChildProcessError(f"git {args[0]} was ended by signal {-done.returncode} from outside")
    if done.returncode:
        raise GitError(done.stderr.decode(errors="replace").strip()[-800:] or f"git {args[0]} failed")
    said: bytes = done.stdout
    return said


def clean(cwd: Path) -> dict[str, str]:
    """No user or system configuration: a hook, filter or signing key of the machine's owner must not run here."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(cwd),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_AUTHOR_NAME": NAME,
        "GIT_AUTHOR_EMAIL": EMAIL,
        "GIT_COMMITTER_NAME": NAME,
        "GIT_COMMITTER_EMAIL": EMAIL,
        "LC_ALL": "C",
    }


def init(bare: Path) -> None:
    """An empty bare repository in the new folder ``bare``."""
    bare.mkdir()
    git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", ".", cwd=bare)


def entries(repository: Path, commit: str) -> list[Entry]:
    """Every file of ``commit``, in git's order. Raises GitError, also for a name that is not UTF-8."""
    rows = git("ls-tree", "-r", "-l", "-z", "--full-tree", commit, cwd=repository).split(b"\0")
    return [_entry(row) for row in rows if row]


def _entry(row: bytes) -> Entry:
    about, _, name = row.partition(b"\t")
    mode, _, blob, size = about.decode().split()
    try:
        return Entry(mode, blob, int(size) if size.isdigit() else None, name.decode())
    except UnicodeDecodeError as error:
        raise GitError(f"the file name {name!r} is not UTF-8") from error


def contents(repository: Path, blobs: list[str]) -> Iterator[bytes]:
    """The bytes of each blob, in one process. Raises GitError for one that is not there."""
    if not blobs:
        return
    said = git("cat-file", "--batch", cwd=repository, stdin="\n".join([*blobs, ""]).encode())
    at = 0
    for _ in blobs:
        end = said.index(b"\n", at)
        name, *about = said[at:end].decode().split()
        if len(about) != 2:
            raise GitError(f"object {name}: {' '.join(about)}")
        at = end + 1 + int(about[1])
        yield said[end + 1 : at]
        at += 1  # the newline behind it


def fast_import(bare: Path, stream: BinaryIO) -> str:
    """Run a git-fast-import(1) stream, which ends with get-mark; returns the commit."""
    return git("fast-import", "--quiet", "--date-format=now", cwd=bare, stdin=stream, within_s=300).decode().strip()


def quoted(name: str) -> bytes:
    """A path as git-fast-import(1) reads it."""
    escaped = name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'.encode()


def counted(body: bytes) -> bytes:
    return b"data %d\n%b\n" % (len(body), body)
