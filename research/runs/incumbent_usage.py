"""What the incumbent's own runs used, in training and in scoring: proposals are compared with it.

The rules are the worker's and the scorer's (gpu_runner/worker/allowance.py, gpu_runner/scorer/effort.py).
"""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet

from gpu_runner.contract import Effort, Spent
from research import lifecycle
from research.models import Run, Score

LAST = 10  # runs of the incumbent that are looked at; a machine changes over the months


def expected(run: Run) -> Spent | None:
    """What ``run`` is expected to use, from its incumbent's runs and its own smoke run; None where nothing is known."""
    usual = of(run)
    if usual is None or run.purpose != "candidate":
        return usual
    return usual.as_heavy_as(_shown(run))


def _shown(run: Run) -> Spent | None:
    """What the revision's smoke run used; the reviewer saw how heavy that is."""
    assert run.revision is not None
    own = run.revision.runs.filter(purpose="smoke", hardware_class=run.hardware_class)
    shown = own.filter(state="finished", spent__isnull=False).values_list("spent", flat=True).last()
    return None if shown is None else Spent.model_validate(shown)


def of(run: Run) -> Spent | None:
    """The largest of each number in the incumbent's last finished runs on the same hardware; None before the first."""
    own = Run.objects.filter(incumbent_id=run.incumbent_id, purpose="baseline", state="finished", set_aside=False)
    same = own.filter(spent__isnull=False)
    told = same.filter(hardware_class=run.hardware_class).order_by("-pk").values_list("spent", flat=True)[:LAST]
    measured = [Spent.model_validate(spent) for spent in told]
    if not measured:
        return None
    return Spent.model_validate({name: _most(measured, name) for name in Spent.model_fields})


def _most(measured: list[Spent], name: str) -> float | None:
    numbers = [number for spent in measured if (number := getattr(spent, name)) is not None]
    return max(numbers) if len(numbers) == len(measured) else None


def awaited() -> Q:
    """A filter on Run: candidates whose incumbent's first measurement is queued or under way: no limit is known yet."""
    own = Run.objects.filter(incumbent=OuterRef("incumbent"), purpose="baseline", set_aside=False)
    measured = own.filter(state="finished", spent__isnull=False)  # as ``of`` reads them: a failed one is tried again
    return Q(purpose="candidate") & Q(Exists(_coming(own))) & ~Q(Exists(measured))


def _coming(runs: QuerySet[Run]) -> QuerySet[Run]:
    return runs.filter(state__in=("queued", *lifecycle.RUN_LIVE))


# --- while it is scored ---------------------------------------------------------------------------


def effort(run: Run) -> Effort | None:
    """The most that scoring the incumbent's last runs took, of believed scores under the same conditions.

    None where none is known, and for the incumbent's own runs: these have only the general limits, and are not compared
    with each other.
    """
    if run.purpose == "baseline":
        return None
    believed = Score.objects.filter(
        outcome="ok",
        effort__isnull=False,
        run__purpose="baseline",
        run__incumbent=run.incumbent_id,
        run__hardware_class=run.hardware_class,
        run__sandbox_level=run.sandbox_level,
        run__approval__scorer_version=run.approval["scorer_version"],
        run__approval__dataset_sha256=run.approval["dataset_sha256"],
    )
    told = [Effort.model_validate(e) for e in believed.order_by("-pk").values_list("effort", flat=True)[:LAST]]
    return _the_most(told) if told else None


def _the_most(told: list[Effort]) -> Effort:
    """The effort with the longest start, with the largest of the other numbers that are compared."""
    longest = max(told, key=lambda each: each.load_s + each.first_s)
    later = [each.later_s for each in told if each.later_s is not None]
    largest = {
        "later_s": max(later, default=None),
        "peak_memory_mib": max(each.peak_memory_mib for each in told),
        "other_mib": max(each.other_mib for each in told),
    }
    return longest.model_copy(update=largest)
