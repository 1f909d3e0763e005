"""Writes a source's documents, or its tokens, into the four splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np

from gpu_runner.data.dealing import Dealing, Repeats
from gpu_runner.data.manifest import WIDTH, Dtype, Split, Tokenizer
from gpu_runner.data.progress import Silent
from gpu_runner.data.separators import Ended, Marked, refuse_foreign
from gpu_runner.data.sources.source import Document, TextSource, TokenFile, TokenSource
from gpu_runner.data.splits import SplitWriter, held_out_bounds, open_writers, split_of, thinning
from gpu_runner.data.tokenizers.encoder import Encoder, Unencodable
from gpu_runner.data.tokens import Ids

BATCH_BYTES = 4_000_000  # of text, tokenized at once: enough for every core, little to hold


class Written(TypedDict):
    """The fields of a manifest that follow from writing."""

    tokenizer: Tokenizer
    dtype: Dtype
    splits: dict[str, Split]


# --- text -------------------------------------------------------------------------------------


def write_texts(home: Path, source: TextSource, encoder: Encoder, progress: Silent) -> Written:
    """Tokenize every document into its split, a separator behind each. ValueError names the document at fault."""
    assert encoder.about.separator is not None
    dtype = narrowest(encoder.about.vocab)
    dealing = Dealing(
        thinned_by=thinning(source.num_bytes), zero_ends=encoder.about.kind == "bytes", left_out=source.left_out
    )
    end = np.array([encoder.about.separator])
    end_bytes = int(encoder.token_bytes[end[0]])
    with (
        open_writers(home, dtype, encoder.token_bytes) as writers,
        progress.stage("Tokenizing", source.num_bytes),
    ):
        for batch in _batches(_dealt(source.documents(), dealing)):
            for document, ids in zip(batch, _encode(encoder, batch), strict=True):
                assert document.split
                num_bytes = len(document.text) + end_bytes
                writers[document.split].append(np.concatenate([ids, end]), num_bytes=num_bytes, num_documents=1)
            progress.advance(sum(len(document.text) for document in batch))
        splits = {split: writer.close(counts_documents=True) for split, writer in writers.items()}
    return Written(tokenizer=encoder.about, dtype=dtype, splits=splits)


def narrowest(vocab: int) -> Dtype:
    """The smallest shard type that holds every id."""
    dtypes: tuple[Dtype, ...] = ("uint8", "uint16", "uint32")
    return next(dtype for dtype in dtypes if vocab <= 1 << 8 * WIDTH[dtype])


def _dealt(documents: Iterable[Document], dealing: Dealing) -> Iterator[Document]:
    """The documents that are kept, each with its split."""
    for document in documents:
        if split := dealing.split_of(document):
            yield Document(name=document.name, text=document.text, split=split)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    num_bytes = 0
    for document in documents:
        batch.append(document)
        num_bytes += len(document.text)
        if num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def _encode(encoder: Encoder, batch: list[Document]) -> list[Ids]:
    """Ids of every document.

    ValueError names one that is not UTF-8, that the tokenizer cannot take, or whose tokens have another number of bytes
    than its text.
    """
    try:
        encoded = encoder.encode([document.text for document in batch])
    except UnicodeDecodeError:
        for document in batch:
            _refuse_other_encoding(document)
        raise
    except Unencodable as error:
        culprit = batch[_find_unencodable(encoder, batch) if error.index is None else error.index]
        raise ValueError(f"{culprit.name}: {error}") from error
    token_bytes = encoder.token_bytes
    for document, ids in zip(batch, encoded, strict=True):
        if (found := int(token_bytes[ids].sum(dtype=np.int64))) != len(document.text):
            raise ValueError(
                f"--tokenizer: gives {document.name} tokens of {found:,} bytes, but the text has"
                f" {len(document.text):,}: it changes or drops text, so nothing could be measured in bits per byte"
            )
    return encoded


def _find_unencodable(encoder: Encoder, batch: list[Document]) -> int:
    """Index of the document that the tokenizer cannot take, found one by one."""
    for index, document in enumerate(batch):
        try:
            encoder.encode([document.text])
        except Unencodable:
            return index
    return 0


def _refuse_other_encoding(document: Document) -> None:
    try:
        document.text.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{document.name}: is not UTF-8 ({error.reason} at byte {error.start:,}); convert it, or use"
            " --tokenizer bytes"
        ) from error


# --- tokens -----------------------------------------------------------------------------------


def write_tokens(home: Path, source: TokenSource, encoder: Encoder | None, marked: Marked, progress: Silent) -> Written:
    """Copy a source's tokens into the splits. ValueError when they are not of the tokenizer, or cannot be split."""
    with (
        open_writers(home, source.dtype, encoder.token_bytes if encoder else None) as writers,
        progress.stage("Copying tokens", source.num_bytes),
    ):
        copying = _Copying(writers, encoder, marked, progress)
        if source.held_out:
            copying.straight(source.train)
            copying.held_out(source.held_out)
        else:
            copying.by_hash(source.train, thinning(source.num_bytes))
        is_marked = marked.separator is not None
        splits = {split: writer.close(counts_documents=is_marked) for split, writer in writers.items()}
    if copying.ended.num_empty:
        progress.say(f"Left out: {copying.ended.num_empty:,} separators with no document before them.")
    if copying.num_repeated:
        progress.say(f"Left out: {copying.num_repeated:,} repeated documents of what is held out.")
    about = encoder.about if encoder else _unknown(copying.largest)
    return Written(
        tokenizer=about.model_copy(update={"separator": marked.separator}), dtype=source.dtype, splits=splits
    )


