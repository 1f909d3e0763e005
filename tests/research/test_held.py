"""Nothing that decides, or that Claude reads, can be changed in the database unnoticed: mallory has all of SQL.

The trials are made of the models themselves: whoever adds a field or a table to them has it held, or says why not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from itertools import zip_longest
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from research.change.drafts import Usage
from research.gates import overridden
from research.models import Campaign, Proposal
from research.propose import notes
from research.record import audit, audited, events, held, kinds, ledger, moves
from research.record.rights import COMMAND_LINE, DISPATCH, Part
from research.review import decisions, override
from tests import builders
from webapp.api import tokens
from webapp.notify.models import KINDS, Endpoint
from webapp.pages.accounts import links

pytestmark = pytest.mark.django_db
SENT = Usage(
    model="claude", input_tokens=9, output_tokens=0, cache_read_tokens=0, cache_write_tokens=0, usd=None, seconds=0.0,
    stop_reason="sent", usd_at_most=Decimal("0.5"),
)  # fmt: skip


@pytest.fixture
def record(bob: User, dana: User, alice: User, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """At least one row of every table that is covered, and all of it in the chain."""
    campaign = builders.make_campaign()
    worker = builders.make_worker()
    _judged(campaign, bob)
    _overridden(campaign, bob, dana)
    builders.make_wave(campaign, builders.make_draft(title="Of a wave"))
    builders.make_proposal(campaign, title="By hand", arm="human", author=alice)
    notes.note(campaign, "Look at attention.", by=bob)
    links.make_link(dana)
    tokens.make("scout", campaign=campaign, by=COMMAND_LINE)
    Endpoint.objects.create(description="Tracker", url="https://t.example/in", kinds=list(KINDS))
    reviewers = Group.objects.create(name="Reviewers")
    reviewers.permissions.add(Permission.objects.get(codename="add_decision"))
    alice.groups.add(reviewers)
    ledger.enter(campaign, SENT, "propose")
    assert worker
    audit.chain()
    assert findings() == []
    return campaign


def _judged(campaign: Campaign, bob: User) -> None:
    proposal = builders.make_pending(campaign)
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=bob)
    while (lease := builders.claim(builders.make_worker())) is not None:
        builders.finish(lease, val_bpb=1.5 if lease.spec.purpose == "candidate" else 1.6)
    assert Proposal.objects.get(pk=proposal.pk).state == "judged"


def _overridden(campaign: Campaign, *people: User) -> None:
    blocked = builders.make_blocked(campaign)
    sha256 = overridden.sha256_of(overridden.failed(blocked.revision))
    for person in people:
        override.sign(blocked.pk, digest=blocked.revision.digest, gates_sha256=sha256, reason="Seen.", by=person)


def findings() -> list[str]:
    """As ``audit.verify`` finds them; it takes a moment of its own, which a test inside a transaction has already."""
    return audit._verify("").findings


@contextmanager
def undone() -> Iterator[None]:
    """What is written within is gone afterwards; references are checked at the end of a transaction, so never."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def other(field: models.Field[Any, Any], value: Any) -> Any:
    """Another value that the column takes."""
    if isinstance(field, models.ForeignKey):
        return (value or 0) + 1_000
    if field.choices:
        return next(key for key, _ in field.flatchoices if key != value)
    if isinstance(field, models.BooleanField):
        return not value
    if isinstance(field, models.FloatField):
        return 0.5 if value is None else value + 1e-4
    if isinstance(field, models.IntegerField | models.DecimalField):
        return (value or 0) + (100_000 if field.primary_key else 11)
    if isinstance(field, models.DateTimeField):
        return (value or timezone.now()) + timedelta(microseconds=1)
    if isinstance(field, models.JSONField):
        return ["changed", value]
    if isinstance(field, models.BinaryField):
        return bytes(value) + b"."
    assert isinstance(field, models.CharField | models.TextField), field
    return f"{value[:-1]}{'x' if value[-1:] != 'x' else 'y'}"


def settled(table: held.Table) -> held.Row:
    """A row of it that nothing writes to any more."""
    return next(row for row in held.rows_of(table) if table.is_settled(row))


def columns() -> list[tuple[held.Table, models.Field[Any, Any]]]:
    return [(t, f) for t in held.TABLES.values() for f in t.model._meta.concrete_fields if f.name not in t.apart]


def names(table: held.Table) -> set[str]:
    """What its rows are called in findings."""
    return {table.name.format(**row) for row in held.rows_of(table)}


