"""Experiments of other loops for Claude's prompt: apart from the ledger, with numbers of their own. Pure.

What was kept is told in full, with its diff; the rest in a line each. Where they outgrow ``MAX_CHARS``, the least
telling shrink first, oldest first, to a line and then to a count.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from research.arms.claude.memory import MAX_PATCH_CHARS, MAX_REASON_CHARS, Level, cut
from research.change.drafts import Imported

LABEL = "imported, self-reported, one seed"
MAX_CHARS = 40_000  # some 11,000 tokens, a third of what the ledger may take
MAX_SIDE_CHARS = 1_200  # of parameters and extras each, a row


def remember(imported: Sequence[Imported]) -> str:
    """JSON lines, in the order of their numbers, and what is only counted; "" without any."""
    if not imported:
        return ""
    levels = _levels(imported)
    lines = [row(one, levels[one.number]) for one in imported if levels[one.number] is not Level.COUNTED]
    counted = Counter(one.outcome for one in imported if levels[one.number] is Level.COUNTED)
    if counted:
        lines.append(json.dumps({"label": LABEL, "only_counted": dict(sorted(counted.items()))}))
    return "\n".join(lines)


def row(one: Imported, level: Level) -> str:
    """One row as a line of JSON."""
    if level is Level.COUNTED:
        return ""
    said = _short(one)
    if level >= Level.NO_PATCH:
        said |= _more(one)
    if level is Level.FULL and one.patch:
        said["patch"] = cut(one.patch, MAX_PATCH_CHARS)
    return json.dumps({name: value for name, value in said.items() if value not in (None, "", {})}, ensure_ascii=False)


def _short(one: Imported) -> dict[str, Any]:
    return {
        "imported": f"H-{one.number}",
        "label": LABEL,
        "title": one.title,
        "became": one.outcome if one.outcome != "unsaid" else one.said,
        "metric": None if one.value is None else one.metric,
        "value": one.value,
        "gain": None if one.gain is None else round(one.gain, 8),
        "stands_on": None if one.stands_on is None else f"H-{one.stands_on}",
    }


def _more(one: Imported) -> dict[str, Any]:
    description = cut(one.description, MAX_REASON_CHARS)
    return {
        "description": description if description != one.title else "",
        "memory_mib": None if one.memory_mib is None else round(one.memory_mib),
        "parameters": _fitting(one.parameters),
        "extras": _fitting(one.extras),
        "from": one.source,
    }


def _fitting(named: dict[str, str]) -> dict[str, str]:
    """As many as fit, from the first on."""
    told: dict[str, str] = {}
    left = MAX_SIDE_CHARS
    for name, value in named.items():
        if (left := left - len(name) - len(value)) < 0:
            return told | {"(more)": f"{len(named) - len(told)} left out"}
        told[name] = value
    return told


def _is(outcome: str) -> Callable[[Imported], bool]:
    return lambda one: one.outcome == outcome


# What shrinks first. Each goes through all of its rows, oldest first, before the next begins.
STAGES: tuple[tuple[Callable[[Imported], bool], Level], ...] = (
    (_is("unsaid"), Level.LINE),
    (_is("crashed"), Level.COUNTED),
    (_is("kept"), Level.NO_PATCH),
    (_is("discarded"), Level.COUNTED),
    (_is("kept"), Level.LINE),
    (_is("unsaid"), Level.COUNTED),
    (_is("kept"), Level.COUNTED),
)
FIRST = {"kept": Level.FULL, "unsaid": Level.NO_PATCH}


def _levels(imported: Sequence[Imported]) -> dict[int, Level]:
    levels = {one.number: FIRST.get(one.outcome, Level.LINE) for one in imported}
    num_chars = sum(len(row(one, levels[one.number])) for one in imported)
    for belongs, to in STAGES:
        for one in filter(belongs, imported):
            if num_chars <= MAX_CHARS:
                return levels
            num_chars += len(row(one, to)) - len(row(one, levels[one.number]))
            levels[one.number] = to
    return levels
