"""Turns placed hunks into edits, each with the shortest search text that occurs once in its file."""

from __future__ import annotations

from research.change.drafts import Edit
from research.change.pasted.placing import Change, lines_of


def edits_between(path: str, before: str, hunks: list[list[Change]], after: str) -> list[Edit]:
    """One edit for each hunk (touching hunks are one), to be applied one after the other; the result is ``after``."""
    if before == after:
        return []
    blocks = _blocks(before, after, hunks)
    if blocks is None:  # the file begins or ends otherwise than its hunks say: a byte order mark, a last newline
        return [_edit(path, lines_of(before), 0, len(lines_of(before)), lines_of(after))]
    now = lines_of(before)
    edits: list[Edit] = []
    shift = 0
    for start, end, new in blocks:
        if now[start + shift : end + shift] == new:
            continue
        edits.append(_edit(path, now, start + shift, end + shift, new))
        now[start + shift : end + shift] = new
        shift += len(new) - (end - start)
    return edits


def _blocks(before: str, after: str, hunks: list[list[Change]]) -> list[tuple[int, int, list[str]]] | None:
    """(start, end, new lines) of each stretch of the file that hunks cover; None where ``after`` does not result."""
    lines = lines_of(before)
    covers: list[list[int]] = []
    for hunk in hunks:
        start, end = hunk[0].start, hunk[-1].end
        if covers and start <= covers[-1][1]:
            covers[-1][1] = max(end, covers[-1][1])
        else:
            covers.append([start, end])
    changes = iter(sorted((c for hunk in hunks for c in hunk if not c.is_kept), key=lambda c: (c.start, c.end)))
    blocks, made, at = [], [], 0
    change = next(changes, None)
    for start, end in covers:
        made += lines[at:start]
        new, at = [], start
        while change is not None and change.end <= end:
            new += [*lines[at : change.start], *change.new]
            at, change = change.end, next(changes, None)
        new, at = [*new, *lines[at:end]], end
        blocks.append((start, end, new))
        made += new
    return blocks if "".join([*made, *lines[at:]]) == after else None


def _edit(path: str, now: list[str], start: int, end: int, new: list[str]) -> Edit:
    """An edit with as many lines around it as its search text needs to occur once."""
    text = "".join(now)
    around = 0
    while True:
        first, last = max(0, start - around), min(len(now), end + around)
        search = "".join(now[first:last])
        if (first, last) == (0, len(now)) or (search and _stands_once(text, search)):
            return Edit(path=path, search=search, replace="".join([*now[first:start], *new, *now[end:last]]))
        around = max(1, 2 * around)


def _stands_once(text: str, search: str) -> bool:
    at = text.find(search)
    return at != -1 and text.find(search, at + 1) == -1
