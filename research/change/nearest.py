"""For a search text that is not in the file: the place that was probably meant, and how it differs.

Pure. The sentences are for the author, a person or a model: they name the line and show what stands there.
"""

from __future__ import annotations

import difflib
import heapq
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

MAX_LINES = 20_000  # beyond, only equal lines are looked for
MAX_LINE = 240  # characters of a line that are compared: as many as the gates let through
SIFTED, COMPARED = 200, 20  # lines that difflib compares quickly, and in full
LISTED = 5
LIKENESS = 0.6  # difflib's own
_BLANK = r"\s\u200b\u2060\ufeff\u00ad"
_BLANKS = re.compile(f"[{_BLANK}]+")
_BLANKS_AROUND = re.compile(rf"\A[{_BLANK}]+|[{_BLANK}]+\Z")
_LETTER = re.compile(f"[^{_BLANK}]")
_NAMES = {
    " ": "blank",
    "\t": "tab",
    "\n": "end of line",
    "\r": "carriage return",
    "\xa0": "no-break space",
    "\x0c": "form feed",
}


@dataclass(frozen=True)
class Near:
    """``line`` of the file, from 1; ``offset``: which line of the search text differs first, from 0.

    ``is_blank``: nothing but white space differs.
    """

    line: int
    offset: int
    sentence: str
    is_blank: bool = False


def near(text: str, search: str) -> Near | None:
    """The place in ``text`` that is nearest to ``search``; None where nothing is similar."""
    return _but_for_copying(text, search) or _but_for_blanks(text, search) or _by_lines(text, search)


def lines_with(text: str, search: str) -> list[int]:
    """The lines, from 1, on which ``search`` begins, overlapping occurrences too."""
    found: list[int] = []
    line, counted, at = 1, 0, text.find(search)
    while search and at != -1:
        line, counted = line + text.count("\n", counted, at), at
        found.append(line)
        at = text.find(search, at + 1)
    return found


def listed(numbers: Sequence[int]) -> str:
    """ "3, 9 and 12", the first five."""
    first = [f"{number:,}" for number in dict.fromkeys(numbers)]
    if len(first) > LISTED:
        first = [*first[:LISTED], f"{len(first) - LISTED} more"]
    return " and ".join(filter(None, [", ".join(first[:-1]), first[-1]]))


# --- the same but for how it was copied -------------------------------------------------------------


def _but_for_copying(text: str, search: str) -> Near | None:
    """A place that is equal but for traces of copying: escapes, the numbers of ``cat -n``, typographic quotes."""
    for meant, said in _COPIES:
        copied = meant(search)
        if copied != search and (found := lines_with(text, copied)):
            return Near(found[0], 0, f"line {found[0]:,} is the same, but the text sought {said}")
    return None


def _unescaped(search: str) -> str:
    return re.sub(r"\\[nt\"']", lambda match: {"\\n": "\n", "\\t": "\t"}.get(match[0], match[0][1]), search)


def _unnumbered(search: str) -> str:
    lines = search.split("\n")
    numbered = [_NUMBERED.sub("", line) for line in lines]
    return "\n".join(numbered) if all(map(_NUMBERED.match, filter(None, lines))) else search


_NUMBERED = re.compile(r"^ *\d+(?:\t|[|:\u2192] ?)")
_TYPED = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u2013": "-", "\u2014": "-"})
_COPIES: tuple[tuple[Callable[[str], str], str], ...] = (
    (_unescaped, "has \\n, \\t or quotes as escapes, two characters each: write the characters themselves"),
    (_unnumbered, "begins each line with its number: leave the numbers out"),
    (html.unescape, "has &lt;, &amp; and the like, as the source of a page writes < and &: write the characters"),
    (lambda search: unicodedata.normalize("NFC", search), "has letters and their accents apart: write them as one"),
    (lambda search: unicodedata.normalize("NFD", search), "has letters with accents as one: write the two apart"),
    (lambda search: search.translate(_TYPED), "has a word processor's quotes or dashes: write plain ones"),
)


