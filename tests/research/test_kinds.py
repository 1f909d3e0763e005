"""Kinds of event: all registered, all written by somebody, with a payload of their shape, as the record holds them."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.template import Context, Template

from research.loop import follow
from research.models import Event
from research.record import events, held, kinds, moves
from research.record.rights import Part
from tests import builders
from tests.yard.processes import ROOT
from webapp.notify import models as notify
from webapp.templatetags.shown import EVENT_ICONS

GOLDEN = Path(__file__).parent / "golden" / "events.txt"
OURS = [
    path
    for folder in ("research", "webapp")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".html", ".js") and path.name != "kinds.py" and "migrations" not in path.parts
]


def calls() -> Iterator[ast.expr]:
    """What is called, anywhere in our code."""
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())) if path.suffix == ".py" else ():
            if isinstance(node, ast.Call):
                yield node.func


def made_by(called: ast.expr) -> Iterator[str]:
    """``kinds.X(...)``, ``kinds.X.of(...)``, ``kinds.X[state](...)``: the kinds that it can be."""
    if isinstance(called, ast.Attribute) and called.attr == "of":
        called = called.value
    states = []
    while isinstance(called, ast.Subscript):
        states.append(called.slice)
        called = called.value
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "kinds":
        found: Any = getattr(kinds, called.attr, None)
        for state in reversed(states):
            found = found[state.value] if isinstance(state, ast.Constant) else found
        yield from leaves(found)


def leaves(found: Any) -> Iterator[str]:
    if isinstance(found, kinds.Kind):
        yield found
    elif isinstance(found, dict):
        for inner in found.values():
            yield from leaves(inner)


def test_every_kind_is_written_by_somebody() -> None:
    made = {kind for called in calls() for kind in made_by(called)}
    assert kinds.REGISTERED.keys() - made == set()


def test_nobody_spells_a_kind_out() -> None:
    dotted = "|".join(re.escape(kind) for kind in kinds.REGISTERED if "." in kind)
    spelled = re.compile(rf"""["'`](?:{dotted})["'`]""")
    assert {str(path): found for path in OURS if (found := spelled.findall(path.read_text()))} == {}


def test_whoever_waits_for_a_kind_waits_for_one_that_there_is() -> None:
    families = {kind.partition(".")[0] for kind in kinds.REGISTERED}
    rewriting = {kind for table in held.TABLES.values() for kind in table.rewrites}
    sent = {kind for of_type in notify.KINDS.values() for kind in of_type}
    assert follow.AFTER.keys() | rewriting | sent | notify.KINDS.keys() <= kinds.REGISTERED.keys()
    assert EVENT_ICONS.keys() <= kinds.REGISTERED.keys() | families
    assert {table.removed_by for table in held.TABLES.values()} - {""} <= kinds.REGISTERED.keys()


def test_the_page_on_webhooks_names_the_types_that_there_are_and_what_they_are_sent_for() -> None:
    rows = re.findall(r"^\| `([a-z._]+)` \| (.+) \|$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert {name: set(re.findall(r"`(.+?)`", sent_for)) for name, sent_for in rows} == notify.KINDS


@pytest.mark.django_db
def test_a_wrong_payload_is_refused_and_nothing_is_written() -> None:
    campaign = builders.make_campaign()
    num = Event.objects.count()
    for wrong, payload in (
        (kinds.WORKER_HELLO, {}),
        (kinds.WORKER_HELLO, {"worker": 1, "name": "box"}),
        (kinds.REPAIR_FAILED, {"reason": "none"}),
        (kinds.PROPOSAL["checking"], {"digest": ""}),
    ):
        with pytest.raises(TypeError, match=f"an event {wrong} says "), transaction.atomic():
            events.record(wrong.of(payload), "It happened", by="test", campaign=campaign)
    assert Event.objects.count() == num


@pytest.mark.django_db
def test_a_kind_that_is_not_registered_is_refused_and_nothing_is_written() -> None:
    stray: Any = kinds.Fact("repair.failed", {})  # type: ignore[arg-type]  # a string that looks like one
    for fact in (stray, stray._replace(kind="test.written")):
        with pytest.raises(AssertionError, match="is no kind of event"), transaction.atomic():
            events.record(fact, "It happened", by="test")
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_a_move_with_the_payload_of_another_does_not_happen() -> None:
    proposal = builders.make_proposal(builders.make_campaign())
    with pytest.raises(TypeError, match=r"an event proposal\.withdrawn says nothing or reason, and not wave"):
        moves.move_proposal(proposal, "withdrawn", by=Part("test"), sentence="It goes", payload={"wave": 1})
    proposal.refresh_from_db()
    assert proposal.state == "drafted"


def test_a_name_is_registered_once() -> None:
    with pytest.raises(AssertionError, match="verdict is registered already"):
        kinds.Kind("verdict", kinds.Nothing)


def test_a_kind_is_itself_in_a_copy_and_its_name_on_a_page() -> None:
    assert copy.deepcopy(kinds.VERDICT) is copy.copy(kinds.VERDICT) is kinds.VERDICT
    assert Template("{{ kind }}").render(Context({"kind": kinds.VERDICT})) == "verdict"


def test_what_earlier_versions_wrote_is_what_this_one_writes() -> None:
    """Every shape of payload that was in use when kinds were registered, as JSON in the database."""
    lines = [line.partition(" ") for line in GOLDEN.read_text().splitlines()]
    for kind, _, stored in lines:
        assert json.dumps(kinds.REGISTERED[kind].of(json.loads(stored)).payload) == stored
    assert {kind for kind, _, _ in lines} == kinds.REGISTERED.keys()


def test_an_event_has_the_hash_that_earlier_versions_gave_it() -> None:
    row = dict.fromkeys(events.CONTENT) | {
        **kinds.RUN["finished"](val_bpb=1.25, outcome="ok")._asdict(),
        "by": "worker:box",
        "sentence": "R-1 finished",
        "rows": {},
        "at": datetime(2026, 11, 29, 12, 0, tzinfo=UTC),
    }
    assert events.content_sha256(row) == "ef1c7fa57fad01f367e37570acd60ee11eebbcd5f46081b37d10d26771e94c13"
