"""Where a campaign's recipe comes from: one that we ship, a folder or git repository of this machine, or a URL.

Nothing of a source is run: no hook, no filter, and its own configuration is not asked but for the name of a commit.
Its objects are read where they lie; what is refused is never copied.

    with opened("/home/alice/nano", "main") as source:
        source.recipe, source.commit, source.remarks
        source.copy_into(bare)
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from gpu_runner import contract
from research.record import git, recipe_tree
from research.record.git import Entry, GitError

COPY_S = 300.0
FETCH_S = 120.0
MAX_NAME = 60  # of a recipe in a campaign's row
MAX_ORIGIN = 500
NAMED = 5  # files that a sentence names
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,20}://|[\w.-]{1,60}@[\w.-]{1,200}:")
_SHA = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A recipe that was read and found whole; ``commit`` is empty for a folder without one."""

    recipe: contract.Recipe
    recipe_toml: str
    origin: str
    commit: str
    entries: list[Entry]
    remarks: tuple[str, ...]  # what a person should know before the campaign begins
    copy_into: Callable[[Path, str], str]  # (an empty bare repository, message) -> the commit

    @property
    def name(self) -> str:
        return self.recipe.name[:MAX_NAME] or Path(self.origin).name[:MAX_NAME]

    @property
    def num_bytes(self) -> int:
        return sum(entry.size or 0 for entry in self.entries)


@contextmanager
def opened(where: str, at: str = "") -> Iterator[Source]:
    """The recipe at ``where``, at the commit or branch ``at``.

    ``where`` is the name of a shipped recipe, an absolute path, or a URL that the operator allows. Raises ValueError
    naming ``recipe`` or ``recipe_commit``.
    """
    where, at = _plain(where, "recipe"), _plain(at, "recipe_commit")
    with tempfile.TemporaryDirectory(prefix="countersign-recipe-") as scratch:
        with _in_time():
            source = _looked_at(where, at, Path(scratch) / "objects.git")
        yield source


@contextmanager
def _in_time() -> Iterator[None]:
    try:
        yield
    except subprocess.TimeoutExpired as late:
        raise ValueError(f"recipe: git did not read it within {late.timeout:g} s; is its disk busy?") from late


def _looked_at(where: str, at: str, bare: Path) -> Source:
    """``bare`` is where a repository may be made through which the source's objects are read."""
    if _URL.match(where):
        git.init(bare)
        commit = _fetched(bare, where, at)
        return _of_commit(bare, commit, where, f"{commit}^{{tree}}")
    if where.startswith("/"):
        return _of_path(Path(where), at, bare)
    if at:
        raise ValueError("recipe_commit: a shipped recipe has one version; leave it empty")
    return _of_folder(shipped(where), origin=f"shipped: {where}")


def _plain(text: str, field: str) -> str:
    if any(not character.isprintable() for character in text) or len(text) > MAX_ORIGIN:
        raise ValueError(f"{field}: must be at most {MAX_ORIGIN} printable characters")
    if text.startswith("-"):
        raise ValueError(f"{field}: must not begin with a dash")
    return text.strip()


def shipped(name: str) -> Path:
    """The folder of a recipe that comes with us. Raises ValueError that lists them."""
    folder = Path(settings.RECIPES) / name
    if not contract.is_safe_path(name) or not (folder / "recipe.toml").is_file():
        known = ", ".join(names())
        raise ValueError(
            f"recipe: there is no recipe {name!r}; there are: {known}; your own is an absolute path or a URL"
        )
    return folder


def names() -> list[str]:
    """The recipes that come with us."""
    return sorted(path.parent.name for path in Path(settings.RECIPES).glob("*/recipe.toml"))


# --- a folder as it lies ------------------------------------------------------------------------


def _of_path(path: Path, at: str, bare: Path) -> Source:
    try:
        is_folder, has_git = path.is_dir(), (path / ".git").exists()
    except OSError as error:
        raise ValueError(f"recipe: {path} cannot be read: {error.strerror}") from error
    if not is_folder:
        raise ValueError(f"recipe: there is no folder {path} on the web machine, or it may not be read there")
    if has_git or at or _is_bare(path):
        git.init(bare)
        return _of_repository(bare, path, at)
    return _of_folder(path, origin=str(path))


