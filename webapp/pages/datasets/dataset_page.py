"""What the pages of datasets show, in words where a number alone says little."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gpu_runner import contract
from research.begin import datasets
from research.begin.catalogue import Entry
from research.models import Worker

PURPOSES = {
    "train": "runs learn from it",
    "watch": "the live curve of a run",
    "val": "every run is scored on it",
    "sealed": "read at a promotion only",
}
NOTABLE = 0.01  # of a held-out split in the training text: above it `data prepare` speaks up, too


@dataclass(frozen=True)
class Row:
    """One split."""

    name: str
    summary: contract.SplitSummary

    @property
    def purpose(self) -> str:
        return PURPOSES[self.name]

    @property
    def bytes_a_token(self) -> float | None:
        known = self.summary.num_bytes is not None and self.summary.num_tokens
        return (self.summary.num_bytes or 0) / self.summary.num_tokens if known else None


@dataclass(frozen=True)
class Sentence:
    words: str
    is_notable: bool = False


@dataclass(frozen=True)
class Shown:
    """One manifest of one name, for a page or a shell."""

    entry: Entry

    @cached_property
    def splits(self) -> list[Row]:
        said = self.entry.summary
        return [] if said is None else [Row(name, said.splits[name]) for name in contract.SPLIT_NAMES]

    @property
    def train(self) -> contract.SplitSummary | None:
        return self.splits[0].summary if self.splits else None

    @property
    def held_out_tokens(self) -> int | None:
        return sum(row.summary.num_tokens for row in self.splits[1:]) if self.splits else None

    @property
    def tokenizer(self) -> str:
        """Its kind, size and how a document ends."""
        said = self.entry.summary
        if said is None:
            return ""
        name = {"bytes": "bytes", "unknown": "unknown: tokens came without it"}.get(said.tokenizer, said.tokenizer)
        ends = "documents are not marked" if said.separator is None else f"{said.separator} ends a document"
        return f"{name}, {said.vocab:,} tokens in {said.dtype}, {ends}"

    @cached_property
    def overlap(self) -> list[Sentence]:
        return [_overlap(row) for row in self.splits[1:]]

    @property
    def most_shared(self) -> float | None:
        """The largest share of a held-out split that stands in the training text."""
        found = [row.summary.overlap for row in self.splits[1:]]
        shares = [one.num_shared / one.num for one in found if one is not None and one.num]
        return max(shares, default=None)

    @property
    def is_notable(self) -> bool:
        return any(sentence.is_notable for sentence in self.overlap)

    @cached_property
    def workers(self) -> list[tuple[Worker, bool]]:
        """Each with whether it was heard of within the last minutes."""
        here = set(datasets.here().values_list("pk", flat=True))
        return [(one, one.pk in here) for one in self.entry.workers]


def _overlap(row: Row) -> Sentence:
    found = row.summary.overlap
    if found is None:
        return Sentence(f"How much of {row.name} stands in the training text was not measured.")
    runs = f"runs of {found.length} {found.unit}"
    if not found.num:
        return Sentence(f"{row.name} is too short to have {runs} to look for.")
    share = found.num_shared / found.num
    counted = f"{found.num_shared:,} of {found.num:,}"
    if not found.num_shared:
        return Sentence(f"None of {row.name}’s {found.num:,} {runs} stands in the training text.")
    words = f"{_percent(share)} of {row.name}’s {runs} stand in the training text, too ({counted})."
    if share <= NOTABLE:
        return Sentence(words)
    return Sentence(f"{words} What repeats is cheap to predict for a model that remembers it.", is_notable=True)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "Less than 0.1 %"


def clash_of(shown: list[Shown]) -> str:
    """Who has which, where workers or campaigns have different datasets of one name; "" where they do not."""
    if len(shown) < 2:
        return ""
    parts = [f"{one.entry.sha256[:12]} {_whose(one.entry)}" for one in shown]
    return f"{'; '.join(parts)}."


def _whose(entry: Entry) -> str:
    have = f"on {', '.join(one.name for one in entry.workers)}" if entry.workers else "on no worker"
    used = f", used by {', '.join(one.name for one in entry.campaigns)}" if entry.campaigns else ""
    return have + used
