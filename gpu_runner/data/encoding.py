"""Documents of text, or tokens that somebody else made, to the four splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np

from gpu_runner.data.dealing import Dealing
from gpu_runner.data.manifest import WIDTH, Dtype, Split, Tokenizer
from gpu_runner.data.progress import Silent
from gpu_runner.data.sources.source import Document, TextSource, TokenFile, TokenSource
from gpu_runner.data.splits import SplitWriter, held_out_bounds, open_writers, split_of, thinning
from gpu_runner.data.tokenizers.encoder import MAX_VOCAB, Encoder, Unencodable
from gpu_runner.data.tokens import Ids, TokenBytes

BATCH_BYTES = 4_000_000  # of text, tokenized at once: enough for every core, little to hold


class Written(TypedDict):
    """What of a manifest follows from writing."""

    tokenizer: Tokenizer
    dtype: Dtype
    splits: dict[str, Split]


# --- text -------------------------------------------------------------------------------------


def write_texts(home: Path, source: TextSource, encoder: Encoder, progress: Silent) -> Written:
    """Tokenize every document into its split, with the separator behind it. ValueError names a document."""
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
    """The smallest of a shard's types that holds every id."""
    dtypes: tuple[Dtype, ...] = ("uint8", "uint16", "uint32")
    return next(dtype for dtype in dtypes if vocab <= 1 << 8 * WIDTH[dtype])


def _dealt(documents: Iterable[Document], dealing: Dealing) -> Iterator[Document]:
    """Those that are kept, each with its split."""
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
    """Ids of every document. ValueError that names the one which is no UTF-8, is too much for the tokenizer, or whose
    bytes do not add up."""
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
    """Which document of the batch it is, one by one."""
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


def write_tokens(
    home: Path, source: TokenSource, encoder: Encoder | None, separator: str | None, progress: Silent
) -> Written:
    """Copy a source's tokens into the splits. ValueError when they are not of the tokenizer, or cannot be split."""
    ends_with = encoder.about.separator if encoder else _number(separator)
    token_bytes = encoder.token_bytes if encoder else None
    with (
        open_writers(home, source.dtype, token_bytes) as writers,
        progress.stage("Copying tokens", source.num_bytes),
    ):
        copying = _Copying(writers, source.dtype, ends_with, token_bytes, progress)
        if source.held_out:
            copying.straight(source.train)
            copying.held_out(source.held_out)
        else:
            copying.by_hash(source.train, thinning(source.num_bytes))
        splits = {split: writer.close(counts_documents=ends_with is not None) for split, writer in writers.items()}
    about = encoder.about if encoder else _unknown(copying.largest, ends_with)
    return Written(tokenizer=about, dtype=source.dtype, splits=splits)


def _number(separator: str | None) -> int | None:
    if separator is None or separator.isdecimal():
        return None if separator is None else int(separator)
    raise ValueError(f"--separator: {separator!r} is no number; without --tokenizer only a token's number is known")


def _unknown(largest: int, separator: int | None) -> Tokenizer:
    if (vocab := max(largest, separator or 0) + 1) > MAX_VOCAB:
        raise ValueError(f"--from: holds the token {largest:,}; at most {MAX_VOCAB:,} can be trained and scored")
    return Tokenizer(kind="unknown", sha256=None, vocab=vocab, separator=separator, token_bytes_sha256=None)


class _Copying:
    """The ways in which tokens go to splits; ``largest`` is the highest id on the way."""

    def __init__(
        self,
        writers: dict[str, SplitWriter],
        dtype: Dtype,
        separator: int | None,
        token_bytes: TokenBytes | None,
        progress: Silent,
    ) -> None:
        self.writers, self.dtype, self.separator = writers, dtype, separator
        self.token_bytes, self.progress, self.largest = token_bytes, progress, 0

    def straight(self, files: Iterable[TokenFile]) -> None:
        """All to train."""
        for piece in self._pieces(files):
            self._append("train", piece)

    def held_out(self, files: tuple[TokenFile, ...]) -> None:
        """Whole documents by hash where their ends are known, else in one cut after the other."""
        if self.separator is not None:
            for document in self._documents(files):
                self._append(split_of(document.tobytes(), held_out=True, thinned_by=1), document)
            return
        bounds, position = held_out_bounds(sum(file.num_tokens for file in files)), 0
        for piece in self._pieces(files):
            for split, (start, stop) in bounds.items():
                self._append(split, piece[max(start - position, 0) : max(stop - position, 0)])
            position += len(piece)

    def by_hash(self, files: tuple[TokenFile, ...], thinned_by: int) -> None:
        """Documents to all four splits. ValueError when their ends are not known."""
        if self.separator is None:
            raise ValueError(
                "--separator: the source holds nothing out and does not say where documents end; name the"
                " --tokenizer, or the --separator's number"
            )
        for document in self._documents(files):
            self._append(split_of(document.tobytes(), held_out=None, thinned_by=thinned_by), document)

    def _append(self, split: str, tokens: Ids) -> None:
        num_bytes = 0 if self.token_bytes is None else int(self.token_bytes[tokens].sum(dtype=np.int64))
        num_ends = 0 if self.separator is None else int(np.count_nonzero(tokens == self.separator))
        self.writers[split].append(tokens, num_bytes=num_bytes, num_documents=num_ends)

    def _pieces(self, files: Iterable[TokenFile]) -> Iterator[Ids]:
        for file in files:
            for piece in file.pieces(self.dtype):
                self.largest = max(self.largest, int(piece.max()))
                if self.token_bytes is not None and self.largest >= len(self.token_bytes):
                    raise ValueError(
                        f"--tokenizer: has {len(self.token_bytes):,} tokens, but {file.path} holds the token"
                        f" {self.largest:,}; name the tokenizer that made it"
                    )
                yield piece
                self.progress.advance(piece.nbytes)

    def _documents(self, files: Iterable[TokenFile]) -> Iterator[Ids]:
        """Tokens up to and with each separator; what stands behind the last one is a document too."""
        begun: list[Ids] = []
        for piece in self._pieces(files):
            ends = np.flatnonzero(piece == self.separator) + 1
            *whole, rest = np.split(piece, ends)
            for document in whole:
                yield np.concatenate([*begun, document])
                begun = []
            if len(rest):
                begun.append(rest)
        if begun:
            yield np.concatenate(begun)
