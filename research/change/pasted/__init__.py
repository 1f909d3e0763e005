"""Reads diffs that people and models write, as they were meant: a whole patch, or an error that names its line.

The form and ``manage.py gate`` both use it. What it reads becomes edits, and ``patches.to_patch`` makes from these the
diff that gates check and people sign. So nothing that is read here is signed itself, and the strict parser,
``change.unified``, reads the signed diff again.

The order: ``envelope`` takes off what stands around a patch (fences, indents, a mail's quoting, line ends), ``reader``
finds sections and hunks, ``names`` says which file is meant, ``placing`` finds each hunk by its own lines, and
``meant`` makes edits of them. Counts and line numbers come last, since models often get both wrong. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from research.change.drafts import Edit
from research.change.pasted import copied
from research.change.pasted.envelope import rows_of
from research.change.pasted.meant import edits_between
from research.change.pasted.parts import wrong
from research.change.pasted.placing import after
from research.change.pasted.reader import read
from research.change.patches import to_patch
from research.change.undone import undone


def edits_of(patch: str, files: Mapping[str, str], *, by_number: bool = True) -> tuple[Edit, ...]:
    """``patch`` as edits of ``files``; none for a blank text.

    Without ``by_number`` no line number decides anything: every hunk must fit in one place only. Raises
    ValueError: "line 7: ..." of the patch, and the way out.
    """
    if not patch.strip():
        return ()
    envelope = rows_of(patch)
    now = dict(files)
    edits: list[Edit] = []
    numbers: list[int] = []  # of the patch, for each edit
    sections = read(envelope.rows, files)
    done: set[str] = set()
    for section in sections:
        copied.check(section, files[section.path])
        text, changes = after(section, now[section.path], envelope, by_number=by_number and section.path not in done)
        edits += edits_between(section.path, now[section.path], changes, text)
        now[section.path] = text
        done.add(section.path)
        numbers += [section.number] * (len(edits) - len(numbers))
    for path, taken_back in undone(files, edits):
        first, last = numbers[taken_back[0] - 1], numbers[taken_back[-1] - 1]
        raise wrong(last, f"this takes back what the part from line {first} on does to {path}; leave both out")
    for section in sections:
        if now[section.path] == files[section.path]:
            said = f"{section.path} stays as it is: what is taken from it and what is added are the same"
            raise wrong(section.number, f"{said}; leave this part out")
    return tuple(edits)


def as_git_writes(patch: str, files: Mapping[str, str]) -> str:
    """``patch`` as the one diff that ``patches.to_patch`` makes of what it does. Raises ValueError as ``edits_of``."""
    return to_patch(files, edits_of(patch, files))
