"""Parses the rows of a patch into sections and hunks; a row that is nothing known is an error that names it.

Three notations are read: unified diffs with right, wrong or no counts, the ``*** Update File`` patches of OpenAI's
models, and SEARCH/REPLACE blocks as aider asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from research.change.pasted import body, names
from research.change.pasted.envelope import LIKE_A_CHANGE
from research.change.pasted.parts import Hunk, Line, Row, Section, shown, wrong

MAX_SECTIONS = 200  # each is placed in the file as the ones before it left it, while somebody waits for the page
_INDEX = re.compile(r"index ([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})(?: 100(?:644|755))?")
_MORE = re.compile(
    r"(?:old mode|new mode|new file mode|deleted file mode|copy from|copy to|rename from|rename to|rename old"
    r"|rename new|similarity index|dissimilarity index|GIT binary patch|Binary files|index |Subproject commit|Only in"
    r"|Property changes|=== (?:added|removed|renamed)|\*\*\* (?:Add File|Delete File|Move to))\b.*"
)
_SVN = re.compile(r"RCS file: .*|retrieving revision .*|diff .*")  # and what cvs puts between Index and the names
_CONTEXT = re.compile(r"\*\*\* .*")  # where only a file's name may stand
CONTEXT_DIFF = "this is a context diff; paste a unified one: git diff, or diff -u"
_OTHERS = (  # of other notations, by their first line: what to do instead
    (
        re.compile(r"diff --(?:cc|combined) |@@@|index [0-9a-f]+,[0-9a-f,]+\.\."),
        "this is a diff of a merge, against two parents; paste git diff HEAD^",
    ),
    (re.compile(r"\*{15}|\*\*\* \d+(?:,\d+)? \*{4}"), CONTEXT_DIFF),
    (re.compile(r"\d+(?:,\d+)?[acd]\d+(?:,\d+)?$"), "this is a diff without context; paste git diff, or diff -u"),
)
_MAIL = re.compile(r"From [0-9a-f]{40} ")
_DECORATION = re.compile(
    r"={20,}|_{20,}|=== modified file .*|\*\*\* (?:Begin|End) Patch(?: \*\*\*)?|</?[A-Za-z_]+>|[`~]{3,}"
    r"|(?:base-commit|prerequisite-(?:patch-id|message-id)): .*"
)
_UPDATE = re.compile(r"\*\*\* Update File: ?(.+?)(?: \*\*\*)?")
_SEARCH = re.compile(r"<{5,9} ?(?:SEARCH|ORIGINAL)\b.*")
_CONFLICT = re.compile(r"(?:<{7}|>{7}|\|{7})(?: .*)?")


def read(rows: list[Row], files: Mapping[str, str]) -> list[Section]:
    """The sections of a patch. ValueError names the line of anything else."""
    reader = _Reader(rows, files)
    while reader.at < len(rows):
        reader.take()
        if len(reader.sections) > MAX_SECTIONS:
            said = f"more than {MAX_SECTIONS} headers of files are not read; put a file's hunks below one, or split it"
            raise wrong(reader.sections[-1].number, said)
    if not reader.sections:
        raise _no_diff(rows)
    for section in reader.sections:
        if not section.hunks:
            raise wrong(section.number, f"the section of {section.path} changes no line; leave it out, or add its hunk")
    return reader.sections


def _no_diff(rows: list[Row]) -> ValueError:
    for row in rows:
        if "\\n" in row.text and re.search(r"@@|\*\*\* Begin Patch|<{5,9} ?SEARCH", row.text):
            said = "this diff is written with \\n for the ends of its lines, as in JSON"
            return wrong(row.number, f"{said}; paste the text that it stands for")
    return ValueError("this is not a unified diff; paste what `git diff` prints")


class _Reader:
    def __init__(self, rows: list[Row], files: Mapping[str, str]) -> None:
        self.rows, self.files = rows, files
        self.at = 0
        self.sections: list[Section] = []
        self.is_in_a_mail = True  # its words come before the first section, and between one mail's end and the next

    def take(self) -> None:
        """Read one header, hunk, block or line of words."""
        row = self.rows[self.at]
        text = row.text.rstrip("\r")
        if not text.strip() or _DECORATION.fullmatch(text):
            self.at += 1
        elif text.startswith(("diff ", "Index: ")) or self._is_a_pair():
            self._head(row)
        elif match := _UPDATE.fullmatch(text):
            self._open(row.number, [match[1].strip()], all_agree=True)
            self.at += 1
            self._hunk_without_a_head()
        elif _SEARCH.fullmatch(text):
            self._block(row)
        elif _MORE.fullmatch(text):
            raise _more(row)
        elif text.startswith("@@") and not text.startswith("@@@"):
            self._hunk(row)
        else:
            self._words(row, text)

    # --- headers ------------------------------------------------------------------------------

    def _is_a_pair(self) -> bool:
        """Whether ``---`` and ``+++`` follow; or one of them before a hunk, as models leave the other one out."""
        text, after = self.rows[self.at].text, self._text(self.at + 1)
        pair = text.startswith("--- ") and after.startswith("+++ ")
        return pair or (text.startswith(("--- ", "+++ ")) and after.startswith("@@"))

    def _text(self, at: int) -> str:
        return self.rows[at].text if at < len(self.rows) else ""

    def _head(self, first: Row) -> None:
        """Read all lines up to the first hunk."""
        named: list[str] = []
        blobs, of_index = ("", ""), ""
        is_git = first.text.startswith("diff --git ")
        if first.text.startswith(("diff --cc", "diff --combined")):
            self._words(first, first.text)
        while self.at < len(self.rows):
            row = self.rows[self.at]
            text = row.text.rstrip("\r")
            if text.startswith("diff --git ") and (row is first or (of_index and not named)):
                named += names.of_git(text)
            elif text.startswith("Index: ") and not of_index:
                of_index = text.removeprefix("Index: ").strip()
            elif match := _INDEX.fullmatch(text):
                blobs = match[1], match[2]
            elif _MORE.fullmatch(text):
                raise _more(row)
            elif self._is_a_pair():
                named += self._pair()
                break
            elif _CONTEXT.fullmatch(text) and not named and not _DECORATION.fullmatch(text):
                raise wrong(row.number, CONTEXT_DIFF)
            elif not (row is first or _is_passed_over(text, of_index)):
                break
            self.at += 1
        if not named and not of_index:
            self._refuse_other_notations(self.rows[min(self.at, len(self.rows) - 1)])
        self._open(first.number, [of_index, *named], all_agree=is_git, blobs=blobs)

    def _pair(self) -> list[str]:
        """Read both names, and on to what follows them."""
        found = [names.said_in(self.rows[self.at].text)]
        self.at += 1
        if self._text(self.at).startswith("+++ "):
            found.append(names.said_in(self._text(self.at)))
            self.at += 1
        return found

    def _open(self, number: int, named: list[str], *, all_agree: bool, blobs: tuple[str, str] = ("", "")) -> None:
        path = names.meant(number, filter(None, named), self.files, all_agree=all_agree)
        self.sections.append(Section(number, path, *blobs))
        self.is_in_a_mail = False

    # --- hunks --------------------------------------------------------------------------------

    def _hunk(self, row: Row) -> None:
        if not self.sections:
            way_out = "write --- a/train.py and +++ b/train.py above it, with the name of the file"
            raise wrong(row.number, f"this hunk belongs to no file; {way_out}")
        hunk, self.at = body.read(self.rows, self.at, self._file)
        self.sections[-1].hunks.append(hunk)

    def _hunk_without_a_head(self) -> None:
        """``*** Update File`` may be followed by the lines at once."""
        if self._text(self.at)[:1] in (" ", "+", "-") and self._text(self.at):
            hunk, self.at = body.read_uncounted(self.rows, self.at, self.at, self._file)
            self.sections[-1].hunks.append(hunk)

    @property
    def _file(self) -> str:
        return self.files[self.sections[-1].path]

    # --- SEARCH/REPLACE -----------------------------------------------------------------------

    def _block(self, first: Row) -> None:
        middle, end = self._find(first, r"={5,9}"), self._find(first, r">{5,9} ?(?:REPLACE|UPDATED)\b.*")
        if not self.at < middle < end:
            raise wrong(first.number, "this block is not SEARCH, then =======, then REPLACE; write it so")
        self._open_for_a_block(first)
        search, replace = self.rows[self.at + 1 : middle], self.rows[middle + 1 : end]
        if odd := next((row for row in replace if re.fullmatch(r"={5,9}\r?", row.text)), None):
            raise wrong(odd.number, "a second ======= in one block: nobody can tell which one parts it; use git diff")
        lines = [*(Line("-", r.text, r.number) for r in search), *(Line("+", r.text, r.number) for r in replace)]
        self.sections[-1].hunks.append(Hunk(first.number, lines))
        self.at = end + 1

    def _find(self, first: Row, pattern: str) -> int:
        for at in range(self.at + 1, len(self.rows)):
            text = self.rows[at].text.rstrip("\r")
            if _SEARCH.fullmatch(text):
                break
            if re.fullmatch(pattern, text):
                return at
        raise wrong(first.number, "this block is not SEARCH, then =======, then REPLACE; write it so")

    def _open_for_a_block(self, first: Row) -> None:
        """The name stands on the line before; a further block is for the same file."""
        before = next((self.rows[at] for at in range(self.at - 1, -1, -1) if self.rows[at].text.strip()), None)
        named = names.tail_of(before.text.strip().strip("`*#: "), self.files) if before is not None else None
        if named is not None:
            self._open(first.number, [named], all_agree=True)
        elif not self.sections:
            raise wrong(first.number, "this block says not which file it is for; write its name on the line above")

    # --- words --------------------------------------------------------------------------------

    def _words(self, row: Row, text: str) -> None:
        """Skip a mail's or a model's words before the patch, and a mail's end; ValueError if they could be a change."""
        self._refuse_other_notations(row)
        if _CONFLICT.fullmatch(text):
            raise wrong(row.number, f"{shown(text)} marks a conflict; resolve it, and make the diff again")
        if body.is_signature(self.rows, self.at) or _MAIL.match(text):
            self.is_in_a_mail = True
        elif not self.is_in_a_mail and self.sections and self._is_a_mails_next_name():
            pass
        elif not self.is_in_a_mail or LIKE_A_CHANGE.match(text):
            raise wrong(row.number, body.why_not(text) if self.sections else _headless(text))
        self.at += 1

    def _refuse_other_notations(self, row: Row) -> None:
        for pattern, sentence in _OTHERS:
            if pattern.match(row.text):
                raise wrong(row.number, sentence)

    def _is_a_mails_next_name(self) -> bool:
        """aider's blocks may be followed by the next one's file name."""
        return names.tail_of(self.rows[self.at].text.strip().strip("`*#: "), self.files) is not None and bool(
            _SEARCH.match(self._text(self.at + 1))
        )


def _is_passed_over(text: str, of_index: str) -> bool:
    """Whether a line between a file's first header and its names is skipped."""
    return bool(not text.strip() or _DECORATION.fullmatch(text) or (of_index and _SVN.fullmatch(text)))


def _more(row: Row) -> ValueError:
    for pattern, sentence in _OTHERS:
        if pattern.match(row.text):
            return wrong(row.number, sentence)
    return wrong(row.number, f"{shown(row.text)} does more than change lines of a file; leave that part out")


def _headless(text: str) -> str:
    return f"{shown(text)} stands before any file's header; write --- a/train.py and +++ b/train.py above it"
