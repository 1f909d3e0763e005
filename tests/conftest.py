"""Shared ground: a home of its own for every test, and people to write sentences about."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client

from research.loop import driver
from research.loop.driver import Driver
from research.models import Campaign, Proposal
from tests import builders, warm

Bells = list[driver.Bell]


@pytest.fixture(autouse=True)
def loop() -> Iterator[Driver]:
    """Whoever is rung is called once a test says so, and not before."""
    with driver.driving() as driven:
        yield driven


@pytest.fixture
def bells(loop: Driver) -> Bells:
    """The doorbells that were rung and not answered yet, as (task, rows)."""
    return loop.waiting


@pytest.fixture(scope="session", autouse=True)
def _static_files() -> None:
    """As `manage.py up` does: pages name their files by hash, and a missing one is an error."""
    call_command("collectstatic", interactive=False, verbosity=0)


def pytest_collection_finish() -> None:
    """What was imported stays: whoever collects garbage during a test need not look through all of it again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nurseries() -> Iterator[None]:
    yield
    warm.NURSERIES.close()


@pytest.fixture
def warm_starts() -> Iterator[None]:
    """Whoever starts a process of torch's without a sandbox, or at level none, gets a forked one."""
    with warm.starts():
        yield


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, settings: object) -> None:
    settings.REPOSITORIES = tmp_path / "repositories"  # type: ignore[attr-defined]
    settings.DATASETS = tmp_path / "datasets"  # type: ignore[attr-defined]
    settings.AUDIT_HEAD = tmp_path / "audit_head"  # type: ignore[attr-defined]
    settings.WHITENOISE_AUTOREFRESH = True  # type: ignore[attr-defined]  # else every client lists all static files first


def _person(name: str, *permissions: str, is_staff: bool = True) -> User:
    user = User.objects.create(
        username=name,
        email=f"{name}@lab.example",
        password=builders.password_hash(),
        first_name=name.title(),
        is_staff=is_staff,
    )
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    return user


@pytest.fixture
def alice(db: None) -> User:
    """Researches: sees everything, decides nothing."""
    return _person("alice")


@pytest.fixture
def bob(db: None) -> User:
    """Reviews: may decide, stop and pause."""
    return _person("bob", "add_decision", "steer_campaign")


@pytest.fixture
def charlie(db: None) -> User:
    """A stranger with an account and no rights."""
    return _person("charlie", is_staff=False)


@pytest.fixture
def carol(db: None) -> User:
    """Researches: proposes, and decides on others' proposals."""
    return _person("carol", "add_proposal", "add_decision")


@pytest.fixture
def dana(db: None) -> User:
    """Reviews, too: what two people have to sign, she signs second."""
    return _person("dana", "add_decision")


@pytest.fixture
def bobs_browser(bob: User, client: Client) -> Client:
    client.force_login(bob)
    return client


@pytest.fixture
def campaign(db: None) -> Campaign:
    """As most campaigns are; a folder whose sentences are about another one has its own."""
    return builders.make_campaign()


@pytest.fixture
def approved(campaign: Campaign, bob: User) -> Proposal:
    return builders.make_approved(campaign, bob)


@pytest.fixture
def with_a_key(monkeypatch: pytest.MonkeyPatch, settings: object) -> None:
    """The house asks Claude, wherever ANTHROPIC_BASE_URL leads."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    settings.ANTHROPIC_CONFIGURED = True  # type: ignore[attr-defined]
