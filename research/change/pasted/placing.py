"""Finds the place of each hunk by its own lines, which must fit in one place only; by line number only if git vouches.

Line numbers that people and models write, or that were counted in an earlier incumbent, may silently hit the wrong one
of two equal places. So they decide only where git vouches for them: its hash of the old file (``index 1a2b3c4..``) is
this file's, and applying the hunks at their numbers gives its hash of the new file.

Editors and mail clients remove blanks at ends of lines, and models add them. Where the lines fit nowhere as they are,
such blanks are ignored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise

from research.change import nearest
from research.change.pasted.parts import Envelope, Hunk, Line, Section, wrong
from research.change.pasted.suited import suited

BLANKS = " \t"  # that editors take from the ends of lines
ENOUGH = 7  # digits of a hash, as few as git prints: 28 bits, so that no mistake comes out by chance
WAY_OUT = "make the diff on the incumbent, with more context: git diff -U12"


@dataclass(frozen=True)
class Change:
    """Lines ``start`` to ``end`` (from 0, end excluded) of a file, with their ends, become ``new``."""

    number: int  # of the patch
    start: int
    end: int
    new: tuple[str, ...]
    is_kept: bool = False  # context: the same before and after


def after(section: Section, text: str, envelope: Envelope, *, by_number: bool) -> tuple[str, list[list[Change]]]:
    """``text`` with ``section`` applied, and its hunks in order, each as kept and changed stretches of lines.

    ``by_number``: the section's line numbers may be those of ``text``. Raises ValueError that names the line of a hunk
    that does not fit, fits twice, or contradicts another.
    """
    is_this_file = len(section.blob) >= ENOUGH and _blob(text).startswith(section.blob)
    section, text, mark = suited(section, text, envelope)
    file = _File.of(text)
    stated = _as_stated(section, file) if by_number and is_this_file else None
    if stated is not None:
        made, hunks = _made(text, stated)
        if _blob(mark + made)[:ENOUGH] == section.blob_after[:ENOUGH]:
            return mark + made, hunks
    made, hunks = _made(text, [_placed(section, hunk, file) for hunk in section.hunks])
    return mark + made, hunks


def _made(text: str, places: list[tuple[Hunk, int]]) -> tuple[str, list[list[Change]]]:
    lines = lines_of(text)
    hunks = [_stretches(hunk, at, lines, text) for hunk, at in places]
    hunks.sort(key=lambda stretches: (stretches[0].start, stretches[-1].end))
    _check_apart([stretch for stretches in hunks for stretch in stretches])
    changes = sorted((c for hunk in hunks for c in hunk if not c.is_kept), key=lambda c: (c.start, c.end))
    made: list[str] = []
    at = 0
    for change in changes:
        made += [*lines[at : change.start], *change.new]
        at = change.end
    return _joined([*made, *lines[at:]]), hunks


def lines_of(text: str) -> list[str]:
    """Lines with their newlines, split at newlines only, as git does."""
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop()
    return lines if last == "\n" else [*lines, last[:-1]]


def _joined(lines: list[str]) -> str:
    """Join lines; a last line without a newline gets one where another line follows it now."""
    return "".join([*(line if line.endswith("\n") else f"{line}\n" for line in lines[:-1]), *lines[-1:]])


# --- finding ------------------------------------------------------------------------------------


def _blob(text: str) -> str:
    """git's hash of the file."""
    raw = text.encode(errors="surrogatepass")
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()


def _as_stated(section: Section, file: _File) -> list[tuple[Hunk, int]] | None:
    """(hunk, line from 0) of every hunk at its header's number; None where one does not fit there."""
    places: list[tuple[Hunk, int]] = []
    for hunk in section.hunks:
        if hunk.start is None:
            return None
        old = [line.text for line in hunk.old]
        at = hunk.start - 1 if old else hunk.start  # without old lines, the number is of the line before
        if not 0 <= at <= len(file.lines) - len(old) or file.lines[at : at + len(old)] != old:
            return None
        places.append((hunk, at))
    return places


def _placed(section: Section, hunk: Hunk, file: _File) -> tuple[Hunk, int]:
    """(hunk, line from 0) in the only place where its lines fit. ValueError otherwise."""
    hunk, found = _fitting(hunk, file)
    if len(found) != 1:
        raise _doubt(section, hunk, found, "\n".join([*file.lines, ""]))
    return hunk, found[0]


def _doubt(section: Section, hunk: Hunk, found: list[int], text: str) -> ValueError:
    """The error for a hunk that fits in no place or in several, or only adds lines."""
    more = WAY_OUT if hunk.start is not None else "write more of the lines around it"
    if not hunk.old:
        said = f"this hunk only adds lines to {section.path}, without one of the file's around them"
        return wrong(hunk.number, f"{said}, so nobody can tell where they belong; add them: git diff -U3")
    if not found:
        return _fits_nowhere(section, hunk, text)
    places = nearest.listed([at + 1 for at in found])
    said = f"this hunk fits {section.path} in {len(found)} places, from lines {places} on"
    why = ", and its own line number counts only beside git's hashes of the file (index 1a2b3c4..5d6e7f8)"
    if hunk.start is None:
        why = ""
    elif section.blob:
        why = ", and its own line number is not borne out by git's hashes: it was counted in another version, or edited"
    return wrong(hunk.number, f"{said}{why}; {more}")


