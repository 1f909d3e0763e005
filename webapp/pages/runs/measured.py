"""What a run used, beside what its incumbent's runs used, both measured from outside by the supervisor."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_runner.contract import Spent
from research.models import Run
from research.runs import incumbent_usage


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One of a run's three times. Seconds; None where it was not measured."""

    label: str
    about: str
    wall_s: float
    cpu_s: float | None
    usual_s: float | None  # of the incumbent: processor time where that is counted, else by the clock


def stretches(run: Run) -> list[Stretch]:
    """The times before, with and after its text; empty for a run that was not measured."""
    if run.spent is None:
        return []
    spent = Spent.model_validate(run.spent)
    theirs = None if run.purpose == "baseline" else incumbent_usage.of(run)
    if is_foreign(spent):
        return [_stretch("From start to end", "the whole process of a foreign trainer", "train", spent, theirs)]
    return [
        _stretch("Before its text", "from the first line of the recipe to the first text", "before", spent, theirs),
        _stretch("With its text", "until the budget was spent, the watch curve included", "train", spent, theirs),
        _stretch("After its budget", "the last step, the last look and the checkpoint", "after", spent, theirs),
    ]


def is_foreign(spent: Spent) -> bool:
    """Whether a foreign trainer's whole process was measured: nobody hands its text out."""
    return not (spent.num_batches or spent.before_s or spent.after_s)


def _stretch(label: str, about: str, part: str, spent: Spent, theirs: Spent | None) -> Stretch:
    cpu_s: float | None = getattr(spent, f"{part}_cpu_s")
    counted = f"{part}_s" if cpu_s is None else f"{part}_cpu_s"
    return Stretch(
        label=label,
        about=about,
        wall_s=getattr(spent, f"{part}_s"),
        cpu_s=cpu_s,
        usual_s=getattr(theirs, counted) if theirs else None,
    )
