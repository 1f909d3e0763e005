"""Finds the token that separates documents in tokens that somebody else made, by counting, never by its name alone.

A tokenizer names several special tokens, and its end of a text may occur nowhere: llm.c and modded-nanogpt BEGIN each
document with ``<|endoftext|>`` (50256) or, for Llama 3, with ``<|begin_of_text|>`` (128000).

Everything that reads a dataset (the recipe's document mask, the counts of documents) expects a separator behind each
document. Where the source has one before each, the first is dropped and one is written at the end; between any two
documents nothing changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpu_runner.data.progress import Silent
from gpu_runner.data.sources import nanogpt, widths
from gpu_runner.data.sources.source import TokenFile, TokenSource
from gpu_runner.data.tokenizers import special_tokens
from gpu_runner.data.tokenizers.encoder import BEGIN_OF_TEXT, END_OF_TEXT, Encoder
from gpu_runner.data.tokens import Ids

LOOKED_AT = 1 << 24  # tokens, which have thousands of documents; further only while nothing is found
NUM_NAMED = 5  # special tokens that a sentence names
RIVAL = 2  # an end of text is preferred to a beginning that occurs up to so many times as often: [begin ... end]


@dataclass(frozen=True)
class Marked:
    """How documents are marked.

    ``separator`` is None where they are not; ``begins``: it stands before each document.
    """

    separator: int | None
    begins: bool = False


@dataclass(frozen=True)
class Seen:
    """How often each of the counted tokens occurs, and with which tokens files begin and end."""

    counts: dict[int, int]  # only of those that occur
    num_tokens: int  # looked at
    firsts: list[int]
    lasts: list[int]

    def begins(self, token: int) -> bool:
        return self.firsts.count(token) > self.lasts.count(token)


def find_separator(source: TokenSource, encoder: Encoder | None, wanted: str | None, progress: Silent) -> Marked:
    """The separator of ``source``; told through ``progress``.

    ValueError when ``wanted`` occurs nowhere, or when documents have to be dealt one by one and nothing marks them.
    """
    if encoder is None:
        return _by_number(source, wanted, progress)
    names = {token: name for name, token in special_tokens(encoder).items()}
    assert encoder.about.separator is not None
    sought = {encoder.about.separator} if wanted is not None else set(names)
    seen = look(source, sought, set(names), encoder.about.vocab)
    separator = _chosen(seen, names, encoder.about.separator, wanted)
    if separator is None:
        _refuse_unmarked(source, f"a --separator by its number: of the tokenizer's, {_occurring(seen, names)}")
        progress.say(f"Documents are not marked: {_occurring(seen, names)}. Held-out text is cut by its length.")
        return Marked(None)
    return _told(seen, separator, names[separator], progress)


def _by_number(source: TokenSource, wanted: str | None, progress: Silent) -> Marked:
    """The separator by its number, since without a tokenizer no token has a name."""
    if wanted is None:
        seen = look(source, set(), {source.files[0].at(0)})
        (first,) = seen.firsts[:1]
        ways = "the --tokenizer, or a --separator by its number"
        _refuse_unmarked(source, f"{ways} (the first of its tokens, {first}, occurs {seen.counts[first]:,} times)")
        return Marked(None)
    if not wanted.isdecimal():
        raise ValueError(f"--separator: {wanted!r} is no number; without --tokenizer only a token's number is known")
    token = int(wanted)
    seen = look(source, {token}, {token, source.files[0].at(0)})
    if token not in seen.counts:
        first = seen.firsts[0]
        raise ValueError(
            f"--separator: {token} occurs nowhere in {seen.num_tokens:,} tokens; the first of them, {first}, occurs"
            f" {seen.counts[first]:,} times"
        )
    return _told(seen, token, None, progress)


def look(source: TokenSource, sought: set[int], counted: set[int], vocab: int | None = None) -> Seen:
    """Count the tokens of ``counted`` in LOOKED_AT tokens, and further until one of ``sought`` occurs.

    ValueError for tokens beyond ``vocab``.
    """
    wanted, counts, num_tokens = sorted(counted), Counter[int](), 0
    for read_from, piece in _held_out_first(source):
        refuse_foreign(read_from, piece, vocab)
        counts.update(_counted(piece, wanted))
        num_tokens += len(piece)
        if num_tokens >= LOOKED_AT and (not sought or sought & set(counts)):
            break
    firsts, lasts = [file.at(0) for file in source.files], [file.at(-1) for file in source.files]
    return Seen(dict(counts), num_tokens, firsts, lasts)


def _counted(piece: Ids, wanted: Sequence[int]) -> dict[int, int]:
    """How often each of ``wanted`` (sorted) occurs.

    Special tokens have neighbouring ids, so few tokens lie in their range.
    """
    lowest, highest = wanted[0], wanted[-1]
    near = piece[(piece >= lowest) & (piece <= highest)].astype(np.intp) - lowest
    times = np.bincount(near, minlength=highest - lowest + 1)
    return {token: int(times[token - lowest]) for token in wanted if times[token - lowest]}


def refuse_foreign(file: TokenFile, piece: Ids, vocab: int | None) -> None:
    """ValueError for a token beyond ``vocab``: of another tokenizer, or read in another width.

    None: no tokenizer is known.
    """
    if vocab is None or (highest := int(piece.max())) < vocab:
        return
    fitting = [] if file.offset else widths.within(file.path, vocab)
    others = [name for name in fitting if widths.STORED[name] != file.stored]
    raise ValueError(
        f"--tokenizer: has {vocab:,} tokens, but {file.path} holds the token {highest:,}; name the tokenizer that made"
        f" it{f', or its width: {nanogpt.other_widths(others)}' if others else ''}"
    )


def _held_out_first(source: TokenSource) -> Iterator[tuple[TokenFile, Ids]]:
    for file in source.held_out + source.train:
        for piece in file.pieces():
            yield file, piece


def _chosen(seen: Seen, names: dict[int, str], own: int, wanted: str | None) -> int | None:
    """The token that was asked for, else the most likely separator.

    ValueError where the one asked for occurs nowhere.
    """
    if wanted is not None:
        if own not in seen.counts:
            raise ValueError(
                f"--separator: {names[own]} ({own}) occurs nowhere in {seen.num_tokens:,} tokens;"
                f" {_occurring(seen, names)}. Name that one, or leave --separator out"
            )
        return own
    known = {names[token]: num for token, num in seen.counts.items() if names[token] in END_OF_TEXT + BEGIN_OF_TEXT}
    by_name = {name: token for token, name in names.items()}
    most = max(known.values(), default=0)
    for name in (*END_OF_TEXT, *BEGIN_OF_TEXT):
        if known.get(name, 0) * RIVAL >= most > 0:
            return by_name[name]
    edges = {*seen.firsts} if len({*seen.firsts}) == 1 else {*seen.lasts} if len({*seen.lasts}) == 1 else set()
    return next((token for token in edges if seen.counts.get(token, 0) > 1), None)


def _told(seen: Seen, separator: int, name: str | None, progress: Silent) -> Marked:
    num = seen.counts[separator]
    begins = seen.begins(separator)
    called = f"{name} ({separator})" if name else f"the token {separator}"
    how = "begins each document, and is written behind it" if begins else "stands behind each document"
    progress.say(
        f"Separator: {called} {how}: {num:,} times in {seen.num_tokens:,} tokens, one in {seen.num_tokens // num:,}."
    )
    return Marked(separator, begins)


def _refuse_unmarked(source: TokenSource, ways: str) -> None:
    if not source.held_out:
        raise ValueError(
            f"--separator: the source holds nothing out and does not say where documents end; name {ways}. Or give a"
            " file whose name says 'val' beside it"
        )


def _occurring(seen: Seen, names: dict[int, str]) -> str:
    """``of its special tokens there occur <|x|> (7) 12 times and ...``."""
    most = sorted(seen.counts.items(), key=lambda pair: -pair[1])[:NUM_NAMED]
    if not most:
        sought = ", ".join(f"{name} ({token})" for token, name in list(names.items())[:NUM_NAMED])
        return f"none of its special tokens occurs ({sought}{', ...' * (len(names) > NUM_NAMED)})"
    return "there occur " + ", ".join(f"{names[token]} ({token}) {num:,} times" for token, num in most)


class Ended:
    """The stream with one separator behind each document, also where the source has one before each.

    Of several in a row one is kept; ``num_empty`` counts the others.
    """

    def __init__(self, marked: Marked) -> None:
        self.marked = marked
        self.num_empty = 0

    def of(self, pieces: Iterator[Ids]) -> Iterator[Ids]:
        if self.marked.separator is None:
            yield from pieces
            return
        last = np.array([self.marked.separator])  # before the head stands nothing, as behind a separator
        num_left_out = 0
        for piece in pieces:
            is_end = piece == self.marked.separator
            is_empty = is_end & np.concatenate([last == self.marked.separator, is_end[:-1]])
            num_left_out += int(np.count_nonzero(is_empty))
            last = piece[-1:]
            if len(kept := piece[~is_empty]):
                yield kept
        if self.marked.begins and int(last[0]) != self.marked.separator:
            yield np.array([self.marked.separator], last.dtype)
        self.num_empty += max(num_left_out - self.marked.begins, 0)  # the one at the head begins a document
