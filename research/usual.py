"""What the incumbent's own runs used: the time of a proposal outside of its budget is held against it.

The rule itself is the worker's (gpu_runner/allowance.py), which ends a run while it goes on.
"""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet

from gpu_runner.contract import Spent
from research import lifecycle
from research.models import Run

LAST = 10  # runs of the incumbent that are looked at


def expected(run: Run) -> Spent | None:
    """What ``run`` may be expected to use, after its incumbent's and its own smoke run; None where nothing is known."""
    usual = of(run)
    if usual is None or run.purpose != "candidate":
        return usual
    return usual.heavier(heaviness(run, usual))


def heaviness(run: Run, usual: Spent) -> float | None:
    """How many times as much as the incumbent's each token took in the smoke run, as whoever signed it was shown."""
    assert run.revision is not None
    own = run.revision.runs.filter(purpose="smoke", hardware_class=run.hardware_class)
    shown = own.filter(state="finished", spent__isnull=False).values_list("spent", flat=True).last()
    return None if shown is None else Spent.model_validate(shown).times(usual)


def of(run: Run) -> Spent | None:
    """The most of each number in the incumbent's last finished runs on the same hardware; None before the first."""
    same = Run.objects.filter(incumbent_id=run.incumbent_id, purpose="baseline", state="finished", spent__isnull=False)
    told = same.filter(hardware_class=run.hardware_class).order_by("-pk").values_list("spent", flat=True)[:LAST]
    measured = [Spent.model_validate(spent) for spent in told]
    if not measured:
        return None
    return Spent.model_validate({name: _most(measured, name) for name in Spent.model_fields})


def _most(measured: list[Spent], name: str) -> float | None:
    numbers = [number for spent in measured if (number := getattr(spent, name)) is not None]
    return max(numbers) if len(numbers) == len(measured) else None


def awaited() -> Q:
    """Of Run, candidates whose incumbent is about to be measured for the first time: nothing could hold them yet."""
    own = Run.objects.filter(incumbent=OuterRef("incumbent"), purpose="baseline")
    return Q(purpose="candidate") & Q(Exists(_coming(own))) & ~Q(Exists(own.filter(spent__isnull=False)))


def _coming(runs: QuerySet[Run]) -> QuerySet[Run]:
    return runs.filter(state__in=("queued", *lifecycle.RUN_LIVE))
