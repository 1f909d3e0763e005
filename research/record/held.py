"""Which tables and fields the audit chain covers, and the hashes of their rows that events carry.

A table is covered with all its fields but those that are listed with the reason why no event tells of them; so a new
field is covered by default. An event carries hashes of the rows that it tells of (``Event.rows``), computed from the
database; ``audit`` computes them again and compares. Rows of some tables are hashed together: all reports of a run, all
gates of a revision.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.db.models import ManyToManyField, Model

from gpu_runner import contract
from research.record import kinds

Row = dict[str, Any]  # column -> value, as the database has it
Parts = dict[str, str]  # of a row: FIXED, or a column -> hash, and MOVING
Ref = Model | tuple[type[Model], int]  # a row; or a table whose rows are told together, and of what
BATCH = 2_000
FIXED, MOVING = "*", "~"  # hashes of a row: one over columns that never change, one over those that verbs rewrite
SHORT = 32  # hexadecimal digits of a hash: 128 bits


def _always(_: Row) -> bool:
    return True


@dataclass(frozen=True, kw_only=True)
class Table:
    """A covered table. ``name`` is what a finding calls a row, with columns in braces."""

    model: type[Model]
    name: str
    apart: Mapping[str, str] = field(default_factory=dict)  # field -> why no event tells of it
    until: Mapping[str, str] = field(default_factory=dict)  # field -> why it is held only once ``is_settled``
    moving: frozenset[str] = frozenset()  # columns that verbs write again; what is in no event of theirs stays as told
    by_column: bool = False  # each column has a hash of its own: few rows, and people change single ones
    rewrites: Mapping[str, frozenset[str]] = field(default_factory=dict)  # kind of event -> what else it may change
    secret: frozenset[str] = frozenset()  # told as changed, never with what it was or is
    many: Mapping[str, str] = field(default_factory=dict)  # many-to-many field -> what is told of each on its far side
    grouped_by: str = ""  # the column by which its rows are told together
    needs: tuple[str, ...] = ()  # further columns that ``is_settled`` reads
    is_settled: Callable[[Row], bool] = _always  # nothing writes to it any more without an event
    may_be_untold: bool = False
    removes: str = ""  # the kind of event that ends a row, where it is not that of ``watch``

    @property
    def label(self) -> str:
        return self.model._meta.label_lower

    @property
    def removed_by(self) -> str:
        """The kind of the event that tells of a row's end; empty where none ever ends."""
        return self.removes or kinds.ROWS.get(str(self.model._meta.model_name), {}).get("removed", "")

    @property
    def fields(self) -> list[str]:
        """The covered columns, the key first."""
        return [f.attname for f in self.model._meta.concrete_fields if f.name not in self.apart]

    def columns(self) -> list[str]:
        named = [name for _, name, _, _ in string.Formatter().parse(self.name) if name]
        return list(dict.fromkeys([*self.fields, *named, *self.needs]))

    def said(self, row: Row) -> dict[str, Any]:
        """The values of a row that its hashes are computed from."""
        skipped = set() if not self.until or self.is_settled(row) else set(self.until)
        said = {name: plain(row[name]) for name in self.fields if name not in skipped}
        return said | {name: row[name] for name in self.many}

    def may_rewrite(self, kind: str, payload: Any) -> frozenset[str]:
        """The columns that an event of this kind may change, besides those in ``moving``."""
        changes = payload.get("changes") if isinstance(payload, dict) else None
        return self.rewrites.get(kind, frozenset()) | frozenset(changes if isinstance(changes, dict) else ())


TABLES: dict[str, Table] = {}


def cover(table: Table) -> Table:
    """Register ``table`` with the chain. Called from the ``ready`` of the app that owns it."""
    TABLES[table.label] = table
    return table


def plain(value: Any) -> Any:
    """A value as canonical JSON can express it, the same from every database."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return contract.sha256(bytes(value))
    return value


def as_stored(value: Any) -> Any:
    """JSON as every database gives it back: PostgreSQL keeps 1e22 as a whole number, and no negative zero."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: as_stored(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_stored(inner) for inner in value]
    return value


def hash_of(said: Any) -> str:
    """Hash of a value; "" for what JSON cannot express, which was written by hand and matches no event."""
    try:
        return contract.sha256(contract.canonical_json(as_stored(said)))[:SHORT]
    except (ValueError, TypeError):
        return ""


