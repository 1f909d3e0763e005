"""What a campaign takes over from a foreign trainer's recipe when it begins: its metric, and its environment."""

from __future__ import annotations

from collections import Counter

from gpu_runner import contract
from gpu_runner.contract import Recipe
from research.models import Campaign, Worker


def settle(campaign: Campaign, recipe: Recipe) -> None:
    """Set the metric that the trainer reports itself, and the packages of the environment that it names.

    Raises ValueError for a run budget that the trainer cannot be told, and for an environment that no worker has.
    """
    if recipe.command is None:
        return
    if (problem := recipe.command.problem_with_budget(campaign.run_budget_kind)) is not None:
        raise ValueError(problem)
    if recipe.is_self_reported and recipe.metrics is not None:
        campaign.metric = recipe.metrics.metric
        campaign.metric_unit = recipe.metrics.unit
        campaign.direction = recipe.metrics.direction
    if recipe.command.environment:
        campaign.environment_sha256 = environment_sha256(recipe.command.environment)


def environment_sha256(name: str) -> str:
    """sha256 of the packages of an environment, as most enabled workers have it. Raises ValueError where none has."""
    said = list(Worker.objects.filter(enabled=True).values_list("environments", flat=True))
    found: Counter[str] = Counter(declared[name] for declared in said if name in declared)
    if not found:
        known = sorted({known for declared in said for known in declared})
        raise ValueError(
            f"recipe: it trains in the environment {name!r}, and no worker has it; {contract.closest(name, known)}."
            " Declare it on one (COUNTERSIGN_ENVIRONMENTS), and start that worker."
        )
    return found.most_common(1)[0][0]
