"""Compares a recipe's source with held-out text: what it holds, and what of that its base and origin do not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpu_runner.contract import Wire
from gpu_runner.data.manifest import HELD_OUT, WIDTH
from gpu_runner.data.overlap import Sought
from gpu_runner.leakage.forms import Stream, streams, token_numbers
from gpu_runner.leakage.held_out import Corpus
from gpu_runner.leakage.letters import STRIDE, Hashes, everywhere
from gpu_runner.leakage.unpack import Allowance

# Ten times the shipped recipe, and a patch has at most 100,000 bytes. A source made to be slow takes 15 s of CPU.
MAX_READ = 1 << 20  # bytes of all files of one source
MAX_DECODED = 2 << 20  # bytes that come out of one source, however it is nested; less than unpack.MAX_BYTES
MAX_PLACES = 5

Source = Mapping[str, bytes]  # path -> what the file holds
NOTHING: Hashes = np.empty(0, np.uint64)
WITHOUT_TEXT = "text, since the dataset's tokens came without their tokenizer; only numbers of tokens were compared"


class HeldOutPlace(Wire):
    """A place in the source that holds held-out text; the text itself is not told."""

    path: str
    line: int
    form: str
    num_letters: int


class Learned(Wire):
    """How many letters and digits of held-out text a source holds in any form, each counted once.

    Text that the training split holds as well is no secret and is not counted.
    """

    num_in_all: int
    num_gained: int  # that the campaign's first commit does not have
    num_new: int  # that the base commit does not have
    places: list[HeldOutPlace]  # of the new, or of what was gained where nothing is new; the most first
    unread: list[str]  # of the change, what was too much to be compared
    notes: list[str]  # what else could not be


@dataclass(frozen=True)
class Read:
    """A source's streams with their hashes, and what was not read: path ("": the whole source) -> a sentence."""

    streams: list[tuple[str, Stream, Hashes]]
    unread: dict[str, str]

    @property
    def hashes(self) -> Hashes:
        return np.unique(np.concatenate([NOTHING, *(hashes for _, _, hashes in self.streams)]))


def compare(dataset: Path, *, origin: Source, base: Source, source: Source) -> Learned:
    """Which held-out text ``source`` holds, and how much of it ``base`` and ``origin`` do not.

    ``source`` is ``base`` with the patch, ``origin`` the campaign's first commit. ValueError for a dataset that is not
    whole.
    """
    corpus = Corpus.open(dataset)
    read = _read(source, corpus)
    held_out, known = _held_out(corpus, read), [NOTHING, NOTHING]
    if len(held_out):
        known = [_read(earlier, corpus).hashes for earlier in (base, origin)]
    new, gained = (held_out[~np.isin(held_out, hashes)] for hashes in known)
    notes = [WITHOUT_TEXT] if corpus.table is None else []
    return Learned(
        num_in_all=_letters(held_out),
        num_gained=_letters(gained),
        num_new=_letters(new),
        places=_places(read, next((hashes for hashes in (new, gained, held_out) if len(hashes)), NOTHING)),
        unread=[one for path, one in read.unread.items() if source.get(path) != base.get(path) or not path],
        notes=notes + [one for path, one in read.unread.items() if path and source[path] == base.get(path)],
    )


def _held_out(corpus: Corpus, read: Read) -> Hashes:
    """The hashes of ``read`` that a held-out split has and the training text has not."""
    sought = Sought(read.hashes)
    for split in HELD_OUT:
        for hashes in corpus.stretches(split):
            sought.look(hashes)
    found = Sought(sought.hashes[sought.is_found])
    if len(found.hashes):
        for hashes in corpus.trained_on():
            found.look(hashes)
    return found.hashes[~found.is_found]


def _letters(hashes: Hashes) -> int:
    """How many letters so many hashes cover: stretches of held-out text begin at every STRIDE letters."""
    return STRIDE * len(hashes)


def _read(source: Source, corpus: Corpus) -> Read:
    """Hash all forms of all files, the smallest first, within MAX_READ and MAX_DECODED bytes."""
    allowance = Allowance(MAX_DECODED)
    left, found, unread = MAX_READ, [], {}
    for path, body in sorted(source.items(), key=lambda file: (len(file[1]), file[0])):
        if len(body) > left:
            unread[path] = f"{path} (over {left:,} bytes)"
            continue
        left -= len(body)
        found += [(path, stream, everywhere(stream.letters)) for stream in _streams(path, body, corpus, allowance)]
    if allowance.is_spent:
        unread[""] = f"what is packed in it beyond {MAX_DECODED >> 20} MiB"
    return Read(found, unread)


def _streams(path: str, body: bytes, corpus: Corpus, allowance: Allowance) -> Iterable[Stream]:
    if corpus.manifest.tokenizer.kind == "unknown":
        return [token_numbers(body, WIDTH[corpus.manifest.dtype])]
    return streams(path, body, corpus.table, allowance)


def _places(read: Read, hashes: Hashes) -> list[HeldOutPlace]:
    """Where these hashes stand: file and line, in the form that shows the most of them."""
    if not len(hashes):
        return []
    seen: Counter[tuple[str, int, str]] = Counter()
    for path, stream, all_of_it in read.streams:
        where = np.flatnonzero(np.isin(all_of_it, hashes))
        for line, num in zip(*np.unique(stream.lines[where], return_counts=True), strict=True):
            seen[path, int(line), stream.form] += int(num)
    return list(_ranked(seen))


def _ranked(seen: Counter[tuple[str, int, str]]) -> Iterator[HeldOutPlace]:
    told: set[tuple[str, int]] = set()
    for (path, line, form), num in seen.most_common():
        if (path, line) not in told and len(told) < MAX_PLACES:
            told.add((path, line))
            yield HeldOutPlace(path=path, line=line, form=form, num_letters=STRIDE * num)
