"""Checks out the approved source: the base commit from a git bundle, with the patch on top."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from gpu_runner.machine.faults import MachineFault, are_machines

GIT_S = 120.0
EARLIER = "earlier"  # beside the source: what it was before the change, and when the campaign began

# No configuration of the machine or of a person may change what is checked out.
GIT_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ATTR_NOSYSTEM": "1",
}
GIT_OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "core.fsmonitor=false")


class BadSource(ValueError):
    """The bundle is malformed or does not hold the base commit."""


class BadPatch(ValueError):
    """The patch does not apply to the base commit, or leaves links or special files in the recipe."""


def check_out(bundle: bytes, *, base_commit: str, patch: str, folder: Path) -> Path:
    """Write the approved source to ``folder/source`` and return it. Raises BadSource, BadPatch or MachineFault.

    The repository itself lies beside it (``folder/repository``) and is removed again: the sandbox sees files only.
    ``folder/earlier`` holds the files of the base commit (``base``) and of the first one that leads to it (``origin``).
    """
    source, repository = folder / "source", folder / "repository"
    source.mkdir()
    (folder / "source.bundle").write_bytes(bundle)
    tree = Tree(repository, source)
    try:
        _fill(tree, folder / "source.bundle", base_commit)
        if patch:
            _apply(tree, patch)
        _refuse_links(source)
        _lay_beside(tree, base_commit, folder / EARLIER)
    finally:
        (folder / "source.bundle").unlink()
        shutil.rmtree(repository, ignore_errors=True)  # not there when git could not even start
    return source


class Tree:
    """A git repository and its work tree in another folder."""

    def __init__(self, repository: Path, source: Path) -> None:
        self.repository = repository
        self.source = source

    def git(self, *arguments: str, feed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        git = shutil.which("git")
        if git is None:
            raise OSError("git is not on PATH; install the package git")
        try:
            done = subprocess.run(
                [git, *GIT_OPTIONS, f"--git-dir={self.repository}", f"--work-tree={self.source}", *arguments],
                env=GIT_ENVIRONMENT | {"HOME": str(self.repository.parent)},
                cwd=self.source,
                input=feed,
                capture_output=True,
                timeout=GIT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise MachineFault(f"git {arguments[0]} did not end within {GIT_S:g} s") from error
        _refuse_machines_failure(arguments[0], done)
        return done


def _fill(tree: Tree, bundle: Path, base_commit: str) -> None:
    steps = (
        ("init", "--quiet", "--template="),
        ("bundle", "unbundle", str(bundle)),
        ("checkout", "--quiet", "--detach", base_commit),
    )
    for step in steps:
        if (done := tree.git(*step)).returncode != 0:
            raise BadSource(f"git {step[0]}: {_said(done)}")
    head = tree.git("rev-parse", "HEAD").stdout.decode().strip()
    if head != base_commit:
        raise BadSource(f"the bundle's commit is {head}, approved was {base_commit}")


def _apply(tree: Tree, patch: str) -> None:
    done = tree.git("apply", "--index", "--whitespace=nowarn", "-", feed=patch.encode())
    if done.returncode != 0:
        raise BadPatch(f"the patch does not apply to its base commit: {_said(done)}")


def _lay_beside(tree: Tree, base_commit: str, earlier: Path) -> None:
    roots = tree.git("rev-list", "--max-parents=0", base_commit)
    first = roots.stdout.decode().split()[-1:] or [base_commit]
    for name, commit in (("base", base_commit), ("origin", *first)):
        (earlier / name).mkdir(parents=True)
        for step in (("read-tree", commit), ("checkout-index", "--all", "--quiet", f"--prefix={earlier / name}/")):
            if (done := tree.git(*step)).returncode != 0:
                raise BadSource(f"git {step[0]}: {_said(done)}")


def _refuse_links(source: Path) -> None:
    """Raises BadPatch for links and special files, since supervisor and scorer read the source outside of a sandbox."""
    for path in source.rglob("*"):
        if not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
            raise BadPatch(f"{path.relative_to(source)}: is a link or a special file; a recipe has plain files only")


def _refuse_machines_failure(step: str, done: subprocess.CompletedProcess[bytes]) -> None:
    """Raises MachineFault when git was killed or the machine failed: then the bundle or the patch is not to blame."""
    if done.returncode < 0:
        raise MachineFault(f"git {step} was ended by signal {-done.returncode} from outside")
    if done.returncode and are_machines(_said(done)):
        raise MachineFault(f"git {step}: {_said(done)}")


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stderr.decode(errors="replace").strip()[-500:]
