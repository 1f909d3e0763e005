"""Turns what a process draws on its terminal into the lines that a person would have seen there.

Progress bars (tqdm, rich, pip, torch.hub, datasets, Keras, curl, git) do not end their lines: they go back and draw
anew, with carriage returns, backspaces and escapes. A log wants the last state of each.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

from gpu_runner.process.child import Take

MAX_ROWS = 32  # of one drawing that moves up and down, as bars under each other do
MAX_COLUMNS = 1_000  # where a cursor can go; no screen is wider, and what is longer costs more than it may
MAX_ESCAPE = 4_096  # characters; one that is longer is none
# What moves or wipes. Other escapes are colours, titles and links, and leave no mark.
_ESCAPE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
_CONTROL = re.compile(rf"[\n\r\b]|{_ESCAPE}")
_MOVE = re.compile(r"\x1b\[(\d{0,4})([ABCDEFGHJKP])")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b\n]*\x1b?|[ -/]*)?\Z")


@dataclass
class _Row:
    """One line of the screen, a character a cell."""

    cells: list[str] = field(default_factory=list)
    is_new: bool = False  # drawn since it was last told
    told: bytes = b""  # a table that grows is drawn again with every row: those that stay as they were are no news

    def put(self, at: int, said: str) -> None:
        self.cells += " " * (at - len(self.cells))
        self.cells[at : at + len(said)] = said
        self.is_new = True

    def wipe(self, first: int, last: int | None = None) -> None:
        """Blank the row from ``first`` on, or up to ``last``, or all of it."""
        if last is None:
            del self.cells[first:]
        else:
            last = min(last, len(self.cells))
            self.cells[first:last] = " " * (last - first)
        self.is_new = True

    def cut(self, at: int, count: int) -> None:
        if len(self.cells) <= MAX_COLUMNS:
            del self.cells[at : at + count]


@dataclass
class Terminal:
    """Takes bytes and gives lines that are not blank: when the cursor leaves them, and again when they have changed.

    ``take`` gets UTF-8; None for a line of more than ``max_bytes``, of which no more than that is kept. After a
    carriage return the first letter wipes the line, since a program that draws a shorter state wants only that to be
    seen.
    """

    take: Take
    max_bytes: int
    rows: list[_Row] = field(default_factory=lambda: [_Row()])
    y: int = 0
    x: int = 0
    is_back: bool = False  # a carriage return came, and nothing since
    kept: str = ""

    def __post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, block: bytes) -> None:
        self._draw(self.kept + self._decoder.decode(block))

    def close(self) -> None:
        """Take the last line. It may lack its newline, its last letter some bytes; an unfinished escape is dropped."""
        self._draw(self.kept + self._decoder.decode(b"", final=True))
        self.kept = ""
        self._tell_all()

    # --- drawing ----------------------------------------------------------------------------

    def _draw(self, said: str) -> None:
        end = _whole(said)
        self.kept, start = said[end:], 0
        for found in _CONTROL.finditer(said, 0, end):
            self._write(said[start : found.start()])
            self._obey(found[0])
            start = found.end()
        self._write(said[start:end])

    def _write(self, said: str) -> None:
        if not said:
            return
        row = self.rows[self.y]
        if self.is_back:
            row.wipe(0)
            self.is_back = False
        room = max(0, self.max_bytes + 1 - self.x)  # one too many tells that it is too long
        row.put(self.x, said[:room])
        self.x += min(len(said), room)

    def _obey(self, control: str) -> None:
        if control == "\n":
            self._new_line()
        elif control == "\r":
            self.x, self.is_back = 0, True
        elif control == "\b":
            self._move_to(self.x - 1)
        elif move := _MOVE.fullmatch(control):
            self._move(move[2], int(move[1]) if move[1] else None)

    def _move(self, what: str, number: int | None) -> None:
        count = max(1, number or 1)
        if what in "AF":
            self.y = max(0, self.y - count)
        elif what in "BE":
            self.y = min(len(self.rows) - 1, self.y + count)
        elif what in "CDG":
            self._move_to({"C": self.x + count, "D": self.x - count, "G": count - 1}[what])
        elif what == "H":
            self.x, self.is_back = 0, True
        elif what == "P":
            self.rows[self.y].cut(self.x, count)
        else:
            self._wipe(what, number or 0)
        if what in "EF":
            self.x, self.is_back = 0, True

    def _move_to(self, x: int) -> None:
        """Move the cursor within the line; what stands there stays."""
        if self.x <= MAX_COLUMNS:
            self.x, self.is_back = min(max(0, x), MAX_COLUMNS), False

    def _wipe(self, what: str, how: int) -> None:
        """K: from the cursor on (0), up to it (1) or all of the line (2). J: the lines below or above, too.

        Clearing the screen (J, 2 or 3) wipes nothing here: lines that are not drawn over may be a program's last words.
        """
        if self.x > MAX_COLUMNS or (what == "J" and how > 1):
            return
        row = self.rows[self.y]
        if how == 0:
            row.wipe(self.x)
        else:
            row.wipe(0, self.x + 1 if how == 1 else None)
        if what == "J":
            for other in self.rows[self.y + 1 :] if how == 0 else self.rows[: self.y]:
                other.wipe(0)

    # --- telling ----------------------------------------------------------------------------

    def _new_line(self) -> None:
        self.x, self.is_back = 0, False
        self.y += 1
        if self.y < len(self.rows):
            return
        self._tell_all()
        self.rows = [*self.rows[1 - MAX_ROWS :], _Row()]
        self.y = len(self.rows) - 1

    def _tell_all(self) -> None:
        """Give all rows that were drawn since they were last given.

        The cursor passes the last row only by leaving the others.
        """
        for row in self.rows:
            line = "".join(row.cells).rstrip(" ").encode() if row.is_new else b""
            row.is_new = False
            if line and line != row.told:
                row.told = line
                self.take(None if len(line) > self.max_bytes else line)


def _whole(said: str) -> int:
    """Where an unfinished escape begins at the end of ``said``; its length where there is none."""
    found = _UNFINISHED.search(said, max(0, len(said) - MAX_ESCAPE))
    return len(said) if found is None else found.start()


def shown(text: str) -> list[str]:
    """The lines of a text that may hold drawings, without blank ones."""
    lines: list[str] = []
    terminal = Terminal(lambda line: lines.append((line or b"").decode()), max_bytes=4 * len(text) + MAX_COLUMNS)
    terminal.feed(text.encode(errors="ignore"))  # half a letter is none
    terminal.close()
    return lines
