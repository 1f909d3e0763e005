"""Reads one table of experiments: autoresearch's results.tsv, its forks', and what trackers export as CSV. Pure.

The original results.tsv has commit, val_bpb, memory_gb, status and description; a crash has a val_bpb of 0.000000.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpu_runner.contract import sha256
from research.history import columns, lineage, parameters, rows, tables, trackers
from research.history.past import Column, Direction, Experiment, Kind, Reading, Wanted, line_of
from research.history.rows import Layout
from research.history.tables import Table

SAMPLE_CHARS = 60


def read(kind: Kind, body: bytes, name: str, wanted: Wanted | None = None) -> Reading:
    """Every row, as an experiment or refused. Raises ValueError, which names the field, for what is no such table."""
    wanted = wanted or Wanted()
    found = tables.read(body)
    layouts = _layouts(kind, found.tables, wanted)
    experiments: list[Experiment] = []
    refused = list(found.refused)
    seen: dict[str, int] = {}
    for table, layout in zip(found.tables, layouts, strict=True):
        for one in rows.experiments(table, layout, seen):
            (experiments if isinstance(one, Experiment) else refused).append(one)  # type: ignore[arg-type]
    if trackers.is_newest_first(kind, found.tables[0]):
        experiments.reverse()
    metric = columns.bare(layouts[0].metric)
    direction, why = directed(metric, wanted, experiments)
    return Reading(
        kind=kind,
        name=line_of(name, 200),
        sha256=sha256(body),
        metric=metric,
        direction=direction,
        experiments=tuple(lineage.by_order(experiments)),
        refused=tuple(sorted(refused, key=lambda one: one.line)),
        columns=_columns(found.tables, layouts),
        notes=(*found.notes, *([why] if why else []), *_lacking(layouts[0])),
    )


def _lacking(layout: Layout) -> tuple[str, ...]:
    if layout.metric:
        return ()
    return ("No column is the metric; say which one is, or nothing of it can be drawn or compared.",)


def _layouts(kind: Kind, found: Sequence[Table], wanted: Wanted) -> list[Layout]:
    """Of all tables: the first one's metric is everybody's, and a column that was chosen has to be in one of them."""
    unknown = [theirs for theirs in wanted.columns if not any(columns.has(theirs, table.names) for table in found)]
    if unknown:
        raise ValueError(f"map: there is no column {unknown[0]!r}; there are {', '.join(found[0].names)}")
    if wanted.metric and not columns.has(wanted.metric, found[0].names):
        raise ValueError(f"metric: there is no column {wanted.metric!r}; there are {', '.join(found[0].names)}")
    ours = wanted.ours if wanted.ours and columns.has(wanted.ours, found[0].names) else ""
    layouts: list[Layout] = []
    for table in found:
        known = {theirs: ours for theirs, ours in wanted.columns.items() if columns.has(theirs, table.names)}
        metric = layouts[0].metric if layouts else wanted.metric or ours
        fields = trackers.fields(kind, table.names) | known
        layouts.append(rows.layout(table, fields, metric, by_name=kind != "autoresearch"))
    return layouts


def directed(metric: str, wanted: Wanted, experiments: Sequence[Experiment]) -> tuple[Direction, str]:
    """(which way the metric is better, a sentence where that is a guess)."""
    if wanted.direction:
        return wanted.direction, ""
    if wanted.our_direction and columns.plain_name(metric) == columns.plain_name(wanted.ours):
        return wanted.our_direction, ""
    kept = [one.value for one in experiments if one.outcome == "kept" and one.value is not None]
    if (known := columns.direction_of(metric, kept)) is not None:
        by_keeps = columns.direction_of(metric, ()) is None
        return known, f"{metric}: {known} is better, to judge by the ones that were kept." if by_keeps else ""
    return "lower", f"{metric}: lower is taken for better; nothing says so." if metric else ""


def _columns(found: Sequence[Table], layouts: Sequence[Layout]) -> tuple[Column, ...]:
    said: dict[str, Column] = {}
    for table, layout in zip(found, layouts, strict=True):
        for place, (name, field) in enumerate(zip(layout.names, layout.fields, strict=True)):
            cells = (row.cells[place] for row in table.rows if place < len(row.cells) and row.cells[place].strip())
            sample = parameters.shown(name, line_of(next(cells, ""), SAMPLE_CHARS))
            said.setdefault(name, Column(theirs=name, field=field, sample=sample))
    return tuple(said.values())
