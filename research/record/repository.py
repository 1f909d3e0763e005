"""The campaign's git repository: the recipe at every incumbent, clonable, one commit a keep.

The database is the truth about which commit is the incumbent; ``refs/heads/main`` follows it.
A commit is written before the transaction that names it, so a crash leaves an unreferenced object, never a
promoted incumbent without a commit.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from gpu_runner import contract
from research.models import Campaign
from research.record import git
from research.record.git import Entry, GitError
from research.record.recipe_source import Source

MAX_TEXT_BYTES = 256 * 1024  # of one file that is read as text
MAX_TEXTS_BYTES = 4 * 2**20  # of all of them; a recipe's own come first
SNIFFED = 8_000  # bytes in which git, too, looks for a NUL


class LeftOut(NamedTuple):
    """A file of a commit that is not read as text, and why."""

    path: str
    size: int
    why: str


def path_of(campaign: Campaign) -> Path:
    return Path(settings.REPOSITORIES) / f"{campaign.slug}.git"


@contextmanager
def begun(source: Source) -> Iterator[tuple[str, Path]]:
    """A new bare repository with the recipe as its first commit: (commit, folder), to be moved by ``put``."""
    place = Path(settings.REPOSITORIES)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        fresh = Path(scratch) / "repository.git"
        git.init(fresh)
        came_from = source.origin + (f" at {source.commit}" if source.commit else "")
        yield source.copy_into(fresh, f"Start from the recipe {source.name}\n\n{came_from}\n"), fresh


def put(fresh: Path, campaign: Campaign) -> None:
    """Move ``fresh`` to the place of ``campaign``'s repository. Its row must exist, which keeps others off that place.

    An unfinished repository of an interrupted attempt is replaced, since no row names it.
    """
    shutil.rmtree(path_of(campaign), ignore_errors=True)
    fresh.rename(path_of(campaign))


def files_at(campaign: Campaign, commit: str) -> dict[str, str]:
    """Path -> text of the files at ``commit`` that are text: the recipe's own first, up to MAX_TEXTS_BYTES."""
    return dict(_files_at(path_of(campaign), commit)[0])


def left_out_at(campaign: Campaign, commit: str) -> tuple[LeftOut, ...]:
    """The files at ``commit`` that ``files_at`` leaves out."""
    return _files_at(path_of(campaign), commit)[1]


Texts = tuple[tuple[str, str], ...]


@lru_cache(maxsize=16)  # a commit never changes, and whoever reads, checks or revises a proposal asks for its files
def _files_at(bare: Path, commit: str) -> tuple[Texts, tuple[LeftOut, ...]]:
    entries = git.entries(bare, commit)
    own = _own(bare, entries)
    left = [LeftOut(e.path, e.size or 0, "too large to be shown") for e in entries if (e.size or 0) > MAX_TEXT_BYTES]
    small = sorted((e for e in entries if (e.size or 0) <= MAX_TEXT_BYTES), key=lambda e: (e.path not in own, e.path))
    chosen, room = list[Entry](), MAX_TEXTS_BYTES
    for entry in small:
        room -= entry.size or 0
        if room >= 0:
            chosen.append(entry)
        else:
            left.append(LeftOut(entry.path, entry.size or 0, "beyond what is read of a recipe"))
    texts = dict[str, str]()
    for entry, body in zip(chosen, git.contents(bare, [entry.blob for entry in chosen]), strict=True):
        if (text := _as_text(body)) is None:
            left.append(LeftOut(entry.path, len(body), "binary"))
        else:
            texts[entry.path] = text
    return tuple(sorted(texts.items())), tuple(sorted(left))


def _own(bare: Path, entries: list[Entry]) -> set[str]:
    """recipe.toml and what it names: these are read before anything else is."""
    blob = next(entry.blob for entry in entries if entry.path == "recipe.toml")
    recipe = contract.parse_recipe(next(git.contents(bare, [blob])).decode())
    return {"recipe.toml", *recipe.editable, *recipe.shown}


def _as_text(body: bytes) -> str | None:
    if b"\0" in body[:SNIFFED]:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def bundle(campaign: Campaign, commit: str) -> bytes:
    """A git bundle with ``commit`` as ``main``, as it is sent to a worker. The objects are read where they lie."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "repository.git"
        git.init(copy)
        borrowed = copy / "objects" / "info" / "alternates"
        borrowed.parent.mkdir(exist_ok=True)
        borrowed.write_text(f"{path_of(campaign).resolve() / 'objects'}\n")
        git.git("update-ref", "refs/heads/main", commit, cwd=copy)
        return git.git("bundle", "create", "--quiet", "-", "refs/heads/main", cwd=copy, within_s=120)


def problem_with_patch(campaign: Campaign, commit: str, patch: str) -> str | None:
    """git's reason why ``patch`` does not apply to ``commit``; None when it does."""
    with _index(path_of(campaign), commit) as env:
        try:
            git.git("apply", "--cached", "--check", "-", cwd=path_of(campaign), stdin=patch.encode(), env=env)
        except GitError as error:
            return str(error)
    return None


def commit_keep(campaign: Campaign, parent: str, patch: str, overrides: contract.Knobs, message: str) -> str:
    """Commit a keep: ``patch`` applied and ``overrides`` made the defaults of ``recipe.toml``."""
    bare = path_of(campaign)
    with _index(bare, parent) as env:
        if patch:
            git.git("apply", "--cached", "-", cwd=bare, stdin=patch.encode(), env=env)
        if overrides:
            toml = contract.with_defaults(git.git("show", ":recipe.toml", cwd=bare, env=env).decode(), overrides)
            git.git("update-index", "--cacheinfo", f"100644,{_blob(bare, toml)},recipe.toml", cwd=bare, env=env)
        tree = git.git("write-tree", cwd=bare, env=env).decode().strip()
    return git.git("commit-tree", tree, "-p", parent, cwd=bare, stdin=message.encode()).decode().strip()


def follow(campaign: Campaign) -> None:
    """Point ``main`` at the campaign's incumbent in the database."""
    git.git("update-ref", "refs/heads/main", campaign.incumbent.commit, cwd=path_of(campaign))


def _blob(bare: Path, text: str) -> str:
    return git.git("hash-object", "-w", "--stdin", cwd=bare, stdin=text.encode()).decode().strip()


@contextmanager
def _index(bare: Path, commit: str | None) -> Iterator[dict[str, str]]:
    """A private index at ``commit``, so that no two callers share one. A bare repository needs no work tree."""
    with tempfile.TemporaryDirectory() as scratch:
        env = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        git.git("read-tree", commit or "--empty", cwd=bare, env=env)
        yield env
