"""Creates a campaign (its row, repository and first incumbent, or none of them), and changes its settings later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from gpu_runner import contract
from research.models import Campaign, Incumbent
from research.record import events, foreign, kinds, repository, rights, watch
from research.record.rights import Actor

GOAL = ("name", "goal", "program", "target_bpb")
BUDGET = ("budget_gpu_hours", "budget_usd", "usd_per_gpu_hour")
POLICY = ("min_pairs", "max_pairs", "alpha", "min_effect_bpb", "approval_ttl_h", "deadline_s")
PACE = ("num_waiting", "max_agent_open", "in_batches")


def create(*, by: Actor, created_by: User | None = None, **fields: Any) -> Campaign:
    """Create a campaign on the recipe it names. ``created_by`` is its creator where ``by`` is no person.

    Raises PermissionDenied, or ValueError naming the bad field.
    """
    rights.check(by, rights.begin, None)
    campaign = Campaign(created_by=by if isinstance(by, User) else created_by, **fields)
    _check(campaign)
    recipe_dir = recipe_folder(campaign.recipe)
    foreign.settle(campaign, contract.parse_recipe((recipe_dir / "recipe.toml").read_text()))
    contract.SeedPolicy.model_validate(campaign.seeds)
    contract.Budget.model_validate(campaign.run_budget)
    with repository.begun(recipe_dir) as (commit, fresh), transaction.atomic(), watch.told_by_a_verb():
        _take_slug(campaign)  # before its repository: of two with one slug at once, one comes no further than here
        repository.put(fresh, campaign)
        rows = [campaign, Incumbent.objects.create(campaign=campaign, number=0, commit=commit)]
        fact = kinds.CAMPAIGN_CREATED(commit=commit)
        events.record(fact, f"{campaign.name} began", by=rights.name_of(by), campaign=campaign, rows=rows)
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


def change(campaign: Campaign, *, by: Actor, **wanted: Any) -> None:
    """Set some of GOAL, BUDGET, POLICY and PACE, for all that is proposed from then on.

    Writes only the named fields, since a verb may have moved the state after ``campaign`` was read. Raises
    PermissionDenied, or ValueError naming a setting that is fixed from the beginning.
    """
    for name in wanted:
        if name not in (*GOAL, *BUDGET, *POLICY, *PACE):
            raise ValueError(f"{name}: is fixed when a campaign begins")
        rights.check(by, rights.set_pace if name in PACE else rights.set_policy, campaign)
    for name, value in wanted.items():
        setattr(campaign, name, value)
    with events.acting(rights.name_of(by)):  # the save leaves an event with the old and the new values: see ``watch``
        campaign.save(update_fields=wanted)


def recipe_folder(name: str) -> Path:
    folder = Path(settings.RECIPES) / name
    if not contract.is_safe_path(name) or not (folder / "recipe.toml").is_file():
        known = ", ".join(sorted(p.parent.name for p in Path(settings.RECIPES).glob("*/recipe.toml")))
        raise ValueError(f"recipe: there is no recipe {name!r}; there are: {known}")
    return folder
