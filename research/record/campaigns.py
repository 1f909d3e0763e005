"""Creates a campaign (its row, repository and first incumbent, or none of them), changes it, clones it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Max

from gpu_runner import contract
from research.models import Campaign, Incumbent, Program
from research.record import events, foreign, kinds, recipe_source, repository, rights, watch
from research.record.recipe_source import Source
from research.record.rights import Actor, Agent

GOAL = ("name", "goal", "program", "target_bpb")
BUDGET = ("budget_gpu_hours", "budget_usd", "usd_per_gpu_hour")
SEEDS = ("min_pairs", "max_pairs", "alpha", "min_effect_bpb")
POLICY = (*SEEDS, "approval_ttl_h", "deadline_s")
PACE = ("num_waiting", "max_agent_open", "in_batches")
# What makes runs comparable: a campaign keeps it from its beginning to its end, and so does its clone.
MEASURED = (
    "dataset",
    "dataset_sha256",
    "metric",
    "metric_unit",
    "direction",
    "judges_self_reported",
    "run_budget_kind",
    "run_budget_amount",
    "score_tokens",
    "smoke_steps",
    "sandbox_level",
)
CLONED = (*GOAL, *BUDGET, *POLICY, *PACE, *MEASURED)
MEASURED_BY_US = ("val_bpb", "lower")
RESERVED = ("new",)  # pages/urls.py
BOUNDS: dict[str, tuple[int, int]] = {
    "budget_gpu_hours": (0, 10_000_000),
    "budget_usd": (0, 99_999_999),  # what the column holds
    "usd_per_gpu_hour": (0, 9_999),  # a price below zero would give spent budget back
    "deadline_s": (1, 30 * 24 * 3600),
    "approval_ttl_h": (1, 365 * 24),
    "max_pairs": (1, contract.MAX_PAIRS),  # beyond are the sealed pair's seed, and the next incumbent's
    "num_waiting": (0, 100),  # Claude is asked for as many at once
    "run_budget_amount": (1, 10**15),
    "score_tokens": (1, 10**9),
    "smoke_steps": (1, 1_000),
}


def create(
    *,
    by: Actor,
    created_by: User | None = None,
    recipe: str = "gpt",
    recipe_commit: str = "",
    cloned_from: Campaign | None = None,
    **fields: Any,
) -> Campaign:
    """Create a campaign on a recipe of ours, or on that at a path or URL (``recipe_source``), at ``recipe_commit``.

    It is *active* unless ``state`` says *planned*. ``created_by`` is its creator where ``by`` is no person. With
    ``cloned_from`` the recipe is that campaign's incumbent.

    Raises PermissionDenied, or ValueError naming the bad field.
    """
    rights.check(by, rights.begin, None)
    if isinstance(by, Agent):
        _check_of_an_agent(recipe, fields)
    campaign = Campaign(created_by=by if isinstance(by, User) else created_by, cloned_from=cloned_from, **fields)
    _check(campaign)
    with (
        recipe_source.opened(*_place(cloned_from, recipe, recipe_commit)) as source,
        repository.begun(source) as (commit, fresh),
        transaction.atomic(),
        watch.told_by_a_verb(),
    ):
        _take_recipe(campaign, source)
        _take_slug(campaign)  # before its repository: of two with one slug at once, one comes no further than here
        repository.put(fresh, campaign)
        program = Program.objects.create(campaign=campaign, number=0, text=campaign.program, by=campaign.created_by)
        rows = [campaign, program, Incumbent.objects.create(campaign=campaign, number=0, commit=commit)]
        fact = kinds.CAMPAIGN_CREATED(commit=commit)
        events.record(fact, f"{campaign.name} began", by=rights.name_of(by), campaign=campaign, rows=rows)
    return campaign


def _check_of_an_agent(recipe: str, fields: Mapping[str, Any]) -> None:
    """What an agent begins runs nothing before a person starts it, and reads no folder of this machine."""
    if recipe not in recipe_source.names():
        known = ", ".join(recipe_source.names())
        raise ValueError(f"recipe: an agent takes a shipped one ({known}); people name folders and addresses")
    if fields.get("state") != "planned":
        raise ValueError("state: what an agent begins is planned; a person starts it")


def _place(cloned_from: Campaign | None, recipe: str, recipe_commit: str) -> tuple[str, str]:
    if cloned_from is None:
        return recipe, recipe_commit
    return str(repository.path_of(cloned_from).resolve()), cloned_from.incumbent.commit


def _take_recipe(campaign: Campaign, source: Source) -> None:
    """Note what the recipe is and where it came from. Raises ValueError where the campaign's budget is none of it."""
    campaign.recipe = source.name
    campaign.origin, campaign.origin_commit = source.origin, source.commit
    if campaign.cloned_from is not None:
        campaign.recipe, campaign.origin = campaign.cloned_from.recipe, f"campaign {campaign.cloned_from.slug}"
    command = source.recipe.command
    if command is not None and (problem := command.problem_with_budget(campaign.run_budget_kind)) is not None:
        raise ValueError(f"run_budget_kind: {problem.removeprefix('run budget: ')}")
    foreign.settle(campaign, source.recipe)