class Forged:
    """A settled row of a table of which one column is changed by hand, and what a finding about it begins with."""

    def __init__(self, table: held.Table, field: models.Field[Any, Any]) -> None:
        self.table, self.field, self.column = table, field, f"{table.label}.{field.name}"
        row, self.called = settled(table), names(table)
        self.key = row.get(table.model._meta.pk.attname) or _a_key(table, row)
        self.starts = {f"{table.label.partition('.')[2]} {row[table.grouped_by or 'id']} "}
        self.starts.add(f"{table.name.format(**row)} ")

    def change(self) -> None:
        rows, name = self.table.model._base_manager.filter(pk=self.key), self.field.attname
        assert rows.update(**{name: other(self.field, rows.values_list(name, flat=True).get())}) == 1

    def is_named(self, found: list[str], *words: str) -> bool:
        about = [one for one in found if one.replace(":", " ").startswith(tuple(self.starts))]
        return any(word in one for one in about for word in words)


def forged(chosen: list[tuple[held.Table, models.Field[Any, Any]]]) -> list[Forged]:
    """All of them chosen before the first is changed, since a changed key hides what belongs to it."""
    made = [Forged(*pair) for pair in chosen]
    for one in made:
        one.change()
    for one in made:
        one.starts |= {f"{name} " for name in names(one.table) - one.called}  # the column may be part of its name
    return made


def one_a_table(wanted: list[tuple[held.Table, models.Field[Any, Any]]]) -> Iterator[list[Any]]:
    """The columns in rounds, one of each table: to verify the whole record takes longer than to change it.

    What belongs to a row of another table, and is held only once that is over, has rounds of its own.
    """
    for belongs in (False, True):
        tables = [table for table in held.TABLES.values() if bool(table.grouped_by) is belongs]
        by_table = [[pair for pair in wanted if pair[0] is table] for table in tables]
        yield from (list(filter(None, chosen)) for chosen in zip_longest(*by_table))


def test_no_column_can_be_changed_by_sql_without_its_row_being_named(record: Campaign) -> None:
    missed = []
    for chosen in one_a_table(columns()):
        with undone():
            mine, found = forged(chosen), findings()
        words = ("is not what the events tell of it", "was removed")
        missed += [one.column for one in mine if not one.is_named(found, *words)]
    assert missed == []
    assert len(columns()) > 150


def test_no_later_event_makes_good_what_was_changed_by_hand_before_it(record: Campaign) -> None:
    """Mallory changes a column and waits until a verb tells of the row again, with what is there then."""
    made_good = []
    for chosen in one_a_table([pair for pair in columns() if _stays(*pair)]):
        with undone():
            mine = forged(chosen)
            told = [(one.table.model, one.key) for one in mine]
            events.record(kinds.REPAIR_FAILED(), "And then", by="test", rows=told)
            found = findings()
        made_good += [one.column for one in mine if not one.is_named(found, "by hand before event")]
    assert made_good == []


def test_a_state_that_was_set_by_hand_is_found_though_all_went_on_from_there(record: Campaign, bob: User) -> None:
    moves.move_campaign(record, "paused", by=Part("test"), reason="it rests")
    proposal = builders.make_pending(builders.make_campaign(slug="second"))
    decisions.decide(
        proposal.pk, digest=proposal.revision.digest, choice="reject", category="later", reason="Not now.", by=bob
    )
    assert findings() == []
    Proposal.objects.filter(pk=proposal.pk).update(state="approved")
    proposal.refresh_from_db()
    moves.move_proposal(proposal, "running", by=DISPATCH, sentence="It runs")
    (finding,) = findings()
    assert finding.startswith(
        f"proposal {proposal.pk} was rejected and cannot have become running: its state was chang"
    )


def _stays(table: held.Table, field: models.Field[Any, Any]) -> bool:
    """Whether no event may tell of the column anew."""
    return not (table.grouped_by or field.attname in table.moving | table.until.keys() or field.primary_key)


def _a_key(table: held.Table, row: held.Row) -> int:
    return table.model._base_manager.filter(**{table.grouped_by: row[table.grouped_by]}).values_list("pk", flat=True)[0]


def test_no_row_can_be_taken_out_by_sql(record: Campaign) -> None:
    for table in held.TABLES.values():
        row = settled(table)
        rows = table.model._base_manager.filter(pk=row.get("id") or _a_key(table, row))
        with undone():
            assert rows._raw_delete(rows.db) == 1
            found = findings()
        assert any("was removed" in one or "is not what the events tell of it" in one for one in found), table.label


