"""Gate: does the patch apply to its incumbent, by git, and with the result that its lines show?"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from io import BytesIO
from pathlib import Path

from research.change.unified import Change
from research.gates.outcome import Context, GateResult, Remark

NAME = "patch applies"
TIMEOUT_S = 30


class NoFile(Exception):
    """An entry that a patch puts into the tree is no file, such as another repository."""


def check(context: Context) -> GateResult:
    if not context.patch:
        return GateResult.ok("no patch", commit=context.commit)
    where = context.commit[:7]
    if context.after is None:
        return GateResult.bad(
            f"It does not apply to {where}: {context.patch_problem}. Make it again from the incumbent's files.",
            commit=context.commit,
        )
    remarks = _read_otherwise(context.files, context.after, context.change)
    return GateResult.of(remarks, f"applies cleanly to {where}", commit=context.commit)


def _read_otherwise(before: dict[str, str], after: dict[str, str], change: Change) -> list[Remark]:
    """A remark for every file where git's result differs from the lines: a person would have read another patch."""
    remarks = []
    for path in sorted(before.keys() | after.keys() | change.paths):
        added = [text for file in change.files if path in file.paths for _, text in file.added]
        removed = [text for file in change.files if path in file.paths for _, text in file.removed]
        old, new = _lines(before.get(path, "")), _lines(after.get(path, ""))
        is_changed = before.get(path) != after.get(path)
        if sorted([*old, *added]) != sorted([*new, *removed]) or is_changed != bool(added or removed):
            sentence = "git makes another change of it than its lines say; write it with git diff."
            remarks.append(Remark(severity="block", rule="read-otherwise", sentence=sentence, path=path))
    return remarks


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def applied(files: dict[str, str], patch: str) -> tuple[dict[str, str] | None, str | None]:
    """``files`` after ``git apply``, in the index of a scratch repository; or None and git's reason."""
    with tempfile.TemporaryDirectory(prefix="countersign-gate-") as scratch:
        tree = Path(scratch)
        _git("init", "--quiet", "--template=", "--object-format=sha1", cwd=tree)
        for path, text in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(text.encode())
        _git("add", "--all", "--force", cwd=tree)
        try:
            # By the index alone: nothing of a hostile patch is ever written to a work tree.
            _git(
                "apply", "--cached", "--whitespace=nowarn", "-", cwd=tree, stdin=patch.encode(errors="surrogateescape")
            )
            return _read_index(tree, files), None
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            if getattr(error, "returncode", 0) < 0:  # killed: that says nothing of the patch
                raise
            said = (error.stderr or b"").decode(errors="replace").strip()
            return None, said[-800:] or f"git gave no reason ({type(error).__name__})"
        except NoFile as error:
            return None, str(error)
        except UnicodeDecodeError:
            return None, "a file would no longer be UTF-8 text"


def _read_index(tree: Path, files: dict[str, str]) -> dict[str, str]:
    """Path -> text of every index entry. ``-z``: git quotes no path, so that an odd one is not lost.

    Only blobs that ``files`` does not hold already are asked of git, all in one process.
    """
    entries = _git("ls-files", "--stage", "-z", cwd=tree).decode(errors="surrogateescape").split("\0")
    named = [(entry.split("\t", 1)[1], entry.split()[1]) for entry in entries if entry]
    known = {_blob(text): text for text in files.values()}
    unknown = dict.fromkeys(blob for _, blob in named if blob not in known)
    asked = "".join(f"{blob}\n" for blob in unknown).encode()
    answers = BytesIO(_git("cat-file", "--batch", cwd=tree, stdin=asked) if unknown else b"")
    for blob in unknown:
        kind, *size = answers.readline().split()[1:]
        if kind != b"blob":
            raise NoFile("it would put something into the tree that is no file")
        known[blob] = answers.read(int(*size) + 1)[:-1].decode()
    return {path: known[blob] for path, blob in named}


def _blob(text: str) -> str:
    """The name that git gives to a file's content (sha1)."""
    body = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def _git(*args: str, cwd: Path, stdin: bytes | None = None) -> bytes:
    # No configuration of the machine's owner: their hooks, filters and attributes must not run here.
    clean = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(cwd),
        "GIT_CEILING_DIRECTORIES": str(cwd.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "LC_ALL": "C",
    }
    done = subprocess.run(
        ["git", "-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null", *args],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        env=clean,
        check=True,
    )
    return done.stdout
