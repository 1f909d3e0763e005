"""Starting a campaign: the row, its repository and its first incumbent, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from gpu_runner import contract
from research.models import Campaign, Incumbent
from research.record import events, kinds, repository, watch


def create(*, by: str, created_by: User | None = None, **fields: Any) -> Campaign:
    """Create a campaign on the recipe it names. Raises ValueError naming the bad field."""
    campaign = Campaign(created_by=created_by, **fields)
    campaign.full_clean(exclude=["created_by"])
    recipe_dir = recipe_folder(campaign.recipe)
    contract.parse_recipe((recipe_dir / "recipe.toml").read_text())
    contract.SeedPolicy.model_validate(campaign.seeds)
    contract.Budget.model_validate(campaign.run_budget)
    commit = repository.create(campaign, recipe_dir)
    with transaction.atomic(), watch.told_by_a_verb():
        campaign.save()
        rows = [campaign, Incumbent.objects.create(campaign=campaign, number=0, commit=commit)]
        fact = kinds.CAMPAIGN_CREATED(commit=commit)
        events.record(fact, f"{campaign.name} began", by=by, campaign=campaign, rows=rows)
    return campaign


def recipe_folder(name: str) -> Path:
    folder = Path(settings.RECIPES) / name
    if not contract.is_safe_path(name) or not (folder / "recipe.toml").is_file():
        known = ", ".join(sorted(p.parent.name for p in Path(settings.RECIPES).glob("*/recipe.toml")))
        raise ValueError(f"recipe: there is no recipe {name!r}; there are: {known}")
    return folder
