"""Gate: how much text of any kind does the patch bring? It could be held-out text, learned by heart.

Docstrings, strings, comments, names, numbers and tables are counted, in bytes, against the base, and shown. Measured
(docs/security.md): held-out text in a docstring is worth 0.68 bits per byte at 60,000 bytes and 0.035 at 1,800, and a
keep takes about 0.005. So a bound keeps such a gain small. Whether the text is held out only the worker can check.

Of 80 research patches (tests/gates/benign.toml and the offline catalogue) half bring at most 20 bytes, nine in ten at
most 105, and the most is 286; the ten commits that made the shipped recipe bring 0 to 9,700.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass

from research.gates.code import written
from research.gates.code.written import Piece
from research.gates.outcome import Context, GateResult, Remark

NAME = "new text"
UNUSUAL, MOST = 400, 1_000  # bytes in one patch
UNUSUAL_IN_ALL, MOST_IN_ALL = 4_000, 10_000  # since the campaign's first commit
SMALL = 200  # bytes; so little is not held against a patch, whatever came before it
# Added lines as zlib packs them, with the base at hand: data can be written as code, too. The 80 patches: at most 461.
UNUSUAL_PACKED, MOST_PACKED = 1_000, 2_000
WINDOW = 32_768  # bytes that zlib looks back


@dataclass(frozen=True)
class Place:
    """Pieces of one kind that stand together, and their bytes."""

    kind: str
    path: str
    line: int
    num_bytes: int


def check(context: Context) -> GateResult:
    if context.after is None:
        return GateResult.bad("It was not read: the patch does not apply.")
    brought = written.new(context.files, context.after)
    by_kind = Counter[str]()
    for _, piece in brought:
        by_kind[piece.kind] += piece.num_bytes
    places = _places(brought)
    num_bytes, num_packed = by_kind.total(), _num_packed(context)
    in_all = _num_in_all(context)
    said = _said(by_kind, places, in_all)
    remarks = [
        *_too_much(num_bytes, said, places),
        *_too_much_in_all(num_bytes, in_all),
        *_too_dense(num_packed, context),
    ]
    largest = {"largest": f"{places[0].path}:{places[0].line}", "largest_bytes": places[0].num_bytes} if places else {}
    return GateResult.of(
        remarks, said, num_bytes=num_bytes, kinds=dict(by_kind), in_all=in_all, num_packed=num_packed, **largest
    )


def _places(brought: list[tuple[str, Piece]]) -> list[Place]:
    """Places, the largest first. Neighbouring comment lines are one place, and so are the lines of one text."""
    found: list[Place] = []
    ends = 0
    for path, piece in sorted(brought, key=lambda b: (b[1].kind, b[0], b[1].line)):
        last = found[-1] if found else None
        goes_on = last and (last.kind, last.path) == (piece.kind, path) and piece.line <= ends + 1
        if goes_on and piece.kind != written.NAMES:
            assert last is not None
            found[-1] = Place(last.kind, last.path, last.line, last.num_bytes + piece.num_bytes)
        else:
            found.append(Place(piece.kind, path, piece.line, piece.num_bytes))
        ends = piece.line
    return sorted(found, key=lambda p: (-p.num_bytes, p.path, p.line))


def _num_in_all(context: Context) -> int | None:
    """Bytes of text that the files would have more than in the campaign's first commit; None without a campaign."""
    if context.origin is None or context.after is None:
        return None
    return sum(piece.num_bytes for _, piece in written.new(context.origin, context.after))


def _num_packed(context: Context) -> int:
    added = "\n".join(text for file in context.change.files for _, text in file.added)
    if not added:
        return 0
    touched = context.change.paths
    base = "".join(text for path, text in sorted(context.files.items(), key=lambda f: f[0] in touched))
    packer = zlib.compressobj(9, zdict=base.encode()[-WINDOW:])
    return len(packer.compress(added.encode(errors="surrogatepass")) + packer.flush())


def _said(by_kind: Counter[str], places: list[Place], in_all: int | None) -> str:
    """What is shown of every patch, passed or not."""
    since = "" if in_all is None else f"; {in_all:,} since the campaign's first commit"
    if not places:
        return f"no new text{since}"
    kinds = ", ".join(f"{kind} {num:,}" for kind, num in by_kind.most_common())
    most = f"; the largest is {places[0].num_bytes:,} of {places[0].kind} at {places[0].path}:{places[0].line}"
    return f"{by_kind.total():,} bytes ({kinds}){most if len(places) > 1 else ''}{since}"


def _too_much(num_bytes: int, said: str, places: list[Place]) -> list[Remark]:
    if num_bytes <= UNUSUAL:
        return []
    why = "It could hold held-out text learned by heart: read what it says, and why the model needs it."
    if num_bytes > MOST:
        why = f"At most {MOST:,} bytes of it may come with one patch: use fewer words, compute tables, or split it."
    return [_remark("text", num_bytes > MOST, f"New text: {said}. {why}", places[0])]


def _too_much_in_all(num_bytes: int, in_all: int | None) -> list[Remark]:
    if in_all is None or in_all <= UNUSUAL_IN_ALL or not num_bytes or num_bytes > MOST:
        return []  # or it is too much by itself
    is_blocked = in_all > MOST_IN_ALL and num_bytes > SMALL
    sentence = f"With it, the recipe says {in_all:,} bytes more than at the campaign's first commit."
    if is_blocked:
        sentence += (
            f" Above {MOST_IN_ALL:,} a patch may bring {SMALL}: say less, or let people read the recipe as it is and"
            " start a campaign on it."
        )
    else:
        sentence += " Many small texts can hold what one large one may not: read what was kept before, too."
    return [_remark("text-in-all", is_blocked, sentence)]


def _too_dense(num_packed: int, context: Context) -> list[Remark]:
    if num_packed <= UNUSUAL_PACKED:
        return []
    sentence = f"Its added lines hold {num_packed:,} bytes that the recipe does not have, packed with zlib."
    if num_packed > MOST_PACKED:
        sentence += f" At most {MOST_PACKED:,}: data can be written as code, too, and nobody reads so much. Split it."
    else:
        sentence += " Data can be written as code, too: see that every line of it does something."
    where = next(iter(sorted(context.change.paths)), "")
    return [_remark("dense", num_packed > MOST_PACKED, sentence, Place("", where, 0, 0))]


def _remark(rule: str, is_blocked: bool, sentence: str, place: Place | None = None) -> Remark:
    return Remark(
        severity="block" if is_blocked else "warn",
        rule=rule,
        sentence=sentence,
        path=place.path if place else "",
        line=place.line if place else 0,
    )