def _is_bare(path: Path) -> bool:
    return (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir()


def _of_folder(folder: Path, *, origin: str) -> Source:
    recipe_tree.refuse_foreign(folder, origin)
    entries = recipe_tree.scanned(folder)
    recipe, text = recipe_tree.checked(entries, lambda path: recipe_tree.body_of(folder, path), origin)

    def copy(bare: Path, message: str) -> str:
        with _in_time():
            return recipe_tree.imported(bare, folder, entries, message)

    return Source(
        recipe=recipe, recipe_toml=text, origin=origin, commit="", entries=entries, remarks=(), copy_into=copy
    )


# --- a commit of a git repository -----------------------------------------------------------------


def _of_repository(bare: Path, path: Path, at: str) -> Source:
    objects, prefix = _opened_repository(path)
    commit = _resolved(path, at)
    (bare / "objects" / "info").mkdir(exist_ok=True)
    (bare / "objects" / "info" / "alternates").write_text(f"{objects}\n")
    source = _of_commit(bare, commit, str(path), _tree(bare, commit, prefix, path))
    changed = [] if at or prefix else _uncommitted(bare, commit, path)
    if not changed:
        return source
    named = ", ".join(changed[:NAMED]) + (f" and {len(changed) - NAMED} more" if len(changed) > NAMED else "")
    remark = f"What is not committed is left out: {named}. The commit {commit[:10]} is taken."
    return Source(**(vars(source) | {"remarks": (*source.remarks, remark)}))


def _opened_repository(path: Path) -> tuple[Path, str]:
    """The folder of its objects, and where ``path`` lies within its work tree."""
    try:
        objects, prefix = _asked(path, "rev-parse", "--git-path", "objects", "--show-prefix").split("\n")[:2]
    except GitError as error:
        raise ValueError(
            f"recipe: {path} is not a git repository; leave the commit empty to take the folder as it is, or `git init`"
            f" and commit there ({str(error)[:200]})"
        ) from error
    return (path / objects).resolve(), prefix.rstrip("/")


def _resolved(path: Path, at: str) -> str:
    try:
        commit = _asked(path, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{at or 'HEAD'}^{{commit}}")
    except GitError as error:
        if at:
            raise ValueError(f"recipe_commit: {path} has no commit or branch {at!r}") from error
        raise ValueError(
            f"recipe: {path} has no commit yet; commit there first (git add --all && git commit)"
        ) from error
    if not _SHA.fullmatch(commit := commit.strip().split("\n")[-1]):
        raise ValueError(f"recipe: {path} names its commits by SHA-256, which workers do not read; convert it to SHA-1")
    return commit


def _tree(bare: Path, commit: str, prefix: str, path: Path) -> str:
    """The tree of ``commit`` at ``prefix``. Raises ValueError where the commit has no such folder."""
    try:
        named = f"{commit}:{prefix}" if prefix else f"{commit}^{{tree}}"
        return git.git("rev-parse", "--verify", "--quiet", named, cwd=bare).decode().strip()
    except GitError as error:
        raise ValueError(f"recipe: {path} is not in commit {commit[:10]}; commit it there first") from error


def _asked(path: Path, *args: str) -> str:
    """What git says of a repository that may belong to somebody else. Only for commands that run nothing of it."""
    return git.git("-c", "safe.directory=*", *args, cwd=path).decode(errors="replace")


def _uncommitted(bare: Path, commit: str, path: Path) -> list[str]:
    """Files of the work tree that differ from ``commit``; by an index and a configuration of our own."""
    env = {"GIT_DIR": str(bare), "GIT_WORK_TREE": str(path), "GIT_INDEX_FILE": str(bare / "index")}
    if _is_bare(path):
        return []
    try:
        git.git("read-tree", commit, cwd=bare, env=env)
        with suppress(GitError):  # it says so where a file differs
            git.git("update-index", "-q", "--refresh", cwd=path, env=env, within_s=COPY_S)
        said = git.git("diff-files", "--name-only", "-z", cwd=path, env=env)
    except GitError as error:
        raise ValueError(f"recipe: git cannot compare {path} with its commit: {error}") from error
    return [name for name in said.decode(errors="replace").split("\0") if name]


def _of_commit(bare: Path, commit: str, origin: str, tree: str) -> Source:
    """A Source from a commit whose objects ``bare`` can read."""
    try:
        entries = git.entries(bare, tree)
    except GitError as error:
        raise ValueError(
            f"recipe: the files of commit {commit[:10]} are not all in {origin} ({str(error)[:200]}); where it is a"
            " partial clone, fetch it whole"
        ) from error
    blobs = {entry.path: entry.blob for entry in entries}

    def read(path: str) -> bytes:
        return next(git.contents(bare, [blobs[path]]))

    recipe_tree.refuse_pointers(entries, lambda some: git.contents(bare, [entry.blob for entry in some]))
    recipe, text = recipe_tree.checked(entries, read, f"{origin} at {commit[:10]}")

    def copy(fresh: Path, message: str) -> str:
        with _in_time():
            return _repacked(fresh, bare, tree, message)

    return Source(
        recipe=recipe, recipe_toml=text, origin=origin, commit=commit, entries=entries, remarks=(), copy_into=copy
    )


def _repacked(fresh: Path, bare: Path, tree: str, message: str) -> str:
    """Copy the tree, without the history before it, into ``fresh`` as a commit without a parent."""
    borrowed = fresh / "objects" / "info" / "alternates"
    borrowed.parent.mkdir(exist_ok=True)
    borrowed.write_text(f"{bare.resolve() / 'objects'}\n")
    commit = git.git("commit-tree", tree, cwd=fresh, stdin=message.encode()).decode().strip()
    git.git("update-ref", "refs/heads/main", commit, cwd=fresh)
    # No deltas, hardly any compression: it is copied once, and a person waits for it.
    quick = ("-c", "pack.window=0", "-c", "core.compression=1", "-c", "core.bigFileThreshold=1m")
    git.git(*quick, "repack", "-a", "-d", "-q", cwd=fresh, within_s=COPY_S)
    borrowed.unlink()
    git.git("rev-list", "--objects", "--quiet", commit, cwd=fresh, within_s=COPY_S)  # all of it is its own now
    return commit


# --- a URL --------------------------------------------------------------------------------------


def _fetched(bare: Path, url: str, at: str) -> str:
    """Fetch one commit, and nothing before it, within the size cap. Returns the commit."""
    climbs = any(part in url.lower() for part in ("/../", "/./", "%2e", "%2f", "\\")) or url.endswith("/..")
    if climbs or not any(url.startswith(allowed) for allowed in settings.RECIPE_URLS):
        allowed = ", ".join(settings.RECIPE_URLS) or "none"
        raise ValueError(
            f"recipe: this address is not among those that COUNTERSIGN_RECIPE_URLS allows ({allowed}); clone it on the"
            " web machine and name the folder"
        )
    # No file that git writes may be larger than the cap: the pack is one file (fetch.unpackLimit).
    blocks = settings.RECIPE_MB * 2**20 // 512
    words = ["git", *_FETCH, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url,
             at or "HEAD"]  # fmt: skip
    limited = ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *words]
    try:
        done = subprocess.run(
            limited, cwd=bare, env=git.clean(bare) | _ENV, capture_output=True, timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise ValueError(f"recipe: the address did not answer within {FETCH_S:g} s; clone it by hand") from late
    if done.returncode:
        raise ValueError(f"recipe: {_why_not_fetched(done.stderr.decode(errors='replace'))}")
    return git.git("rev-parse", "--verify", "FETCH_HEAD^{commit}", cwd=bare).decode().strip()


_FETCH = ("-c", "fetch.unpackLimit=1", "-c", "http.followRedirects=false", "-c", "core.hooksPath=/dev/null")
_ENV = {
    "GIT_ALLOW_PROTOCOL": "http:https:ssh",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=15",
    "GIT_ASKPASS": "true",
}


def _why_not_fetched(said: str) -> str:
    if "index-pack" in said or "File too large" in said:  # it is what writes the pack, and was ended at the cap
        return f"it is larger than {settings.RECIPE_MB} MB (COUNTERSIGN_RECIPE_MB), or the disk here is full"
    words = " ".join("".join(c if c.isprintable() else " " for c in said).split())[-300:]
    return f"git could not fetch it: {words or 'it gave no reason'}"