# --- the same but for white space -----------------------------------------------------------------


def _but_for_blanks(text: str, search: str) -> Near | None:
    core = _BLANKS_AROUND.sub("", search)
    letters = [match.start() for match in _LETTER.finditer(text)]
    found = _found("".join(text[at] for at in letters), _BLANKS.sub("", core)) if core else None
    if found is None:
        return None
    begin, end = letters[found[0]], letters[found[1] - 1] + 1
    return _before(text, search, begin) or _inside(text, search, begin, end) or _behind(text, search, end)


def _found(squeezed: str, sought: str) -> tuple[int, int] | None:
    """Where ``sought`` stands; preferably not inside of a word or a number."""
    at = first = squeezed.find(sought)
    while at != -1:
        end = at + len(sought)
        if not re.match(r"\w\w", sought[-1] + squeezed[end : end + 1]):
            return at, end
        at = squeezed.find(sought, at + 1)
    return None if first == -1 else (first, first + len(sought))


def _inside(text: str, search: str, begin: int, end: int) -> Near | None:
    """The first white space between letters that differs."""
    core = _BLANKS_AROUND.sub("", search)
    mine, its = _LETTER.split(core), _LETTER.split(text[begin:end])
    for number, (one, other) in enumerate(zip(mine, its, strict=True)):
        if one != other:
            at = begin + sum(map(len, its[:number])) + number
            return _told(text, search, at, search.index(core) + sum(map(len, mine[:number])) + number, one, other)
    return None


def _before(text: str, search: str, begin: int) -> Near | None:
    """The white space before the first letter, if it differs."""
    lead, before = search.partition(_BLANKS_AROUND.sub("", search))[0], _ended(text[:begin])
    if before.endswith(lead):
        return None
    mine, its = (blanks.rpartition("\n")[2] for blanks in (lead, before))
    return _told(text, search, begin, len(lead), *((mine, its) if mine != its else (lead, before[-len(lead) :])))


def _behind(text: str, search: str, end: int) -> Near:
    """The white space behind the last letter, where nothing else differs."""
    core = _BLANKS_AROUND.sub("", search)
    lead, _, trail = search.partition(core)
    behind = _begun(text[end:])
    its = behind[: behind.find("\n") + 1] or behind
    return _told(text, search, end - 1, len(lead) + len(core), trail, its)


def _ended(text: str) -> str:
    match = re.search(rf"[{_BLANK}]*\Z", text[-200:])
    return match[0] if match else ""


def _begun(text: str) -> str:
    match = _BLANKS.match(text[:200])
    return match[0] if match else ""


def _told(text: str, search: str, at: int, in_search: int, mine: str, its: str) -> Near:
    cut = mine[: num_alike(mine, its)].rfind("\n") + 1
    mine, its = _apart(mine[cut:], its[cut:])
    at, in_search = at + cut, in_search + cut
    line = text.count("\n", 0, at) + 1
    said = f"line {line:,} is the same but for white space: {_blanks(its)} where the text sought has {_blanks(mine)}"
    reads = _shown(text.split("\n")[line - 1])
    return Near(line, search.count("\n", 0, in_search), f"{said}; it reads {reads}", is_blank=True)


