"""The ledger of proposals for Claude's prompt, shortened by relevance and laid out for the prompt cache. Pure.

Rows are in the order in which they were settled, eight a block. A full block does not change while the incumbent stays,
so the cache, which matches whole blocks from the front, reads it again with every request. What changes with every
call stands behind the blocks: the last rows, open proposals, rows similar to those, and counts of rows that are no
longer told.

When the rows outgrow ``MAX_CHARS``, the least relevant shrink first: to a line, then to a count. They shrink sixteen at
a time, oldest first, so that one more row seldom changes what was sent before.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

from research.change import unified
from research.change.drafts import Draft, Precedent

MAX_CHARS = 120_000  # of settled rows, some 34,000 tokens
MAX_PATCH_CHARS = 3_000
MAX_REASON_CHARS = 1_500
MAX_TITLE_CHARS = 200
BLOCK = 8  # rows: two waves or so fill one
SHRINK = 16  # rows at a time
NUM_NEAR, NEAR_CHARS = 8, 20_000
SETTLED = frozenset({"judged", "rejected", "withdrawn", "blocked"})
_WORD = re.compile(r"[A-Za-z_]\w{2,}")


class Level(IntEnum):
    """How much of a row is told."""

    COUNTED = 0
    LINE = 1
    NO_PATCH = 2
    FULL = 3


@dataclass(frozen=True, kw_only=True)
class Memory:
    """JSON lines. ``closed`` blocks do not change until a row is settled differently or shrinks."""

    closed: tuple[str, ...]
    latest: str
    open: str
    near: str
    counts: str


def remember(precedents: Iterable[Precedent], revising: Draft | None = None) -> Memory:
    """All rows; in detail those kept, rejected by a person, tried on this incumbent, or similar to open or new ones."""
    rows = sorted(precedents, key=lambda p: (p.settled_at, p.number))
    settled, opened = [p for p in rows if p.state in SETTLED], [p for p in rows if p.state not in SETTLED]
    levels = _levels(settled)
    blocks = [_lines(settled[i : i + BLOCK], levels) for i in range(0, len(settled), BLOCK)]
    latest = blocks.pop() if len(settled) % BLOCK else ""
    return Memory(
        closed=tuple(filter(None, blocks)),
        latest=latest,
        open="\n".join(row(p, Level.FULL) for p in opened),
        near=_near(settled, levels, {p.number: topics_of(p) for p in [*opened, *settled[-BLOCK:]]} | _topics(revising)),
        counts=_counts(p for p in settled if levels[p.number] is Level.COUNTED),
    )


def _lines(rows: Sequence[Precedent], levels: dict[int, Level]) -> str:
    return "\n".join(row(p, levels[p.number]) for p in rows if levels[p.number] is not Level.COUNTED)


# --- one row --------------------------------------------------------------------------------------


def row(precedent: Precedent, level: Level) -> str:
    """One row as a line of JSON. Without its source: which arm proposed it is no argument for or against an idea."""
    if level is Level.COUNTED:
        return ""
    said = _short(precedent) if level is Level.LINE else _long(precedent, with_patch=level is Level.FULL)
    return json.dumps(said, ensure_ascii=False)


def _short(precedent: Precedent) -> dict[str, Any]:
    return {
        "number": precedent.number,
        "title": precedent.title[:80],
        "change": _change(precedent),
        "became": precedent.outcome or precedent.state,
        "effect_bpb": precedent.effect_bpb,
    } | ({"self_reported_effect": precedent.self_reported} if precedent.self_reported else {})


def _change(precedent: Precedent) -> str:
    knobs = [f"{o.key} = {o.value}" for o in precedent.overrides]
    return ", ".join([*knobs, *paths_of(precedent.patch)])[:160]


def _long(precedent: Precedent, *, with_patch: bool) -> dict[str, Any]:
    said = asdict(precedent)
    del said["source"], said["settled_at"], said["patch"], said["holds_held_out"]
    if not precedent.self_reported:
        del said["self_reported"]
    if precedent.interval_percent is None:
        del said["interval_percent"]
    said["title"] = precedent.title[:MAX_TITLE_CHARS]
    said["reason"] = cut(precedent.reason, MAX_REASON_CHARS)
    said["overrides"] = [{**asdict(o), "reason": cut(o.reason, MAX_REASON_CHARS)} for o in precedent.overrides]
    said["comments"] = [f"{c.choice}: {cut(c.text, MAX_REASON_CHARS)}" for c in precedent.comments]
    if with_patch:
        said["patch"] = cut(precedent.told_patch, MAX_PATCH_CHARS)
    return said


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n(cut)"


# --- what is told in how much detail ------------------------------------------------------------


def _is_kept(precedent: Precedent) -> bool:
    return precedent.outcome == "keep"


def _is_rejected(precedent: Precedent) -> bool:
    return precedent.state == "rejected"


def _is_only_here(precedent: Precedent) -> bool:
    return precedent.on_incumbent and not _is_kept(precedent) and not _is_rejected(precedent)


def _is_other(precedent: Precedent) -> bool:
    return not (precedent.on_incumbent or _is_kept(precedent) or _is_rejected(precedent))


# What shrinks first. Each goes through all of its rows, oldest first, before the next begins.
STAGES: tuple[tuple[Callable[[Precedent], bool], Level], ...] = (
    (_is_other, Level.COUNTED),
    (_is_only_here, Level.NO_PATCH),
    (_is_rejected, Level.NO_PATCH),
    (_is_only_here, Level.LINE),
    (_is_kept, Level.NO_PATCH),
    (_is_rejected, Level.LINE),
    (_is_only_here, Level.COUNTED),
    (_is_kept, Level.LINE),
    (_is_rejected, Level.COUNTED),
    (_is_kept, Level.COUNTED),
)


def _levels(settled: Sequence[Precedent]) -> dict[int, Level]:
    levels = {p.number: Level.LINE if _is_other(p) else Level.FULL for p in settled}
    num_chars = sum(len(row(p, levels[p.number])) for p in settled)
    for belongs, to in STAGES:
        mine = [p for p in settled if belongs(p)]
        for first in range(0, len(mine), SHRINK):
            if num_chars <= MAX_CHARS:
                return levels
            for p in mine[first : first + SHRINK]:
                num_chars += len(row(p, to)) - len(row(p, levels[p.number]))
                levels[p.number] = to
    return levels


# --- what is near ---------------------------------------------------------------------------------


def topics(knobs: Iterable[str], patch: str) -> frozenset[str]:
    """What a change is about: its knobs, its files, and the names on the lines that it changes."""
    paths, words = _named_in(patch)
    return frozenset([*knobs, *paths, *words])


@lru_cache(maxsize=2_048)  # every prompt asks again about every row
def _named_in(patch: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The files that a patch touches, and the names on the lines that it changes."""
    files = unified.read(patch).files
    paths = tuple(path for file in files for path in sorted(file.paths))
    return paths, frozenset(word for file in files for line in file.changed for word in _WORD.findall(line[1:]))


