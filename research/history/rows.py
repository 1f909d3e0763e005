"""Rows of a table as experiments: what each column says, and why a row cannot be read as one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from research.history import cells, columns, parameters
from research.history.past import (
    MAX_CELL_CHARS,
    MAX_EXTRAS,
    MAX_NAME_CHARS,
    MAX_TITLE_CHARS,
    Experiment,
    Refused,
    line_of,
    text_of,
)
from research.history.tables import Row, Table

ZERO_IS_NONE = frozenset("bpb loss ppl perplexity ce nll fid wer cer rmse mse mae latency".split())


class NoRow(ValueError):
    """This row is no experiment, or cannot be read as one; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table's names with our field of each."""

    names: tuple[str, ...]
    fields: tuple[str, ...]
    by_name: bool = False  # experiments are called by their name, and not by what was tried

    @property
    def metric(self) -> str:
        return next((name for name, field in zip(self.names, self.fields, strict=True) if field == "metric"), "")

    def place(self, field: str) -> int | None:
        return self.fields.index(field) if field in self.fields else None


def layout(table: Table, wanted: Mapping[str, str], metric: str, *, by_name: bool = False) -> Layout:
    """Which column is what. Raises ValueError naming a column or field that there is not."""
    rows = [row.cells for row in table.rows]
    fields = columns.assign(table.names, rows, wanted, metric)
    return Layout(names=tuple(table.names), fields=tuple(fields), by_name=by_name)


def experiments(table: Table, its: Layout, seen: dict[str, int]) -> Iterator[Experiment | Refused]:
    """Every row, as an experiment or refused, as is the second of two that say the same; ``seen`` is key -> line."""
    for row in table.rows:
        try:
            found = _experiment(_fitted(row, its), its)
            if (first := seen.setdefault(found.key, row.line)) != row.line:
                raise NoRow(f"says the same as line {first}")
            yield found
        except NoRow as why:
            yield Refused(line=row.line, reason=str(why), text=line_of("\t".join(row.cells), 200))


def _fitted(row: Row, its: Layout) -> Row:
    """The row with one cell a column: tabs in a description at the end belong to it, what lacks at the end is empty.

    Raises NoRow where nobody can tell which cell is which.
    """
    given, wide = row.cells, len(its.names)
    while len(given) > wide and not given[-1].strip():
        given = given[:-1]
    if len(given) > wide and its.fields[-1] == "description":
        given = [*given[: wide - 1], " ".join(given[wide - 1 :])]
    if len(given) > wide:
        raise NoRow(f"{len(given)} cells where the header has {wide}")
    needed = max((its.fields.index(f) for f in ("metric", "outcome") if f in its.fields), default=0)
    if len(given) <= needed:
        lacking = its.names[needed]
        raise NoRow(f"{len(given)} cell{'s' * (len(given) != 1)} where the header has {wide}: no {lacking}")
    return Row(row.line, [*given, *[""] * (wide - len(given))])


def _experiment(row: Row, its: Layout) -> Experiment:
    said = dict(zip(its.names, row.cells, strict=True))
    given = {field: row.cells[place] for field in columns.ONE_EACH if (place := its.place(field)) is not None}
    description = text_of(given.get("description", ""))
    description = "" if description in ("-", "–", "—", "n/a", "N/A") else description
    ending = given.get("outcome", "").strip() or cells.leading_word(description)
    outcome, extras, value = cells.outcome(ending), _named(said, its, "extra"), None
    if its.metric:
        value = _value(given["metric"], columns.bare(its.metric), crashed=outcome == "crashed")
    if its.by_name and outcome == "crashed" and value is not None:  # of weights that were never finished
        extras[f"last {columns.bare(its.metric)}"], value = f"{value:g}", None
    memory, seconds = _measured(its, given, "memory", extras), _measured(its, given, "seconds", extras)
    found = Experiment(
        line=row.line,
        title=_title(given, description, by_name=its.by_name),
        description=description,
        commit=_commit(given.get("commit", "")),
        outcome=outcome,
        said=line_of(ending, 40),
        value=value,
        memory_mib=memory,
        train_s=seconds,
        parameters=_named(said, its, "parameter"),
        extras=extras,
    )
    if not (description or found.value is not None or found.parameters or given.get("title", "").strip()):
        raise NoRow("says neither what was tried nor what came of it")
    return found


def _commit(cell: str) -> str:
    """As it was written, or "" for the words that say there is none: n/a, unknown."""
    return "" if cell.strip().lower() in cells.MISSING else line_of(cell, 60)


def _value(cell: str, name: str, *, crashed: bool) -> float | None:
    """The metric. A crash's zero is no measurement, and no loss is exactly 0. Raises NoRow."""
    try:
        value = cells.number(cell)
    except ValueError as error:
        raise NoRow(f"{name}: {error}") from error
    is_loss = bool(ZERO_IS_NONE & set(columns.plain_name(name).split("_")))
    return None if value == 0 and (crashed or is_loss) else value


def _measured(its: Layout, given: Mapping[str, str], field: str, extras: dict[str, str]) -> float | None:
    """Memory in MiB or seconds. What has no unit, or is no number, is kept as it stands among the extras."""
    units = cells.MEMORY_MIB if field == "memory" else cells.SECONDS
    if (place := its.place(field)) is None or not given[field].strip():
        return None
    name = its.names[place]
    unit = columns.unit_in(name, units)[1] or (columns.plain_name(name) if columns.plain_name(name) in units else "")
    if not unit and field == "seconds":
        unit = "s"  # W&B's Runtime, and everybody's duration
    try:
        return cells.measured(given[field], unit, units)
    except ValueError:
        extras[line_of(name, MAX_NAME_CHARS)] = line_of(given[field], MAX_CELL_CHARS)
        return None


def _named(said: Mapping[str, str], its: Layout, field: str) -> dict[str, str]:
    chosen = [name for name, its_field in zip(its.names, its.fields, strict=True) if its_field == field]
    return {
        _told_name(name): parameters.shown(name, line_of(said[name], MAX_CELL_CHARS))
        for name in chosen[:MAX_EXTRAS]
        if said[name].strip()
    }


@lru_cache(maxsize=1_024)  # the same few names in every row
def _told_name(name: str) -> str:
    return line_of(columns.bare(name), MAX_NAME_CHARS)


def _title(given: Mapping[str, str], description: str, *, by_name: bool) -> str:
    """Its description's first line, which says what was tried, or its name."""
    name = line_of(given.get("title", ""), MAX_TITLE_CHARS)
    first = line_of(description.partition("\n")[0], MAX_TITLE_CHARS)
    return (name or first if by_name else first or name) or _commit(given.get("commit", "")) or "untitled"