def _fits_nowhere(section: Section, hunk: Hunk, text: str) -> ValueError:
    """The error that names the first line that differs, in patch and file, or says that the change is made already."""
    old, new = ("\n".join(line.text for line in side) for side in (hunk.old, hunk.new))
    near = nearest.near(text, f"{old}\n")
    number = hunk.old[near.offset].number if near is not None and near.offset < len(hunk.old) else hunk.number
    said = f"this hunk's lines do not stand in {section.path} as it is now"
    if any(line.kind == "+" for line in hunk.lines) and new.strip() and f"\n{new}\n" in f"\n{text}\n":
        line = f"\n{text}\n".index(f"\n{new}\n")
        at = text.count("\n", 0, line) + 1
        return wrong(hunk.number, f"what this hunk makes stands in {section.path} already, at line {at}; leave it out")
    if near is None:
        return wrong(hunk.number, f"{said}; {WAY_OUT}")
    way_out = "make the diff without -w, or copy the line from the file" if near.is_blank else WAY_OUT
    return wrong(number, f"{said}: {near.sentence}; {way_out}")


@dataclass(frozen=True)
class _File:
    """A file's lines, also without blanks at their ends, and where each of those stands."""

    lines: list[str]
    stripped: list[str]
    where: dict[str, list[int]]

    @classmethod
    def of(cls, text: str) -> _File:
        lines = [line.removesuffix("\n") for line in lines_of(text)]
        stripped = [line.rstrip(BLANKS) for line in lines]
        where: dict[str, list[int]] = {}
        for at, line in enumerate(stripped):
            where.setdefault(line, []).append(at)
        return cls(lines, stripped, where)


def _fitting(hunk: Hunk, file: _File) -> tuple[Hunk, list[int]]:
    """Where all old lines of the hunk fit, from 0: exactly, else without regard to blanks at their ends.

    Where they fit nowhere, it is tried again without empty lines at the hunk's ends, which may not belong to it.
    """
    for one in (hunk, _without_bare_ends(hunk)):
        old = [line.text for line in one.old]
        stripped = [text.rstrip(BLANKS) for text in old]
        found = [at for at in _candidates(one, stripped, file) if file.stripped[at : at + len(old)] == stripped]
        exact = [at for at in found if file.lines[at : at + len(old)] == old]
        if found:
            return one, exact if exact and not _may_be_stripped(one) else found
    return hunk, []


def _may_be_stripped(hunk: Hunk) -> bool:
    """Whether no line ends in a blank: then an editor may have removed them all, and an exact fit is no better."""
    return not any(line.text.endswith(tuple(BLANKS)) for line in hunk.lines)


def _without_bare_ends(hunk: Hunk) -> Hunk:
    lines = hunk.lines
    while lines and lines[-1].is_bare:
        lines = lines[:-1]
    num = next((n for n, line in enumerate(lines) if not line.is_bare), 0)
    start = None if hunk.start is None else hunk.start + num
    return replace(hunk, lines=lines[num:], start=start)


def _candidates(hunk: Hunk, stripped: list[str], file: _File) -> list[int]:
    """Possible starts: where the hunk's rarest line stands in the file, counted back to its first line."""
    stands = [file.where.get(line, []) for line in stripped]
    if not stands:
        return [] if file.lines else [0]  # of an empty file
    offset = min(range(len(stands)), key=lambda n: len(stands[n]))
    last = len(file.lines) - len(stands)
    starts = [at - offset for at in stands[offset] if 0 <= at - offset <= last]
    return [at for at in starts if at == last] if hunk.is_last else starts


# --- making -------------------------------------------------------------------------------------


def _stretches(hunk: Hunk, at: int, lines: list[str], text: str) -> list[Change]:
    """The hunk at its place, as stretches; kept lines keep the file's own bytes."""
    stretches: list[Change] = []
    old = at
    for line in hunk.lines:
        if line.kind != "+":
            _check_end(line, old, lines, text)
        is_kept = line.kind == " "
        new = (lines[old],) if is_kept else () if line.kind == "-" else (line.text + ("\n" if line.ends else ""),)
        one = Change(line.number, old, old + (line.kind != "+"), new, is_kept)
        old = one.end
        if stretches and stretches[-1].is_kept == is_kept:
            before = stretches.pop()
            one = Change(before.number, before.start, one.end, before.new + one.new, is_kept)
        stretches.append(one)
    last = hunk.lines[-1]
    if not last.ends and last.kind == "+" and old != len(lines):
        raise wrong(last.number, "it is said to be the file's last line, and it is not; take the \\ line out")
    return stretches


def _check_end(line: Line, at: int, lines: list[str], text: str) -> None:
    if not line.ends and (at != len(lines) - 1 or text.endswith("\n")):
        raise wrong(
            line.number, "it is said to be a last line without a newline, and the file has one; take the \\ line out"
        )


def _check_apart(stretches: list[Change]) -> None:
    """No two hunks may change the same lines, add at the same place, or keep what another one changes."""
    changes = sorted((s for s in stretches if not s.is_kept), key=lambda s: (s.start, s.end))
    for one, other in pairwise(changes):
        if other.start < one.end or (other.start, other.end) == (one.start, one.end):
            raise _contradiction(one, other)
    kept = {line: stays for stays in stretches if stays.is_kept for line in range(stays.start, stays.end)}
    for change in changes:
        for line in range(change.start, change.end):
            if line in kept:
                raise _contradiction(change, kept[line])


def _contradiction(one: Change, other: Change) -> ValueError:
    first, second = sorted((one.number, other.number))
    return wrong(
        second, f"this changes or keeps lines that line {first} of the patch changes, too; write one hunk for both"
    )
