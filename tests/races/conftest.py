"""Both towns are built once: the same tests on the same code, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import settings

from .postgres import make_database, postgres
from .town import Town


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server."""
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def towns(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[Callable[[str], Town]]:
    """Backend -> its town, built when first asked for. Tests come in any order; each has campaigns of its own."""
    built: dict[str, Town] = {}
    with ExitStack() as ends:

        def town_on(backend: str) -> Town:
            if backend not in built:
                database = make_database(server, "countersign") if backend == "postgresql" else ""
                built[backend] = Town(backend, tmp_path_factory.mktemp(backend), Path(settings.STATIC_ROOT), database)
                ends.callback(built[backend].end)
            return built[backend]

        yield town_on


@pytest.fixture(params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, towns: Callable[[str], Town]) -> Iterator[Town]:
    town = towns(request.param)
    yield town
    assert town.complaints() == ""
    assert town.stage.do("findings") == []
