"""One campaign and one proposal that waits: what most sentences about pages begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from research.models import Campaign, Proposal
from tests import builders
from tests.web.chromium import CHROMIUM
from tests.web.people import browser_of


@pytest.fixture(scope="session", autouse=True)
def _browser() -> Iterator[None]:
    yield
    CHROMIUM.close()


@pytest.fixture(autouse=True)
def _nobody_rests() -> None:
    """Refused sign-ins of another test are forgotten."""
    cache.clear()


@pytest.fixture
def campaign(db: None) -> Campaign:
    return builders.make_campaign(target_bpb=1.5, budget_gpu_hours=10)


@pytest.fixture
def carols_browser(carol: User) -> Client:
    return browser_of(carol)


@pytest.fixture
def pending(campaign: Campaign) -> Proposal:
    return builders.make_pending(campaign)