def topics_of(precedent: Precedent) -> frozenset[str]:
    return topics((o.key for o in precedent.overrides), precedent.patch)


def _topics(draft: Draft | None) -> dict[int, frozenset[str]]:
    """The topics of the draft under revision, under a number that no proposal has."""
    if draft is None:
        return {}
    words = (word for e in draft.edits for word in _WORD.findall(f"{e.search} {e.replace}"))
    return {0: frozenset([*(o.key for o in draft.overrides), *(e.path for e in draft.edits), *words])}


def nearness(one: frozenset[str], others: Iterable[frozenset[str]]) -> float:
    """Largest share of common topics (Jaccard) with any of ``others``: 0 none, 1 all."""
    return max((len(one & other) / len(one | other) for other in others if one & other), default=0.0)


def paths_of(patch: str) -> tuple[str, ...]:
    return _named_in(patch)[0]


def _near(settled: Sequence[Precedent], levels: dict[int, Level], to: dict[int, frozenset[str]]) -> str:
    """Shrunk rows that are nearest to another of ``to``, in full, the nearest first. At most NUM_NEAR, NEAR_CHARS."""

    def share(p: Precedent) -> float:
        return nearness(topics_of(p), (about for number, about in to.items() if number != p.number))

    shrunk = [p for p in settled if levels[p.number] is not Level.FULL]
    ranked = sorted(((share(p), p.number, p) for p in shrunk), key=lambda r: (-r[0], -r[1]))
    lines = [row(p, Level.FULL) for shared, _, p in ranked[:NUM_NEAR] if shared > 0]
    while sum(map(len, lines)) > NEAR_CHARS:
        lines.pop()
    return "\n".join(lines)


# --- what is only counted -----------------------------------------------------------------------


def _counts(precedents: Iterable[Precedent]) -> str:
    """A line for every knob and file: how many changes, their outcomes, the best and the worst effect."""
    by_topic: dict[str, list[Precedent]] = {}
    for p in precedents:
        for name in dict.fromkeys([*(o.key for o in p.overrides), *paths_of(p.patch)]):
            by_topic.setdefault(name, []).append(p)
    return "\n".join(json.dumps(_count(name, by_topic[name])) for name in sorted(by_topic))


def _count(name: str, rows: list[Precedent]) -> dict[str, Any]:
    effects = [p.effect_bpb for p in rows if p.effect_bpb is not None]
    became = Counter(p.outcome or p.state for p in rows)
    return {
        "changed": name,
        "num": len(rows),
        "became": dict(sorted(became.items())),
        "best_bpb": min(effects, default=None),
        "worst_bpb": max(effects, default=None),
    }
