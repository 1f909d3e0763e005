"""Takes off what stands around a patch: colours, line ends, fences, a here-document, an indent, a mail's ``>``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from research.change.pasted.parts import Envelope, Row, wrong

# Ten times what the gates let through; a patch is read while somebody waits for the page.
MAX_LINES, MAX_CHARS = 20_000, 1_000_000
_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")
_COLOURED = re.compile(r"^(?:\x1b\[[0-9;]*[mK])+(?:diff |--- |@@)", re.M)
_HEADS = r"(?:diff --|--- \S|\+\+\+ \S|Index: |@@|\*\*\* (?:Begin Patch|Update File)|<<<<<<< )"
LIKE_A_CHANGE = re.compile(r"[+-](?: {2,}|\t)\S|\+[^\s+]|-[^\s>-]")  # words begin otherwise, also in a list
_HEAD = re.compile(_HEADS)
_INDENTED = re.compile(rf"([ \t]+|(?:> ?)+)(?={_HEADS})")
_FENCE = re.compile(r"([ \t>]*)(`{3,}|~{3,})[ \t]*([\w.+-]*)[^`]*")
MARGIN = " >\t"  # what stands before every line of a patch that is indented or quoted as a whole
_HERE = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")


def rows_of(patch: str) -> Envelope:
    """The lines of the patch itself.

    ValueError where it is too long, holds a NUL, or would lose a part outside of its fence, here-document or indent.
    """
    patch = patch.removeprefix("\ufeff")
    if "\n" not in patch:
        patch = patch.replace("\r", "\n")  # as browsers do with ends of lines of the old Mac
    if (num := len(patch) - patch.count("\r")) > MAX_CHARS:  # a browser adds them
        raise ValueError(f"the patch has {num:,} characters; at most {MAX_CHARS:,} are read. Split it")
    if _COLOURED.search(patch):
        patch = _COLOUR.sub("", patch)
    lines = patch.split("\n")
    if lines[-1] in ("", "\r"):
        lines.pop()
    if len(lines) > MAX_LINES:
        raise ValueError(f"the patch has {len(lines):,} lines; at most {MAX_LINES:,} are read. Split it")
    is_crlf = all(line.endswith("\r") for line in lines[:-1]) and "\r\n" in patch
    rows = [Row(n, line.removesuffix("\r") if is_crlf else line) for n, line in enumerate(lines, start=1)]
    if hidden := next((row for row in rows if "\0" in row.text), None):
        raise wrong(hidden.number, "it holds a NUL character, which no source has; take it out")
    return Envelope(_dedented(_of_a_here_document(_unfenced(rows))), is_crlf)


def _unfenced(rows: list[Row]) -> list[Row]:
    """The rows inside of fences, if the diff is in fences; a model's words around them are dropped."""
    inside: list[Row] = []
    outside: list[Row] = []
    other_code: set[int] = set()
    is_fenced = is_bare = False
    at = 0
    while at < len(rows):
        # Behind a header that stands in no fence, an indented one is a line of the file that stays.
        is_bare = is_bare or _is_head(rows[at].text)
        fence = _FENCE.fullmatch(rows[at].text.rstrip())
        fence = None if fence and fence[1] and is_bare else fence
        block = _block(rows, at, fence[1] + fence[2]) if fence else []
        if fence and (fence[3] in ("diff", "patch", "udiff") or any(_is_head(row.text) for row in block)):
            is_fenced = True
            inside += [*_file_name(outside, block), *_dedented(block)]
        else:
            outside += [rows[at], *block]
            is_other_code = fence and fence[3] and at + len(block) + 1 < len(rows)  # closed, and of a language
            other_code |= {row.number for row in block} if is_other_code else set()
        at += len(block) + (2 if fence else 1)
    if not is_fenced:
        return rows
    for row in outside:
        if _is_head(row.text) or (row.number not in other_code and LIKE_A_CHANGE.match(row.text)):
            raise wrong(row.number, "a part of the diff stands outside of the fence ```; put all of it inside")
    return inside


def _block(rows: list[Row], opened: int, fence: str) -> list[Row]:
    """The rows up to the closing fence (the same marks and indent); all rows where it is never closed."""
    for at in range(opened + 1, len(rows)):
        if rows[at].text.rstrip() == fence:
            return rows[opened + 1 : at]
    return rows[opened + 1 :]


def _is_head(text: str) -> bool:
    return bool(_HEAD.match(text) or _INDENTED.match(text))


def _file_name(outside: list[Row], block: list[Row]) -> list[Row]:
    """The line above the fence of a search-and-replace block, which names its file."""
    first = next((row.text for row in block if row.text.strip()), "")
    named = next((row for row in reversed(outside) if row.text.strip()), None)
    return [named] if named and first.startswith("<<<<<<<") else []


def _of_a_here_document(rows: list[Row]) -> list[Row]:
    """The rows of a here-document: ``git apply <<'EOF'`` ends with EOF."""
    word = next(iter(_words_before_the_patch(rows)), None)
    end = next((at for at, row in enumerate(rows) if row.text.rstrip("\r") == word), None)
    if word is None or end is None:
        return rows
    for row in rows[end + 1 :]:
        if _is_head(row.text) or (row.text[:1] in "+- \t\\" and row.text.strip()):
            raise wrong(
                row.number, f"the patch goes on behind its end, {word.strip(MARGIN)}; paste one patch at a time"
            )
    return rows[:end]


def _words_before_the_patch(rows: list[Row]) -> Iterator[str]:
    for row in rows:
        if _is_head(row.text):
            return
        if match := _HERE.search(row.text):
            indent = row.text[: len(row.text) - len(row.text.lstrip(MARGIN))]
            yield indent + match[1]


def _dedented(rows: list[Row]) -> list[Row]:
    """The rows without a common indent or quote mark."""
    first = next((at for at, row in enumerate(rows) if _is_head(row.text)), None)
    match = _INDENTED.match(rows[first].text) if first is not None else None
    if first is None or match is None or any(_HEAD.match(row.text) for row in rows):
        return rows
    return [*rows[:first], *(_cut(row, match[1]) for row in rows[first:])]


def _cut(row: Row, indent: str) -> Row:
    if row.text.startswith(indent):
        return Row(row.number, row.text[len(indent) :])
    if not row.text.strip() or row.text == indent.rstrip():
        return Row(row.number, "")
    raise wrong(row.number, f"the patch is indented by {indent!r} and this line is not; take the indent off all lines")