def test_no_row_can_be_put_in_by_sql(record: Campaign) -> None:
    for table in held.TABLES.values():
        row = settled(table)
        there = table.model._base_manager.get(pk=row.get("id") or _a_key(table, row))
        with undone():
            forged = table.model(**{f.attname: _of_a_copy(f, there) for f in table.model._meta.concrete_fields})
            table.model._base_manager.bulk_create([forged])
            found = findings()
        assert any("was added by hand" in one or "is not what the events tell of it" in one for one in found), (
            table.label
        )


def _of_a_copy(field: models.Field[Any, Any], there: models.Model) -> Any:
    """What a copy of ``there`` may say beside it."""
    value = getattr(there, field.attname)
    if isinstance(field, models.OneToOneField):
        taken = type(there)._base_manager.values(field.attname)
        free = field.related_model._base_manager.exclude(pk__in=taken.exclude(**{field.attname: None}))
        return None if field.null else free.values_list("pk", flat=True)[0]
    is_free = isinstance(field, models.ForeignKey | models.JSONField) or field.choices
    return value if is_free else other(field, value)


def test_rights_are_held_whoever_has_them_and_under_whatever_name(record: Campaign, alice: User) -> None:
    by_sql = {
        "the account charlie": lambda: _pair(User.groups.through, user=_charlie(), group=Group.objects.get()),
        "the account alice": lambda: _pair(
            User.user_permissions.through, user=alice, permission=Permission.objects.get(codename="change_campaign")
        ),
        "the group Reviewers": lambda: Group.permissions.through._base_manager.all()._raw_delete("default"),
        "the account bob": lambda: Permission.objects.filter(codename="steer_campaign").update(codename="x"),
    }
    _charlie()
    audit.chain()
    for name, act in by_sql.items():
        with undone():
            act()
            assert any(one.startswith(f"{name} is not what the events tell of it: see ") for one in findings())


def _charlie() -> User:
    return User.objects.get_or_create(username="charlie")[0]


def _pair(through: Any, **sides: Any) -> None:
    through._base_manager.bulk_create([through(**sides)])


def test_every_table_is_held_or_says_why_not() -> None:
    through = {held.through(held.many_of(t, name)) for t in held.TABLES.values() for name in t.many}
    every = {model._meta.label_lower for model in apps.get_models(include_auto_created=True) if model not in through}
    assert every == held.TABLES.keys() | audited.APART.keys()
    assert not held.TABLES.keys() & audited.APART.keys()
    for table in held.TABLES.values():
        fields = {field.name for field in table.model._meta.concrete_fields}
        assert table.apart.keys() | table.until.keys() <= fields, table.label
        assert all(len(reason) > 20 for reason in [*table.apart.values(), *table.until.values()])
        many = {field.name for field in table.model._meta.many_to_many}
        assert many == table.many.keys(), table.label


def test_what_a_run_says_while_it_goes_on_is_no_tampering_and_is_held_at_its_end(record: Campaign) -> None:
    proposal = builders.make_proposal(record, title="Goes on", overrides=[builders.make_override(value=0.3)])
    from research.gates import process
    from research.runs import report

    process.check(proposal.revision)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    run = report.leased(lease.spec.run_id, lease.token)
    report.accept(
        run, builders.contract.Report(fence=lease.spec.fence, seq=1, phase="training", points=builders.make_points())
    )
    assert findings() == []
    report.beat(run, lease.spec.fence)
    assert findings() == []


def test_an_event_tells_the_same_hashes_from_every_side(record: Campaign) -> None:
    """JSON numbers come back from PostgreSQL in another dress: 1e22 as a whole number, no negative zero."""
    with transaction.atomic():
        fact = kinds.BETTER_ON_VAL(final={"big": 1e22, "zero": -0.0, "small": 5e-324, "third": 1 / 3})
        event = events.record(fact, "Numbers", by="test")
    row = next(row for row in audit.chains.rows(chained=False) if row["pk"] == event.pk)
    assert audit.chains.is_sealed(row)


def test_a_column_that_cannot_be_read_is_named_and_ends_nothing(record: Campaign) -> None:
    with undone():
        try:
            with transaction.atomic():
                Campaign.objects.update(alpha=float("inf"))
        except IntegrityError:
            return
        assert "campaign first is not what the events tell of it: see alpha" in findings()