def num_alike(one: str, other: str) -> int:
    """Length of the common prefix."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _apart(mine: str, its: str) -> tuple[str, str]:
    """Both without the lines at the end that are equal."""
    alike = mine[len(mine) - num_alike(mine[::-1], its[::-1]) :]
    num = len(alike) - alike.find("\n") if "\n" in alike and mine != its else 0
    return mine[: len(mine) - num], its[: len(its) - num]


def _blanks(blanks: str) -> str:
    """ "a tab and 2 blanks"."""
    if not blanks:
        return "nothing"
    runs = [(match[0][0], len(match[0])) for match in re.finditer(r"(.)\1*", blanks, re.S)]
    return " and ".join(_run(letter, count) for letter, count in runs[:3])


def _run(letter: str, count: int) -> str:
    name = _NAMES.get(letter, f"U+{ord(letter):04X}")
    if count == 1:
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    return f"{count} {'ends of line' if letter == chr(10) else f'{name}s'}"


# --- the nearest lines ----------------------------------------------------------------------------


def _by_lines(text: str, search: str) -> Near | None:
    lines, sought = text.split("\n"), search.strip("\n").split("\n")
    start = _where_most_lines_stand(lines, sought)
    skipped = len(search) - len(search.lstrip("\n"))
    if start is None:
        return _most_alike(lines, sought, skipped)
    for offset, (mine, its) in enumerate(zip_longest(sought, lines[start : start + len(sought)])):
        if its is None:
            return Near(len(lines), offset + skipped, f"the file ends before {_shown(mine)}")
        if mine.strip() != its.strip():
            said = f"line {start + offset + 1:,} reads {_shown(its)} where the text sought has {_shown(mine)}"
            return Near(start + offset + 1, offset + skipped, said)
    return None


def _where_most_lines_stand(lines: list[str], sought: list[str]) -> int | None:
    where: dict[str, list[int]] = {}
    for at, line in enumerate(lines):
        where.setdefault(line.strip(), []).append(at)
    votes = Counter(
        at - offset for offset, line in enumerate(sought) if line.strip() for at in where.get(line.strip(), [])[:100]
    )
    starts = [(count, -start) for start, count in votes.items() if start >= 0]
    return -max(starts)[1] if starts else None


def _most_alike(lines: list[str], sought: list[str], skipped: int) -> Near | None:
    """The line most similar to the longest line of the search text; short lines resemble everything."""
    offset = max(range(len(sought)), key=lambda n: len(sought[n].strip()))
    wanted = sought[offset].strip()[:MAX_LINE]
    if not wanted or len(lines) > MAX_LINES:
        return None
    numbers = {line.strip()[:MAX_LINE]: number for number, line in reversed(list(enumerate(lines, start=1)))}
    if (found := _closest(wanted, numbers)) is None:
        return None
    number = numbers[found]
    said = f"nearest to {_shown(sought[offset])} is line {number:,}, {_shown(lines[number - 1])}"
    return Near(number, offset + skipped, said)


def _closest(wanted: str, lines: Iterable[str]) -> str | None:
    """As ``difflib.get_close_matches``, but only for the few lines that share most of their three-letter pieces."""
    matcher = difflib.SequenceMatcher(b=wanted)
    liked: list[tuple[float, str]] = []
    pieces = _pieces(wanted)
    for line in heapq.nlargest(SIFTED, lines, key=lambda line: _shared(pieces, line)):
        matcher.set_seq1(line)
        if (likeness := matcher.quick_ratio()) >= LIKENESS:
            liked.append((likeness, line))
    compared = [(_likeness(matcher, line), line) for _, line in sorted(liked, reverse=True)[:COMPARED]]
    best = max(compared, default=(0.0, ""))
    return best[1] if best[0] >= LIKENESS else None


def _pieces(line: str) -> set[str]:
    line = line[: MAX_LINE // 2]  # enough to sift by
    return {line[at : at + 3] for at in range(max(1, len(line) - 2))}


def _shared(pieces: set[str], line: str) -> float:
    """Dice's coefficient of both lines' pieces."""
    others = _pieces(line)
    return 2 * len(pieces & others) / (len(pieces) + len(others))


def _likeness(matcher: difflib.SequenceMatcher[str], line: str) -> float:
    matcher.set_seq1(line)
    return matcher.ratio()


def _shown(line: str) -> str:
    return repr(line if len(line) <= 100 else f"{line[:100]}...")
