"""What both APIs need."""

from __future__ import annotations

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _nobody_rests() -> None:
    """Wrong tokens of another test are forgotten."""
    cache.clear()
