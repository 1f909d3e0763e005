"""All forms in which a file could give text to a model, as streams of letters, each letter with its line. Never run.

    as it stands    the file's text
    strings         all string and bytes literals in order, as Python reads them
    comments        all comments in order
    names           all names in order
    numbers         as bytes, as code points, as ids of the dataset's tokens; long ones by their own bytes
    unpacked        what strings, comments and numbers decode to (unpack.py)

Each of them also from behind, by ROT13, in plain letters and without digits.
What Python cannot parse is read by patterns, as far as that goes.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import unicodedata
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from gpu_runner.data.tokenizers.encoder import Table
from gpu_runner.leakage.letters import letters_of
from gpu_runner.leakage.unpack import SHORTEST, Allowance, turned, unpacked

Said = tuple[str, int]  # a text and the line that it stands on
_STRING = re.compile(r"'''(.*?)'''|\"\"\"(.*?)\"\"\"|'([^'\n]*)'|\"([^\"\n]*)\"", re.S)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|\d+")
_DIGITS = re.compile(r"[0-9]")
# Cyrillic and Greek letters that look like Latin ones.
_LOOKS_LIKE = str.maketrans(
    "асеорхуіјѕһԁԛԝАВЕНКМОРТХСУІЈЅαορυνικΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aceopxyijshdqwABEHKMOPTXCYIJSaopuvikABEZHIKMNOPTYX"
)
_NAME = re.compile(r"[^\W\d]\w*")
LONGEST_NUMBER = 20_000  # digits; Python itself reads no more than 4,300 decimal ones
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError)


@dataclass(frozen=True)
class Stream:
    """``letters`` of one form; ``lines`` [N] int32: the line of the file on which each letter stands."""

    form: str
    letters: bytes
    lines: np.ndarray[tuple[int], np.dtype[np.int32]]


def streams(path: str, body: bytes, table: Table | None, allowance: Allowance) -> Iterator[Stream]:
    """All forms of one file."""
    text = body.decode(errors="replace")
    strings, comments = _literals(path, text)
    names = [(name, line) for said, line in _numbered(text) for name in _NAME.findall(said)]
    whole = list(_numbered(text))
    for form, said in (("as it stands", whole), ("strings", strings), ("comments", comments), ("names", names)):
        yield from _turned(form, said)
        yield from _bared(form, said)
    numbers = list(_numbers(whole, table))
    for spelled in numbers:
        yield _stream("numbers", spelled)
        yield _stream("numbers, from behind", [(blob[::-1], line) for blob, line in reversed(spelled)])
    blobs = [("numbers", b"".join(blob for blob, _ in n), n[len(n) // 2][1]) for n in numbers if n]
    for form, blob, line in (*blobs, *_blobs(strings, comments)):
        for decoded in unpacked(blob, allowance):
            for one in turned(decoded.decode(errors="surrogateescape")):
                yield _stream(f"{form}, decoded", [(one.encode(errors="surrogateescape"), line)])


def token_numbers(body: bytes, width: int) -> Stream:
    """The file's numbers as tokens of ``width`` bytes: all that can be compared where the tokens' text is not known."""
    said = list(_numbered(body.decode(errors="replace")))
    below = 1 << (8 * width)
    return _stream(
        "numbers", [(n.to_bytes(width, "little"), line) for n, line in _read_numbers(said) if n < below], raw=True
    )


def _numbered(text: str) -> Iterator[Said]:
    return ((said, number) for number, said in enumerate(text.split("\n"), start=1))


def _turned(form: str, said: Sequence[Said]) -> Iterator[Stream]:
    yield _stream(form, [(text.encode(errors="surrogatepass"), line) for text, line in said])
    yield _stream(
        f"{form}, from behind", [(text[::-1].encode(errors="surrogatepass"), line) for text, line in reversed(said)]
    )
    rotated = ((list(turned(text))[2], line) for text, line in said)
    yield _stream(f"{form}, by ROT13", [(text.encode(errors="surrogatepass"), line) for text, line in rotated])


def _bared(form: str, said: Sequence[Said]) -> Iterator[Stream]:
    """In plain letters, where wide, bold or accented ones stand; and without digits, in case words are numbered."""
    if not all(text.isascii() for text, _ in said):
        said = [(unicodedata.normalize("NFKD", text).translate(_LOOKS_LIKE), line) for text, line in said]
        yield _stream(f"{form}, in plain letters", [(text.encode("ascii", "ignore"), line) for text, line in said])
    bare = ((_DIGITS.sub("", text).encode(errors="surrogatepass"), line) for text, line in said)
    yield _stream(f"{form}, without digits", bare)


def _stream(form: str, said: Iterable[tuple[bytes, int]], *, raw: bool = False) -> Stream:
    parts = [(text if raw else letters_of(text), line) for text, line in said]
    num = np.array([len(text) for text, _ in parts], np.int64)
    lines = np.repeat(np.array([line for _, line in parts], np.int32), num)
    return Stream(form, b"".join(text for text, _ in parts), lines)


# --- literals -------------------------------------------------------------------------------


def _literals(path: str, text: str) -> tuple[list[Said], list[Said]]:
    """The file's strings and its comments."""
    if path.endswith(".py"):
        try:
            return list(_strings(text)), list(_comments(text))
        except UNREADABLE:
            pass  # the gates and the run itself have their word on it
    return list(_quoted(text)), [(said.partition("#")[2], line) for said, line in _numbered(text) if "#" in said]


