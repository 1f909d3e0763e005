"""Every attack there is, from all three collections."""

from __future__ import annotations

from tests.sandbox import attacks, byways, lookups

ALL = attacks.ATTACKS | lookups.LOOKUPS | byways.BYWAYS
