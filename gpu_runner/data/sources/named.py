"""Decides by the names of shards and their folders which are trained on and which are held out: by whole words only.

The words are those by which Hugging Face's ``datasets`` finds splits (datasets/data_files.py), and what people write
for a held-out part. A file's own name comes before its folders', and an inner folder's before an outer one's:
``test_data/train.bin`` is training text. A sentence says which file became what, and why, before anything is written
(``told``); every source puts these sentences into its ``notes``.

For shards only. Names of documents are titles: ``how_to_train_for_a_test.txt`` says nothing about a split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Literal

SplitSaid = Literal["train", "held_out"]

TRAIN_WORDS = frozenset({"train", "training", "trainset"})
HELD_OUT_WORDS = frozenset({"val", "valid", "validation", "dev", "test", "eval", "heldout", "holdout"})
HELD_OUT_WORDS |= {"valset", "devset", "testset", "evalset"}
# Only where they are all that a name says, beside numbers: evaluation_of_drugs_0001.bin is about something.
LONE_WORDS = frozenset({"evaluation", "testing"})
PAIRS = frozenset({("held", "out"), ("hold", "out")})
DEALT = "they are dealt to watch, val and sealed alike"  # a test file does not become the sealed split
NUM_NAMED = 3  # files that a sentence names; of the others it says how many they are


@dataclass(frozen=True)
class Said:
    """The split that a name says, with the word and the name, for the sentence."""

    split: SplitSaid
    word: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which shards are trained on and which are held out, in the order in which they came.

    ``held_out`` is empty where no name says so; then the source decides by something else.
    """

    train: tuple[Path, ...]
    held_out: tuple[Path, ...]
    notes: tuple[str, ...]


def split_said_by(relative: PurePath | str) -> Said | None:
    """What a shard's path, below its source's folder, says; None where it says nothing.

    ValueError where the file's own name says both. A folder that says both (``train_val/``) counts as saying nothing.
    """
    path = PurePath(relative)
    own = _said(path.name)
    if len(own) == 2:
        raise ValueError(
            f"{relative}: its name says both {own[0].word!r} and {own[1].word!r}; rename it, so that it says one"
        )
    for said in (own, *(_said(folder) for folder in reversed(path.parts[:-1]))):
        if len(said) == 1:
            return said[0]
    return None


def plan(folder: Path, paths: Iterable[Path], read_as: Mapping[Path, PurePath] | None = None) -> Plan:
    """Plan ``paths`` below ``folder`` by their names. Where some are held out, those that say nothing are trained on.

    ``read_as``: names to read instead of some files' own, for documents, whose names are titles.
    ValueError where a name contradicts itself, or where all of them are held out.
    """
    heard = read_as or {}
    said = {path: split_said_by(heard.get(path) or path.relative_to(folder)) for path in paths}
    held = tuple(path for path, one in said.items() if one and one.split == "held_out")
    is_held = set(held)
    if held and len(held) == len(said):
        raise ValueError(
            f"--from: nothing in {folder} would be trained on: {_why(said, held)}; give the training text as well,"
            " or rename the files that are"
        )
    train = tuple(path for path in said if path not in is_held)
    return Plan(train=train, held_out=held, notes=tuple(_sentences(folder, said, train, held)))


def told(what: str, names: Sequence[str], why: str) -> str:
    """A sentence for the notes: ``Held out: 2 files (a_val_0.bin, a_val_1.bin), since ...``."""
    shown = ", ".join(names[:NUM_NAMED])
    more = f" and {len(names) - NUM_NAMED:,} more" if len(names) > NUM_NAMED else ""
    return f"{what}: {len(names):,} file{'s' * (len(names) != 1)} ({shown}{more}), {why}."


def _sentences(
    folder: Path, said: dict[Path, Said | None], train: tuple[Path, ...], held: tuple[Path, ...]
) -> Iterable[str]:
    speaking = tuple(path for path in train if said[path])
    silent = tuple(path for path in train if not said[path])
    if not held:  # what is held out of them is not for names to say
        return
    if speaking:
        yield told("Trained on", _names(folder, speaking), f"since {_why(said, speaking)}")
    if silent:
        yield told("Trained on", _names(folder, silent), "since their names say nothing and others' say 'held out'")
    yield told("Held out", _names(folder, held), f"since {_why(said, held)}; {DEALT}")


def _names(folder: Path, paths: Iterable[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def _why(said: dict[Path, Said | None], paths: Iterable[Path]) -> str:
    """``the name of a_val_0.bin says 'val'``, once for each word."""
    first: dict[str, Said] = {}
    for one in filter(None, map(said.__getitem__, paths)):
        first.setdefault(one.word, one)
    return " and ".join(f"the name {one.name} says {word!r}" for word, one in first.items())


def _said(name: str) -> list[Said]:
    """The splits that one name says: none, one or both."""
    words = list(words_of(name))
    said: dict[SplitSaid, Said] = {}
    for word in (*words, *("".join(pair) for pair in pairwise(words) if pair in PAIRS)):
        if word in TRAIN_WORDS:
            said.setdefault("train", Said("train", word, name))
        elif word in HELD_OUT_WORDS or (words == [word] and word in LONE_WORDS):
            said.setdefault("held_out", Said("held_out", word, name))
    return list(said.values())


def words_of(name: str) -> Iterable[str]:
    """The words of a name in lower case, without suffixes: split at non-letters and at capitals within a word."""
    for run in re.findall(r"[^\W\d_]+", _stem(name)):
        yield from (word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z]+", run))


def _stem(name: str) -> str:
    """The name without ``.bin``, ``.jsonl.gz`` and the like."""
    suffix = re.search(r"(\.(bin|npy|parquet|jsonl?|ndjson|txt|gz|zst|xz|bz2))+$", name, re.IGNORECASE)
    return name[: suffix.start()] if suffix else name