# --- rows, and what they say ---------------------------------------------------------------------


def rows_of(table: Table, keys: Iterable[int] | None = None) -> Iterator[Row]:
    """All rows, or those with ``keys``, in the order of what they are told by."""
    by = table.grouped_by or "pk"
    rows = table.model._base_manager.order_by(*dict.fromkeys([by, "pk"]))
    if keys is not None:
        rows = rows.filter(**{f"{by}__in": list(keys)})
    sides = {name: _far_sides(table, name, keys) for name in table.many}
    for row in rows.values(*table.columns()).iterator(BATCH):
        yield row | {name: side.get(row[table.fields[0]], []) for name, side in sides.items()}


def _far_sides(table: Table, name: str, keys: Iterable[int] | None) -> dict[int, list[Any]]:
    """Row -> sorted values of all rows on the other side of its many-to-many field ``name``."""
    many = many_of(table, name)
    here, there = many.m2m_field_name(), many.m2m_reverse_field_name()
    pairs = through(many)._base_manager.all()
    if keys is not None:
        pairs = pairs.filter(**{f"{here}__in": list(keys)})
    told = [f"{there}__{path}" for path in table.many[name].split()]
    found: dict[int, list[Any]] = {}
    for row, *far in pairs.values_list(f"{here}_id", *told).iterator(BATCH):
        found.setdefault(row, []).append(far[0] if len(far) == 1 else ".".join(map(str, far)))
    return {row: sorted(sides) for row, sides in found.items()}


def many_of(table: Table, name: str) -> ManyToManyField[Any, Any]:
    many = table.model._meta.get_field(name)
    assert isinstance(many, ManyToManyField)
    return many


def through(many: ManyToManyField[Any, Any]) -> type[Model]:
    """The many-to-many field's own table."""
    assert many.remote_field.through is not None
    return many.remote_field.through


def groups_of(table: Table, keys: Iterable[int] | None = None) -> Iterator[tuple[int, list[Row]]]:
    """What one hash is taken of: a single row, or all that are told together."""
    by = itemgetter(table.grouped_by or table.fields[0])
    for key, rows in groupby(rows_of(table, keys), key=by):
        yield key, list(rows)


def parts_of(table: Table, rows: list[Row]) -> Parts:
    if table.grouped_by:
        return {MOVING: hash_of([table.said(row) for row in rows])}
    said = table.said(rows[0])
    moving = {name: said.pop(name) for name in table.moving | table.until.keys() if name in said}
    fixed = {name: hash_of(value) for name, value in said.items()} if table.by_column else {FIXED: hash_of(said)}
    return fixed | ({MOVING: hash_of(moving)} if moving else {})


NOTHING: Parts = {MOVING: hash_of([])}  # told of a group that had no rows


def told(rows: Iterable[Ref]) -> dict[str, dict[str, Parts | None]]:
    """For an event: table -> key -> hashes of what is there now, None for a row that does not exist."""
    wanted: dict[str, set[int]] = {}
    for ref in rows:
        model, key = ref if isinstance(ref, tuple) else (type(ref), ref.pk)
        wanted.setdefault(model._meta.label_lower, set()).add(key)
    return {label: _hashes(TABLES[label], keys) for label, keys in wanted.items()}


def _hashes(table: Table, keys: set[int]) -> dict[str, Parts | None]:
    hashes: dict[str, Parts | None] = {str(key): NOTHING if table.grouped_by else None for key in keys}
    return hashes | {str(key): parts_of(table, rows) for key, rows in groups_of(table, keys)}


def holds() -> str:
    """One hash over which columns are covered, and how: a version that covers others has to begin the record anew."""
    tables = sorted(TABLES.items())
    return hash_of([[label, t.fields, sorted(t.many.items()), sorted(t.moving), t.by_column] for label, t in tables])


def everything() -> Iterator[tuple[str, int, Parts]]:
    """(table, key, hashes) of all rows that are there and settled, for the beginning of a record."""
    for table in TABLES.values():
        for key, rows in groups_of(table):
            if not table.grouped_by or all(map(table.is_settled, rows)):
                yield table.label, key, parts_of(table, rows)