def _unknown(largest: int) -> Tokenizer:
    return Tokenizer(kind="unknown", sha256=None, vocab=largest + 1, separator=None, token_bytes_sha256=None)


class _Copying:
    """Copies tokens into splits; ``largest`` is the highest id so far."""

    def __init__(
        self, writers: dict[str, SplitWriter], encoder: Encoder | None, marked: Marked, progress: Silent
    ) -> None:
        self.writers, self.marked, self.progress = writers, marked, progress
        self.ended = Ended(marked)
        self.token_bytes = encoder.token_bytes if encoder else None
        self.vocab = encoder.about.vocab if encoder else None
        self.repeats = Repeats()
        self.largest = self.num_repeated = 0

    def straight(self, files: Iterable[TokenFile]) -> None:
        """Copy all tokens to train."""
        for piece in self._pieces(files):
            self._append("train", piece)

    def held_out(self, files: tuple[TokenFile, ...]) -> None:
        """Copy to the held-out splits: whole documents by hash where they are marked, else one stretch for each."""
        if self.marked.separator is not None:
            for document in self._documents(files):
                self._deal(document, held_out=True, thinned_by=1)
            return
        bounds, position = held_out_bounds(sum(file.num_tokens for file in files)), 0
        for piece in self._pieces(files):
            for split, (start, stop) in bounds.items():
                self._append(split, piece[max(start - position, 0) : max(stop - position, 0)])
            position += len(piece)

    def by_hash(self, files: tuple[TokenFile, ...], thinned_by: int) -> None:
        """Deal documents to all four splits by hash."""
        for document in self._documents(files):
            self._deal(document, held_out=None, thinned_by=thinned_by)

    def _deal(self, document: Ids, *, held_out: bool | None, thinned_by: int) -> None:
        """Copy a document to its split; a held-out split has each document once."""
        body = document.tobytes()
        split = split_of(body, held_out=held_out, thinned_by=thinned_by)
        if split != "train" and self.repeats.has(body):
            self.num_repeated += 1
        else:
            self._append(split, document)

    def _append(self, split: str, tokens: Ids) -> None:
        num_bytes = 0 if self.token_bytes is None else int(self.token_bytes[tokens].sum(dtype=np.int64))
        separator = self.marked.separator
        num_ends = 0 if separator is None else int(np.count_nonzero(tokens == separator))
        self.writers[split].append(tokens, num_bytes=num_bytes, num_documents=num_ends)

    def _pieces(self, files: Iterable[TokenFile]) -> Iterator[Ids]:
        """The files as one stream of tokens, a separator behind each document."""
        return self.ended.of(self._read(files))

    def _read(self, files: Iterable[TokenFile]) -> Iterator[Ids]:
        for file in files:
            for piece in file.pieces():
                refuse_foreign(file, piece, self.vocab)
                self.largest = max(self.largest, int(piece.max()))
                yield piece
                self.progress.advance(piece.nbytes)

    def _documents(self, files: Iterable[TokenFile]) -> Iterator[Ids]:
        """Documents: the tokens up to and with each separator, and what stands behind the last one."""
        begun: list[Ids] = []
        for piece in self._pieces(files):
            ends = np.flatnonzero(piece == self.marked.separator) + 1
            *whole, rest = np.split(piece, ends)
            for document in whole:
                yield np.concatenate([*begun, document])
                begun = []
            if len(rest):
                begun.append(rest)
        if begun:
            yield np.concatenate(begun)
