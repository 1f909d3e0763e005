"""The campaign's git repository: the recipe at every incumbent, clonable, one commit a keep.

The database is the truth about which commit is the incumbent; ``refs/heads/main`` follows it.
A commit is written before the transaction that names it, so a crash leaves an unreferenced object, never a
promoted incumbent without a commit.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from gpu_runner import contract
from research.models import Campaign

GIT_TIMEOUT_S = 30
NAME, EMAIL = "Countersign", "countersign@localhost"


class GitError(ValueError):
    """git failed; the message is its own."""


def path_of(campaign: Campaign) -> Path:
    return Path(settings.REPOSITORIES) / f"{campaign.slug}.git"


def _git(*args: str, cwd: Path, stdin: bytes | None = None, env: dict[str, str] | None = None) -> bytes:
    # No user or system configuration: a hook, filter or signing key of the machine's owner must not run here.
    clean = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(cwd),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": NAME,
        "GIT_AUTHOR_EMAIL": EMAIL,
        "GIT_COMMITTER_NAME": NAME,
        "GIT_COMMITTER_EMAIL": EMAIL,
        "LC_ALL": "C",
    }
    done = subprocess.run(
        ["git", "-c", "core.autocrlf=false", *args],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=GIT_TIMEOUT_S,
        env=clean | (env or {}),
        check=False,
    )
    if done.returncode < 0:  # it refused nothing: whoever asked has to ask again
        raise ChildProcessError(f"git {args[0]} was ended by signal {-done.returncode} from outside")
    if done.returncode:
        raise GitError(done.stderr.decode(errors="replace").strip()[-800:] or f"git {args[0]} failed")
    return done.stdout


@contextmanager
def begun(recipe_dir: Path) -> Iterator[tuple[str, Path]]:
    """A new bare repository with the recipe as its first commit: (commit, folder), to be moved by ``put``."""
    place = Path(settings.REPOSITORIES)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        fresh = Path(scratch) / "repository.git"
        fresh.mkdir()
        _git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", ".", cwd=fresh)
        files = {
            p.relative_to(recipe_dir).as_posix(): _text(p)
            for p in sorted(recipe_dir.rglob("*"))
            if p.is_file() and "__pycache__" not in p.parts
        }
        yield _first_commit(fresh, files, f"Start from the recipe {recipe_dir.name}\n"), fresh


def put(fresh: Path, campaign: Campaign) -> None:
    """Move ``fresh`` to the place of ``campaign``'s repository. Its row must exist, which keeps others off that place.

    An unfinished repository of an interrupted attempt is replaced, since no row names it.
    """
    shutil.rmtree(path_of(campaign), ignore_errors=True)
    fresh.rename(path_of(campaign))


def _text(path: Path) -> str:
    """Decode without changing line ends, since patches are made for the file's bytes."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"recipe: {path.name} is not UTF-8 from byte {error.start:,} on; save it as UTF-8") from error


def files_at(campaign: Campaign, commit: str) -> dict[str, str]:
    """Path -> text of every file at ``commit``."""
    return dict(_files_at(path_of(campaign), commit))


@lru_cache(maxsize=64)  # a commit never changes, and whoever reads, checks or revises a proposal asks for its files
def _files_at(bare: Path, commit: str) -> tuple[tuple[str, str], ...]:
    rows = [row.partition("\t") for row in _git("ls-tree", "-r", "-z", commit, cwd=bare).decode().split("\0") if row]
    blobs = [about.split()[2] for about, _, _ in rows]
    said = io.BytesIO(_git("cat-file", "--batch", cwd=bare, stdin="\n".join([*blobs, ""]).encode()))
    return tuple((name, _body(said)) for _, _, name in rows)


def _body(said: BinaryIO) -> str:
    """The next object of ``git cat-file --batch``: a line that ends with its size, that many bytes, and a newline."""
    name, *about = said.readline().decode().split()
    if len(about) != 2:
        raise GitError(f"object {name}: {' '.join(about)}")
    return said.read(int(about[1]) + 1)[:-1].decode()


def bundle(campaign: Campaign, commit: str) -> bytes:
    """A git bundle with ``commit`` as ``main``, as it is sent to a worker."""
    bare = path_of(campaign)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "repository.git"
        _git("clone", "--quiet", "--bare", "--no-hardlinks", str(bare), str(copy), cwd=bare)
        _git("update-ref", "refs/heads/main", commit, cwd=copy)
        return _git("bundle", "create", "--quiet", "-", "refs/heads/main", cwd=copy)


def problem_with_patch(campaign: Campaign, commit: str, patch: str) -> str | None:
    """git's reason why ``patch`` does not apply to ``commit``; None when it does."""
    with _index(path_of(campaign), commit) as env:
        try:
            _git("apply", "--cached", "--check", "-", cwd=path_of(campaign), stdin=patch.encode(), env=env)
        except GitError as error:
            return str(error)
    return None


def commit_keep(campaign: Campaign, parent: str, patch: str, overrides: contract.Knobs, message: str) -> str:
    """Commit a keep: ``patch`` applied and ``overrides`` made the defaults of ``recipe.toml``."""
    bare = path_of(campaign)
    with _index(bare, parent) as env:
        if patch:
            _git("apply", "--cached", "-", cwd=bare, stdin=patch.encode(), env=env)
        if overrides:
            toml = contract.with_defaults(_git("show", ":recipe.toml", cwd=bare, env=env).decode(), overrides)
            _git("update-index", "--cacheinfo", f"100644,{_blob(bare, toml)},recipe.toml", cwd=bare, env=env)
        tree = _git("write-tree", cwd=bare, env=env).decode().strip()
    return _git("commit-tree", tree, "-p", parent, cwd=bare, stdin=message.encode()).decode().strip()


def follow(campaign: Campaign) -> None:
    """Point ``main`` at the campaign's incumbent in the database."""
    _git("update-ref", "refs/heads/main", campaign.incumbent.commit, cwd=path_of(campaign))


def _first_commit(bare: Path, files: dict[str, str], message: str) -> str:
    """Commit these files to ``main`` in one process (git-fast-import(1)) instead of three for each file."""
    head = f"commit refs/heads/main\nmark :1\ncommitter {NAME} <{EMAIL}> now\n"
    changes = [f"M 100644 inline {_quoted(name)}\n".encode() + _counted(text) for name, text in files.items()]
    stream = b"".join([head.encode(), _counted(message), *changes, b"get-mark :1\n"])
    return _git("fast-import", "--quiet", "--date-format=now", cwd=bare, stdin=stream).decode().strip()


def _quoted(name: str) -> str:
    escaped = name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'


def _counted(text: str) -> bytes:
    body = text.encode()
    return b"data %d\n%b\n" % (len(body), body)


def _blob(bare: Path, text: str) -> str:
    return _git("hash-object", "-w", "--stdin", cwd=bare, stdin=text.encode()).decode().strip()


@contextmanager
def _index(bare: Path, commit: str | None) -> Iterator[dict[str, str]]:
    """A private index at ``commit``, so that no two callers share one. A bare repository needs no work tree."""
    with tempfile.TemporaryDirectory() as scratch:
        env = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        _git("read-tree", commit or "--empty", cwd=bare, env=env)
        yield env
