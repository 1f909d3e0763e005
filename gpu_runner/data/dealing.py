"""Decides which split a document of text goes to, and leaves out empty documents and repeats of held-out ones.

Thousands of empty rows have one hash: they would all fall to one split, cost nothing to predict and flatter every score
there. The same holds for one short text many times over. So a held-out split has each text once, however its blanks
differ; repeats in the training text are its owner's choice.
"""

from __future__ import annotations

from hashlib import sha256

from gpu_runner.data.left_out import LeftOut
from gpu_runner.data.sources.source import Document
from gpu_runner.data.splits import split_of

SHORT_BYTES = 64  # what is longer than that is not made of marks without a width alone
WIDTHLESS = "\ufeff\u200b\u200c\u200d\u2060"
DIGEST_BYTES = 16  # of a held-out document, kept to know it again


class Dealing:
    """Deals documents to splits; ``left_out`` counts those that go to none."""

    def __init__(self, *, thinned_by: int, zero_ends: bool, left_out: LeftOut) -> None:
        self.thinned_by, self.zero_ends, self.left_out = thinned_by, zero_ends, left_out
        self.repeats = Repeats()

    def split_of(self, document: Document) -> str | None:
        """The split of a document: the source's own where it names one; None where the document is left out."""
        if document.split:
            return document.split
        split = split_of(document.text, held_out=document.held_out, thinned_by=self.thinned_by)
        if why := self._why_not(document, split):
            self.left_out.document(why, document.name)
            return None
        if self.zero_ends and not is_utf_8(document.text):  # a tokenizer refuses it
            self.left_out.doubt("document(s) that are no UTF-8, kept byte for byte", document.name)
        return split

    def _why_not(self, document: Document, split: str) -> str | None:
        if is_empty(document.text):
            return "empty document(s)"
        if self.zero_ends and b"\0" in document.text:
            return "document(s) with a 0 byte, which ends a document here"
        if split != "train" and self.repeats.has(b" ".join(document.text.split())):
            return "repeated document(s) of what is held out"
        return None


class Repeats:
    """The hashes of the documents that a held-out split has already."""

    def __init__(self) -> None:
        self._held: set[bytes] = set()

    def has(self, body: bytes) -> bool:
        """Whether ``body`` was asked about before. Remembers it."""
        digest = sha256(body).digest()[:DIGEST_BYTES]
        is_repeat = digest in self._held
        self._held.add(digest)
        return is_repeat


def is_utf_8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_empty(text: bytes) -> bool:
    """Whether the text has nothing visible."""
    if not text or text.isspace():
        return True
    return len(text) <= SHORT_BYTES and not text.decode(errors="replace").strip(WIDTHLESS).strip()
