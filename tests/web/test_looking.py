"""Looking changes nothing: every address, opened by somebody who may do everything, leaves every row as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from research.models import Note, Proposal, Run
from research.propose import notes
from research.record.rights import COMMAND_LINE
from research.runs import dispatch, workers
from tests import builders
from webapp.api import tokens
from webapp.notify import outbox
from webapp.notify.models import KINDS, Endpoint
from webapp.pages.accounts import links

LOOKS = ("get", "head", "options")


@pytest.fixture
def root(alice: User) -> User:
    alice.is_superuser = True
    alice.save()
    return alice


@pytest.fixture
def settled(pending: Proposal, root: User) -> Run:
    """A row of every kind that an address may be about; one finished run."""
    campaign = pending.campaign
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker())
    assert lease is not None
    run = builders.finish(lease, val_bpb=1.6)
    notes.note(campaign, "Leave the optimizer alone.", by=root)
    tracker = Endpoint.objects.create(description="Tracker", url="https://tracker.example/", kinds=list(KINDS))
    outbox.put_test(tracker, by=root)
    tokens.make("scout", campaign=campaign, by=COMMAND_LINE)
    links.make_link(root)
    return run


def named(patterns: list[Any], space: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = f"{space}{pattern.namespace}:" if pattern.namespace else space
            yield from named(pattern.url_patterns, inner)
        elif pattern.name:
            yield f"{space}{pattern.name}", pattern


def addresses_of(run: Run, *spaces: str) -> dict[str, str]:
    """Every address by its name, about the rows that there are; all of them, or only those of ``spaces``."""
    person, proposal = User.objects.earliest("pk"), Proposal.objects.earliest("pk")
    about = {
        "slug": run.campaign.slug,
        "name": run.campaign.dataset,
        "run_id": run.pk,
        "number": proposal.pk,
        "token": links.make_link(person),
        "app_label": "research",
        "content_type_id": ContentType.objects.get_for_model(Proposal).pk,
        "id": person.pk,
    }
    found = [(name, pattern) for name, pattern in named(get_resolver().url_patterns) if name.startswith(spaces or "")]
    return {name: _address(name, pattern, about) for name, pattern in found}


def _address(name: str, pattern: URLPattern, about: dict[str, Any]) -> str:
    """``pk`` and ``object_id`` are of the model that the address is about."""
    models = {f"admin:{model._meta.app_label}_{model._meta.model_name}_": model for model in apps.get_models()}
    model = next((model for start, model in models.items() if name.startswith(start)), None)
    model = model or {"run": Run, "campaign-note-retire": Note}.get(name.removesuffix("-score"), Proposal)
    row = model._default_manager.order_by("pk").last()
    about = about | {"pk": row.pk if row else 1, "object_id": row.pk if row else 1}
    return reverse(name, kwargs={key: about[key] for key in pattern.pattern.regex.groupindex})


def every_row() -> dict[str, list[Any]]:
    with connection.cursor() as cursor:
        tables = {}
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            tables[table] = sorted(map(repr, cursor.fetchall()))
    return tables


def looked_at(browser: Client, address: str, look: str, **told: Any) -> None:
    answer = getattr(browser, look)(address, **told)
    assert answer.status_code < 500, (address, look)
    if getattr(answer, "is_async", False):
        async_to_sync(to_its_end)(answer)
    elif answer.streaming:
        list(answer.streaming_content)


async def to_its_end(answer: Any) -> None:
    async for _ in answer:
        pass


def test_no_address_changes_anything_by_being_looked_at(settled: Run, root: User) -> None:
    browser = Client()
    browser.force_login(root)
    addresses = addresses_of(settled)
    assert {"login-link", "decide", "stop-run", "run-csv", "admin:research_run_change"} < set(addresses)
    assert len(addresses) > 100
    before = every_row()
    for address in addresses.values():
        for look in LOOKS:
            looked_at(browser, address, look)
        changed = [table for table, rows in every_row().items() if rows != before[table]]
        assert changed == [], address


@pytest.mark.parametrize("look", LOOKS)
def test_no_address_of_a_machine_changes_anything_by_being_looked_at(settled: Run, look: str) -> None:
    worker, agent = (
        workers.enrol("box-2", by=COMMAND_LINE),
        tokens.make("reader", scope="read", campaign=None, by=COMMAND_LINE),
    )
    for space, token in (("worker:", worker), ("v1:", agent)):
        addresses = addresses_of(settled, space)  # which makes a login link, too
        before = every_row()
        for address in addresses.values():
            looked_at(Client(), address, look, headers={"authorization": f"Bearer {token}"})
        after = every_row()
        changed = {table for table, rows in after.items() if rows != before[table]}
        assert changed <= {"webapp_agenttoken"}  # when a token was last seen
