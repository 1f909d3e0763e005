"""The knobs that a proposal sets, beside what the recipe that it builds on has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gpu_runner import contract
from research.models import Campaign
from research.record import repository


@dataclass(frozen=True)
class OverrideRow:
    key: str
    before: contract.KnobValue | None
    after: contract.KnobValue
    reason: str
    unit: str


@lru_cache(maxsize=64)
def _recipe_at(slug: str, commit: str) -> contract.Recipe:
    """A commit never changes, so neither does its recipe. Failures are not remembered."""
    campaign = Campaign.objects.get(slug=slug)
    return contract.parse_recipe(repository.files_at(campaign, commit)["recipe.toml"])


def recipe_of(campaign: Campaign, commit: str) -> contract.Recipe | None:
    """The recipe at ``commit``; None when the repository cannot be read, which the page then says."""
    try:
        return _recipe_at(campaign.slug, commit)
    except (OSError, ValueError, KeyError):
        return None
