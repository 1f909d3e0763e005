"""Starting a campaign: the row, its repository and its first incumbent, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from gpu_runner import contract
from research.models import Campaign, Incumbent
from research.record import events, repository, watch


def create(*, by: str, created_by: User | None = None, **fields: Any) -> Campaign:
    """Create a campaign on the recipe it names. Raises ValueError naming the bad field."""
    campaign = Campaign(created_by=created_by, **fields)
    _check(campaign)
    recipe_dir = recipe_folder(campaign.recipe)
    contract.parse_recipe((recipe_dir / "recipe.toml").read_text())
    contract.SeedPolicy.model_validate(campaign.seeds)
    contract.Budget.model_validate(campaign.run_budget)
    with repository.begun(recipe_dir) as (commit, fresh), transaction.atomic(), watch.told_by_a_verb():
        _take_slug(campaign)  # before its repository: of two with one slug at once, one comes no further than here
        repository.put(fresh, campaign)
        rows = [campaign, Incumbent.objects.create(campaign=campaign, number=0, commit=commit)]
        events.record("campaign.created", f"{campaign.name} began", by=by, campaign=campaign, rows=rows, commit=commit)
    return campaign


def _check(campaign: Campaign) -> None:
    try:
        campaign.full_clean(exclude=["created_by"])
    except ValidationError as error:
        said = (f"{field}: {' '.join(sentences)}" for field, sentences in error.message_dict.items())
        raise ValueError("; ".join(said)) from error


def _take_slug(campaign: Campaign) -> None:
    try:
        campaign.save()
    except IntegrityError as error:
        raise ValueError(f"slug: there is a campaign {campaign.slug!r} already") from error


def recipe_folder(name: str) -> Path:
    folder = Path(settings.RECIPES) / name
    if not contract.is_safe_path(name) or not (folder / "recipe.toml").is_file():
        known = ", ".join(sorted(p.parent.name for p in Path(settings.RECIPES).glob("*/recipe.toml")))
        raise ValueError(f"recipe: there is no recipe {name!r}; there are: {known}")
    return folder