def check_metric(metric: str, direction: str, recipe: contract.Recipe) -> None:
    """Raises ValueError where somebody asks for another metric than the recipe gives."""
    told = recipe.metrics if recipe.is_self_reported else None
    if told is None and (metric, direction) != MEASURED_BY_US:
        raise ValueError("metric: the trusted scorer measures val_bpb, where lower is better; name that one")
    if told is not None and (metric, direction) not in (MEASURED_BY_US, (told.metric, told.direction)):
        raise ValueError(f"metric: the recipe's trainer reports {told.metric}, where {told.direction} is better")


def _check(campaign: Campaign) -> None:
    try:
        campaign.full_clean(exclude=["created_by"])
    except ValidationError as error:
        said = (f"{field}: {' '.join(sentences)}" for field, sentences in error.message_dict.items())
        raise ValueError("; ".join(said)) from error
    _check_bounds(campaign)
    _ = campaign.seeds, campaign.run_budget  # pydantic's own ValueError
    if campaign.slug in RESERVED:
        raise ValueError(f"slug: {campaign.slug!r} is an address of the pages; choose another")
    if campaign.state not in ("active", "planned"):
        raise ValueError("state: a campaign begins planned or active")


def _check_bounds(campaign: Campaign) -> None:
    for name, (low, high) in BOUNDS.items():
        value = getattr(campaign, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name}: must be {low:,} to {high:,}")


def _take_slug(campaign: Campaign) -> None:
    try:
        campaign.save()
    except IntegrityError as error:
        raise ValueError(f"slug: there is a campaign {campaign.slug!r} already") from error


def clone(campaign: Campaign, *, by: Actor, slug: str, created_by: User | None = None, **wanted: Any) -> Campaign:
    """A new campaign, planned, with the settings of ``campaign`` and its incumbent as the base; ``wanted`` differs.

    Its proposals, runs and findings stay where they are. Raises PermissionDenied, or ValueError naming the bad field.
    """
    for name in wanted:
        if name not in CLONED:
            raise ValueError(f"{name}: a clone has it from its campaign, or from its first run")
    fields = {name: getattr(campaign, name) for name in CLONED} | {"name": f"{campaign.name}, again"[:120]} | wanted
    return create(by=by, created_by=created_by, cloned_from=campaign, slug=slug, state="planned", **fields)


def change(campaign: Campaign, *, by: Actor, **wanted: Any) -> None:
    """Set some of GOAL, BUDGET, POLICY and PACE, for all that is proposed from then on.

    Writes only the named fields, since a verb may have moved the state after ``campaign`` was read. Raises
    PermissionDenied, or ValueError naming a setting that is fixed from the beginning.
    """
    for name in wanted:
        if name not in (*GOAL, *BUDGET, *POLICY, *PACE):
            raise ValueError(f"{name}: is fixed when a campaign begins")
        rights.check(by, rights.set_pace if name in PACE else rights.set_policy, campaign)
    was = Campaign.objects.values_list("program", flat=True).get(pk=campaign.pk)
    for name, value in wanted.items():
        setattr(campaign, name, value)
    _check_bounds(campaign)
    _ = campaign.seeds
    # The save leaves an event with the old and the new values: see ``watch``.
    with events.acting(rights.name_of(by)), transaction.atomic():
        campaign.save(update_fields=wanted)
        if wanted.get("program", was) != was:
            _write_program(campaign, by, was)


def _write_program(campaign: Campaign, by: Actor, was: str) -> None:
    """Keep the new Program beside the earlier ones; of a campaign from before they were kept, also the last one."""
    last = campaign.programs.aggregate(last=Max("number"))["last"]
    rows = list[Program]()
    if last is None:
        rows.append(Program.objects.create(campaign=campaign, number=0, text=was, by=campaign.created_by))
    number = 1 + (last or 0)
    author = by if isinstance(by, User) else None
    rows.append(Program.objects.create(campaign=campaign, number=number, text=campaign.program, by=author))
    sentence = f"The Program of {campaign.name} is another one, number {number}"
    fact = kinds.PROGRAM_WRITTEN(program=rows[-1].pk)
    events.record(fact, sentence, by=rights.name_of(by), campaign=campaign, rows=rows)
