"""Runs of a tracker as experiments: settings, and for every number its last value and its extremes. Pure.

A run's value is the last one that it logged of the metric, which is what its final weights measure. The best one on the
way stands beside it: picked from many, it flatters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_runner.contract import canonical_json, sha256
from research.history import cells, columns, lineage, parameters, reader
from research.history.past import (
    MAX_CELL_CHARS,
    MAX_EXTRAS,
    MAX_NAME_CHARS,
    MAX_ROWS,
    MAX_TITLE_CHARS,
    Column,
    Experiment,
    Kind,
    Outcome,
    Reading,
    Refused,
    Wanted,
    line_of,
    text_of,
)

LARGEST = 1.79e308  # MLflow's SQL store writes infinity as the largest number that there is


@dataclass
class Run:
    """One run as a tracker's files tell it."""

    name: str
    notes: str = ""
    commit: str = ""
    said: str = ""  # the tracker's word for how it ended
    started_s: float = 0.0  # only for the order
    train_s: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)  # lowest and highest
    extras: dict[str, str] = field(default_factory=dict)


def reading(
    kind: Kind, name: str, runs: Sequence[Run], refused: Sequence[tuple[str, str]] = (), wanted: Wanted | None = None
) -> Reading:
    """``runs`` in the order in which they began. ``refused``: what could not be read, and why. Raises ValueError."""
    wanted = wanted or Wanted()
    if not runs and not refused:
        raise ValueError(f"file: {name} holds no run")
    if len(runs) > MAX_ROWS:
        raise ValueError(f"file: {name} holds more than {MAX_ROWS:,} runs; import it in parts")
    runs = sorted(runs, key=lambda run: run.started_s)
    metric = _metric(runs, wanted)
    told = line_of(metric, MAX_NAME_CHARS)
    direction, why = reader.directed(told, wanted, [])
    found = [_experiment(place, run, metric, direction) for place, run in enumerate(runs, start=1)]
    no_metric = () if metric else ("No number is in most of the runs; say which one is the metric.",)
    said = f"{told}: the last value of each run; the best on the way is among its extras." if told else ""
    return Reading(
        kind=kind,
        name=line_of(name, 200),
        sha256=sha256(canonical_json([kind, *(one.key for one in found)])),
        metric=told,
        direction=direction,
        experiments=tuple(lineage.by_order(found)),
        refused=tuple(
            Refused(line=len(found) + place, reason=reason, text=line_of(text, 200))
            for place, (text, reason) in enumerate(refused, start=1)
        ),
        columns=_columns(runs, metric),
        notes=tuple(filter(None, (said, why, *no_metric))),
    )


def _metric(runs: Sequence[Run], wanted: Wanted) -> str:
    """The number that was asked for; else the best known that is in at least half of the runs. Raises ValueError."""
    names = list(dict.fromkeys(name for run in runs for name, value in run.last.items() if _number(value) is not None))
    asked = wanted.metric or next((theirs for theirs, ours in wanted.columns.items() if ours == "metric"), "")
    if asked:
        if (found := next((n for n in names if columns.plain_name(n) == columns.plain_name(asked)), None)) is None:
            known = ", ".join(names[:20]) or "none"
            raise ValueError(f"metric: no run logged a number called {asked!r}; there are {known}")
        return found
    if wanted.ours and (
        same := next((n for n in names if columns.plain_name(n) == columns.plain_name(wanted.ours)), "")
    ):
        return same
    often = [n for n in names if 2 * sum(_number(run.last.get(n)) is not None for run in runs) >= len(runs)]
    return columns.most_wanted([n for n in often if not n.startswith("_")])


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and abs(value) < LARGEST else None


def _experiment(place: int, run: Run, metric: str, direction: str) -> Experiment:
    outcome: Outcome = cells.outcome(run.said)
    last = _number(run.last.get(metric))
    extras = dict(run.extras)
    if last is not None and outcome == "crashed":
        extras[f"last {metric}"] = f"{last:g}"  # of weights that were never finished
    if (ends := run.extremes.get(metric)) is not None:
        extras[f"best {metric}"] = f"{ends[0] if direction == 'lower' else ends[1]:g}"
    others = {name: f"{value:g}" for name, raw in run.last.items() if (value := _number(raw)) is not None}
    extras |= {name: value for name, value in others.items() if name != metric and not name.startswith("_")}
    notes = text_of(run.notes)
    return Experiment(
        line=place,
        title=line_of(run.name, MAX_TITLE_CHARS) or line_of(notes.partition("\n")[0], MAX_TITLE_CHARS) or "unnamed",
        description=notes,
        commit=line_of(run.commit, 60),
        outcome=outcome,
        said=line_of(run.said, 40),
        value=None if outcome == "crashed" else last,
        train_s=run.train_s,
        parameters=named(flat(run.settings)),
        extras=named(extras),
    )


def flat(settings: Mapping[str, Any], before: str = "", depth: int = 0) -> dict[str, str]:
    """Nested settings as dotted names. What is deeper than six levels, or a list, is written as JSON."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{before}{key}"
        if isinstance(value, dict) and value and depth < 6:
            found |= flat(value, f"{name}.", depth + 1)
        elif not name.startswith("_"):
            found[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return found


def named(values: Mapping[str, str]) -> dict[str, str]:
    """Names and values as they may be shown: bounded, on one line each, without credentials."""
    return {
        line_of(name, MAX_NAME_CHARS): parameters.shown(name, line_of(value, MAX_CELL_CHARS))
        for name, value in list(values.items())[:MAX_EXTRAS]
    }


def _columns(runs: Iterable[Run], metric: str) -> tuple[Column, ...]:
    first: dict[str, Column] = {}
    for run in runs:
        for name, said in flat(run.settings).items():
            sample = parameters.shown(name, line_of(said, 60))
            first.setdefault(name, Column(theirs=line_of(name, MAX_NAME_CHARS), field="parameter", sample=sample))
        for name, raw in run.last.items():
            if (value := _number(raw)) is not None and not name.startswith("_"):
                field_ = "metric" if name == metric else "extra"
                first.setdefault(name, Column(theirs=line_of(name, MAX_NAME_CHARS), field=field_, sample=f"{value:g}"))
    return tuple(first.values())[:MAX_EXTRAS]
