"""Writes events for rows that people change in forms and shells, without a verb: a save records old and new values.

Such rows are accounts and their rights, a campaign's settings, tokens and addresses. The actor is ``events.actor``. A
verb that saves such a row writes its own, better event (``told_by_a_verb``). An ``update()`` of many rows, and SQL,
send no signal: ``verify_audit`` finds those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import ManyToManyField, Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from research.models import Campaign, Worker
from research.record import events, held, kinds
from research.record.held import Row, Table

MAX_VALUE = 500  # characters of one
_by_a_verb: ContextVar[bool] = ContextVar("a verb tells of what is saved")
_BEFORE, _BESIDE = "_countersign_before", "_countersign_beside"  # on the instance that is being saved or deleted


def connect() -> None:
    for model in (Campaign, Worker):
        over(held.TABLES[model._meta.label_lower])


def over(table: Table) -> None:
    """From now on a save or a deletion of a row of ``table`` leaves an event."""
    assert table.model._meta.model_name in kinds.ROWS, f"no kind of event tells that a row of {table.label} changed"
    own: Any = {"sender": table.model, "weak": False, "dispatch_uid": f"watch.{table.label}"}
    pre_save.connect(partial(_before_save, table), **own)
    post_save.connect(partial(_saved, table), **own)
    pre_delete.connect(partial(_before_delete, table), **own)
    post_delete.connect(partial(_deleted, table), **own)
    for name in table.many:
        _over_many(table, held.many_of(table, name))


def _over_many(table: Table, many: ManyToManyField[Any, Any]) -> None:
    own: Any = {"weak": False, "dispatch_uid": f"watch.{table.label}.{many.name}"}
    m2m_changed.connect(partial(_many_changed, table, many), sender=held.through(many), **own)
    far_side: Any = many.remote_field.model
    pre_delete.connect(partial(_before_far_side_goes, table, many), sender=far_side, **own)
    post_delete.connect(partial(_far_side_went, table, many), sender=far_side, **own)


@contextmanager
def told_by_a_verb() -> Iterator[None]:
    """Rows saved inside are told in the verb's own event, so no other is written."""
    token = _by_a_verb.set(True)
    try:
        yield
    finally:
        _by_a_verb.reset(token)


# --- one row -------------------------------------------------------------------------------------


def _before_save(table: Table, instance: Model, update_fields: Iterable[str] | None = None, **_: Any) -> None:
    before = _read(table, [instance.pk]) if _is_held(table, update_fields) and instance.pk else {}
    setattr(instance, _BEFORE, before)


def _is_held(table: Table, update_fields: Iterable[str] | None) -> bool:
    if _by_a_verb.get(False):
        return False
    if update_fields is None:
        return True
    held_ones = {f.name for f in table.model._meta.concrete_fields} - table.apart.keys()
    return any(name.removesuffix("_id") in held_ones or name in held_ones for name in update_fields)


def _saved(table: Table, instance: Model, created: bool, update_fields: Iterable[str] | None = None, **_: Any) -> None:
    before = instance.__dict__.pop(_BEFORE, {})
    if _is_held(table, update_fields):
        _tell(table, before if not created else {}, [instance.pk])


def _before_delete(table: Table, instance: Model, **_: Any) -> None:
    setattr(instance, _BEFORE, {} if _by_a_verb.get(False) else _read(table, [instance.pk]))


def _deleted(table: Table, instance: Model, **_: Any) -> None:
    if before := instance.__dict__.pop(_BEFORE, {}):
        _tell(table, before, list(before))


# --- who belongs to what -------------------------------------------------------------------------


def _many_changed(
    table: Table,
    many: ManyToManyField[Any, Any],
    instance: Model,
    action: str,
    reverse: bool,
    pk_set: set[int] | None = None,
    **_: Any,
) -> None:
    if action.startswith("pre_"):
        keys = [instance.pk] if not reverse else pk_set if pk_set is not None else _holders(many, instance)
        setattr(instance, _BEFORE, _read(table, keys))
    elif before := instance.__dict__.pop(_BEFORE, {}):
        _tell(table, before, list(before))


def _holders(many: ManyToManyField[Any, Any], far_side: Model) -> list[int]:
    pairs = held.through(many)._base_manager.filter(**{many.m2m_reverse_field_name(): far_side})
    return list(pairs.values_list(f"{many.m2m_field_name()}_id", flat=True))


def _before_far_side_goes(table: Table, many: ManyToManyField[Any, Any], instance: Model, **_: Any) -> None:
    """Remember who belongs to a group that is about to be deleted: they lose it, and no signal says so."""
    beside = instance.__dict__.setdefault(_BESIDE, {})
    beside[table.label, many.name] = _read(table, _holders(many, instance))


def _far_side_went(table: Table, many: ManyToManyField[Any, Any], instance: Model, **_: Any) -> None:
    if before := instance.__dict__.get(_BESIDE, {}).pop((table.label, many.name), {}):
        _tell(table, before, list(before))


# --- telling -------------------------------------------------------------------------------------


def _read(table: Table, keys: Iterable[int]) -> dict[int, Row]:
    return {key: rows[0] for key, rows in held.groups_of(table, keys)}


def _tell(table: Table, before: dict[int, Row], keys: list[int]) -> None:
    """Write one event for each row, locked meanwhile: of two saves at once the later event tells the final values."""
    with transaction.atomic():
        list(table.model._base_manager.select_for_update().filter(pk__in=keys).values_list("pk"))
        after = _read(table, keys)
        for key in keys:
            _record(table, key, before.get(key), after.get(key))


def _record(table: Table, key: int, before: Row | None, after: Row | None) -> None:
    changes = _changes(table, before or {}, after or {})
    if not changes and before and after:
        return
    shown = after or before
    assert shown is not None, "nobody saves a row that is not there before and after"
    word = "added" if not before else "changed" if after else "removed"
    by, name = events.actor(), table.name.format(**shown)
    changed = f": {', '.join(_in_words(*change) for change in changes.items())}" if word == "changed" else ""
    events.record(
        kinds.ROWS[str(table.model._meta.model_name)][word](changes=changes),
        f"{name} was {word}{changed}",
        by=by,
        campaign=_campaign(table, key) if after else None,
        rows=[(table.model, key)],
    )


def _campaign(table: Table, key: int) -> Campaign | None:
    return Campaign.objects.get(pk=key) if table.model is Campaign else None


def _changes(table: Table, before: Row, after: Row) -> dict[str, list[Any]]:
    """field -> [old, new]; of a secret only that it changed."""
    names = [*table.fields, *table.many]
    pairs = {name: [held.plain(before.get(name)), held.plain(after.get(name))] for name in names}
    return {
        name: ["secret", "another secret"] if name in table.secret else [_short(value) for value in pair]
        for name, pair in pairs.items()
        if pair[0] != pair[1]
    }


def _short(value: Any) -> Any:
    return f"{value[:MAX_VALUE]}…" if isinstance(value, str) and len(value) > MAX_VALUE else value


def _in_words(name: str, values: list[Any]) -> str:
    if isinstance(values[0], list) or isinstance(values[1], list):
        was, now = set(values[0] or ()), set(values[1] or ())
        return (
            f"{name} {' '.join([*(f'+{one}' for one in sorted(now - was)), *(f'-{one}' for one in sorted(was - now))])}"
        )
    was_short, now_short = (f"{str(value)[:60]!s}" for value in values)
    return f"{name} {was_short} -> {now_short}"
