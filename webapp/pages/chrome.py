"""Counts and budget in the frame around every page."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.contrib.auth.models import User
from django.db.models import Sum

from research import lifecycle
from research.models import Campaign, Run
from research.review import decisions


@dataclass(frozen=True, kw_only=True)
class Chrome:
    """What the frame around every page shows."""

    num_waiting: int
    num_live: int
    gpu_s: float
    limit_s: float | None
    usd: Decimal
    slugs: list[str]

    @property
    def share(self) -> float | None:
        return None if not self.limit_s else min(100.0, 100 * self.gpu_s / self.limit_s)


def chrome_of(reader: User) -> Chrome:
    """Counts and budget over open campaigns, and what waits for the reader; three queries."""
    rows = list(
        Campaign.objects.exclude(state__in=("halted", "archived"))
        .annotate(gpu_s=Sum("ledger__gpu_s"), usd=Sum("ledger__usd"))
        .values("slug", "gpu_s", "usd", "budget_gpu_hours")
    )
    limits = [row["budget_gpu_hours"] for row in rows if row["budget_gpu_hours"] is not None]
    return Chrome(
        num_waiting=decisions.waiting_for(reader).count(),
        num_live=Run.objects.filter(state__in=lifecycle.RUN_LIVE).count(),
        gpu_s=sum(row["gpu_s"] or 0.0 for row in rows),
        limit_s=3600 * sum(limits) if limits and len(limits) == len(rows) else None,
        usd=sum((row["usd"] or Decimal(0) for row in rows), Decimal(0)),
        slugs=[row["slug"] for row in rows][:8],
    )
