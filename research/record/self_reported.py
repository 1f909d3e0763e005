"""What foreign trainers say of themselves, as the record holds it: never a val_bpb, and compared among itself only."""

from __future__ import annotations

from django.db.models import QuerySet

from research import statistics
from research.models import Campaign, Incumbent, Run, Verdict

WORD = "self-reported"
OUTCOME = "self_reported"  # of such a score


def values(runs: QuerySet[Run], metric: str) -> dict[int, float]:
    """Seed -> the trainer's last word, of finished runs that report this metric."""
    told = runs.filter(state="finished", score__outcome=OUTCOME, score__self_reported__metric=metric)
    said = told.values_list("seed", "score__self_reported")
    return {seed: word["value"] for seed, word in said if word and word["value"] is not None}


def mean(incumbent: Incumbent) -> float | None:
    """Mean over the incumbent's own seeds under its newest conditions; None before the first."""
    own = incumbent.runs.filter(purpose="baseline", set_aside=False, score__outcome=OUTCOME)
    if (newest := own.order_by("pk").last()) is None:
        return None
    said = list(values(own.filter(digest=newest.digest), incumbent.campaign.metric).values())
    return statistics.mean_sd(said)[0] if said else None


def noise(campaign: Campaign) -> tuple[float, int]:
    """Pooled sum of squares and degrees of freedom over the verdicts on the campaign's own metric."""
    judged = Verdict.objects.filter(
        revision__proposal__campaign=campaign, self_reported__metric=campaign.metric, num_pairs__gte=2
    )
    words = [told for told in judged.values_list("self_reported", flat=True) if told]
    groups = [[pair["difference"] for pair in told["pairs"]] for told in words]
    return statistics.pool(groups)
