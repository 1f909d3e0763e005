"""What an import reads: experiments of somebody else's loop, whose numbers are theirs. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from gpu_runner.contract import canonical_json, sha256
from research.change.visible import readable

Kind = Literal["autoresearch", "wandb", "mlflow", "trackio"]
KINDS: dict[Kind, str] = {
    "autoresearch": "autoresearch",
    "wandb": "Weights & Biases",
    "mlflow": "MLflow",
    "trackio": "trackio",
}
Outcome = Literal["kept", "discarded", "crashed", "unsaid"]
Direction = Literal["lower", "higher"]

MAX_BYTES = 4 * 2**20  # of one table; the longest that was found in public has 0.1 MB
MAX_ROWS = 5_000  # as many as the record tells a proposer of its own
MAX_TITLE_CHARS, MAX_TEXT_CHARS = 200, 4_000
MAX_CELL_CHARS = 500
MAX_EXTRAS = 200  # names beside the known ones, a row
MAX_NAME_CHARS = 120
MAX_PATCH_CHARS = 20_000
MAX_MESSAGE_CHARS = 2_000


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment as its source tells it. ``line`` is that of its file, or its place among the runs of a folder."""

    line: int
    title: str
    description: str = ""
    commit: str = ""
    outcome: Outcome = "unsaid"
    said: str = ""  # the source's own word for it
    value: float | None = None  # of the metric
    memory_mib: float | None = None
    train_s: float | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    extras: dict[str, str] = field(default_factory=dict)
    parent: int | None = None  # the line of the experiment that it stands on
    is_git_s: bool = False  # git says so, not the order of the lines
    patch: str = ""
    message: str = ""

    @property
    def key(self) -> str:
        """What makes it the same experiment when it is read again, from a file that has grown since."""
        said = [self.commit, self.title, self.description, self.said, self.value, self.parameters, self.extras]
        return sha256(canonical_json(said))[:32]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A line that is no experiment, or cannot be read as one, and why."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """What was made of one of the source's columns: ``field`` is ours, ``extra`` where we have none for it."""

    theirs: str
    field: str
    sample: str = ""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the reader of a source chose: their name -> our field, the metric, and which way is better; "" by itself.

    ``ours`` and ``our_direction`` are the campaign's: taken where nothing was chosen and the source has that number.
    """

    columns: dict[str, str] = field(default_factory=dict)
    metric: str = ""
    direction: Direction | Literal[""] = ""
    ours: str = ""
    our_direction: Direction | Literal[""] = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All that a source holds. ``num_read`` lines are either experiments or refused; nothing is left out silently."""

    kind: Kind
    name: str
    sha256: str
    metric: str  # "" where none was found
    direction: Direction
    experiments: tuple[Experiment, ...]
    refused: tuple[Refused, ...] = ()
    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()  # what was done that one might not expect, in sentences

    @property
    def num_read(self) -> int:
        return len(self.experiments) + len(self.refused)

    @property
    def kept(self) -> tuple[Experiment, ...]:
        return tuple(e for e in self.experiments if e.outcome == "kept")


def line_of(text: str, limit: int = MAX_CELL_CHARS) -> str:
    """Somebody else's text on one line: what cannot be seen is written as its code point; a cut end says so."""
    plain = len(text) <= limit and text.isascii() and text.isprintable()  # most cells of most tables
    flat = " ".join((text if plain else readable(text[: limit * 2])).split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def text_of(text: str, limit: int = MAX_TEXT_CHARS) -> str:
    """Somebody else's prose, with its lines."""
    shown = readable(text[: limit + 1]).strip()
    return shown if len(shown) <= limit else f"{shown[:limit]}\n(cut)"


def is_better(one: float, other: float, direction: Direction) -> bool:
    return one < other if direction == "lower" else one > other


_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def is_commit(text: str) -> bool:
    """Whether ``text`` can be the name of a commit; loops also write ``HEAD``, ``exp12`` and ``n/a``."""
    return _COMMIT.fullmatch(text) is not None