def _quoted(text: str) -> Iterator[Said]:
    ends = [found.start() for found in re.finditer("\n", text)]
    for found in _STRING.finditer(text):
        yield next(filter(None, found.groups()), ""), bisect_left(ends, found.start()) + 1


def _strings(text: str) -> Iterator[Said]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape is not ours to judge
        tree = ast.parse(text)
    constants = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str | bytes)]
    for node in sorted(constants, key=lambda n: (n.lineno, n.col_offset)):
        said = node.value if isinstance(node.value, str) else node.value.decode("latin-1")  # type: ignore[union-attr]
        is_long = node.end_lineno != node.lineno
        for number, line in enumerate(said.split("\n")):
            yield line + "\n", node.lineno + (number if is_long else 0)


def _comments(text: str) -> Iterator[Said]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string.lstrip("#"), token.start[0]


# --- what may decode ------------------------------------------------------------------------


def _blobs(strings: Sequence[Said], comments: Sequence[Said]) -> Iterator[tuple[str, bytes, int]]:
    """(form, text, line) of what may be encoded: single literals, and all together that have no space; also turned."""
    for form, said in (("strings", strings), ("comments", comments)):
        bare = [(text.strip(), line) for text, line in said]
        dense = [(text, line) for text, line in bare if text and not any(map(str.isspace, text))]
        candidates = [(text, line) for text, line in dense if len(text) >= SHORTEST]
        groups = [list(group) for _, group in groupby(dense, key=lambda one: len(one[0]) >= SHORTEST // 2)]
        for together in (dense, *groups):
            if len(together) > 1:
                longest = max(together, key=lambda one: len(one[0]))
                candidates.append(("".join(text for text, _ in together), longest[1]))
        for text, line in candidates:
            for one in turned(text):
                yield form, one.encode("latin-1", errors="replace"), line


# --- numbers --------------------------------------------------------------------------------


def _numbers(said: Sequence[Said], table: Table | None) -> Iterator[list[tuple[bytes, int]]]:
    """All numbers of a file, in each of the spellings that fit them."""
    numbers = list(_read_numbers(said))
    yield [(bytes([n]), line) for n, line in numbers if n < 256]
    yield [(chr(n).encode(errors="surrogatepass"), line) for n, line in numbers if n <= sys.maxunicode]
    if table is not None and len(table) != 256:
        yield [(table[n], line) for n, line in numbers if n < len(table)]
    for order in ("big", "little"):
        yield [(_own_bytes(n, order), line) for n, line in numbers if n >= 256]


def _own_bytes(number: int, order: str) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big" if order == "big" else "little")


def _read_numbers(said: Iterable[Said]) -> Iterator[tuple[int, int]]:
    """(number, line) of everything that looks like a whole number, also in strings and comments."""
    for text, line in said:
        for found in _NUMBER.findall(text):
            if len(found) <= LONGEST_NUMBER:
                try:
                    yield int(found, 0 if found[:2].lower() in ("0x", "0o", "0b") else 10), line
                except ValueError:  # underscores in odd places, or more digits than Python reads
                    continue
