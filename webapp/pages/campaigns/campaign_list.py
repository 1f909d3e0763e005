"""Every campaign, with its counts and what it cost."""

from __future__ import annotations

from decimal import Decimal

from django.db.models import Count, Q, QuerySet, Sum

from research.models import Campaign


def campaigns() -> QuerySet[Campaign]:
    """Every campaign with its counts, in one query."""
    judged = Q(proposals__state="judged")
    return Campaign.objects.annotate(
        num_judged=Count("proposals", filter=judged, distinct=True),
        num_kept=Count("proposals__promoted", distinct=True),
        num_pending=Count("proposals", filter=Q(proposals__state="pending_review"), distinct=True),
    ).order_by("-pk")


def spent_by_campaign() -> dict[int, tuple[float, Decimal]]:
    """Device seconds and dollars (of known price), by campaign."""
    sums = Campaign.objects.annotate(gpu_s=Sum("ledger__gpu_s"), usd=Sum("ledger__usd"))
    return {pk: (gpu_s or 0.0, usd or Decimal(0)) for pk, gpu_s, usd in sums.values_list("pk", "gpu_s", "usd")}
