"""How trackers name the columns of the tables that they export. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from research.history.past import Kind


def fields(kind: Kind, names: Sequence[str]) -> dict[str, str]:
    """Their name -> our field, where the tool's own format says it."""
    return {}
