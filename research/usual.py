"""What scoring the incumbent takes: beside it a model shows that does more than answer."""

from __future__ import annotations

from gpu_runner import contract
from research.models import Run, Score

NEWEST = 10  # of the incumbent's scores; a machine changes over the months


def usual_effort(run: Run) -> contract.Effort | None:
    """The most that any of the incumbent's own believed scores took, under the same conditions; None: none is known.

    The incumbent's own runs are held against what is allowed at all, and not against each other.
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
    told = [
        contract.Effort.model_validate(e) for e in believed.order_by("-pk").values_list("effort", flat=True)[:NEWEST]
    ]
    return _the_most(told) if told else None


def _the_most(told: list[contract.Effort]) -> contract.Effort:
    """The one that took longest to its first answer, with the largest of all else that is compared."""
    longest = max(told, key=lambda effort: effort.load_s + effort.first_s)
    later = [effort.later_s for effort in told if effort.later_s is not None]
    largest = {
        "later_s": max(later, default=None),
        "peak_memory_mib": max(effort.peak_memory_mib for effort in told),
        "other_mib": max(effort.other_mib for effort in told),
    }
    return longest.model_copy(update=largest)
