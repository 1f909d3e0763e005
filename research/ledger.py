"""Money and GPU-seconds: what was spent, what is left, and when a campaign has to stop."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Count, Q, Sum

from gpu_runner import contract
from research.drafts import Usage
from research.models import Campaign, LedgerEntry, Run


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Sums over a campaign. ``num_unpriced`` entries have an unknown price and are in no dollar sum."""

    gpu_s: float
    usd: Decimal
    num_unpriced: int

    @property
    def gpu_hours(self) -> float:
        return self.gpu_s / 3600


def spent(campaign: Campaign) -> Spent:
    sums = campaign.ledger.aggregate(
        all_s=Sum("gpu_s"), all_usd=Sum("usd"), num_unpriced=Count("pk", filter=Q(kind="claude", usd=None))
    )
    return Spent(gpu_s=sums["all_s"] or 0.0, usd=sums["all_usd"] or Decimal(0), num_unpriced=sums["num_unpriced"])


def charge_run(run: Run, device_s: float) -> None:
    """Enter the GPU-seconds of one lease, priced when the campaign has a price."""
    price = run.campaign.usd_per_gpu_hour
    usd = None if price is None else price * Decimal(device_s) / 3600
    LedgerEntry.objects.create(campaign=run.campaign, kind="gpu", gpu_s=device_s, usd=usd, run=run)


def charge_claude(campaign: Campaign, usages: tuple[Usage, ...]) -> None:
    """One entry for every HTTP attempt. An unknown price stays NULL."""
    for usage in usages:
        fields = {k: v for k, v in vars(usage).items() if k != "usd"}
        LedgerEntry.objects.create(campaign=campaign, kind="claude", usd=usage.usd, usage=fields)


def exhausted(campaign: Campaign) -> str:
    """Why the budget forbids another run or call; empty while it does not."""
    total = spent(campaign)
    if campaign.budget_gpu_hours is not None and total.gpu_hours >= campaign.budget_gpu_hours:
        return f"{total.gpu_hours:.2f} of {campaign.budget_gpu_hours:g} GPU-hours are spent"
    if campaign.budget_usd is not None and total.usd >= campaign.budget_usd:
        return f"${total.usd:.2f} of ${campaign.budget_usd:.2f} are spent"
    return ""


def left_in_words(campaign: Campaign) -> str:
    total = spent(campaign)
    parts = []
    if campaign.budget_gpu_hours is not None:
        parts.append(f"{max(0.0, campaign.budget_gpu_hours - total.gpu_hours):.2f} GPU-hours")
    if campaign.budget_usd is not None:
        parts.append(f"${max(Decimal(0), campaign.budget_usd - total.usd):.2f}")
    return " and ".join(parts) or "no limit set"


def budget_in_words(budget: contract.Budget) -> str:
    unit = {"seconds": "seconds of training", "tokens": "tokens", "flops": "FLOPs"}[budget.kind]
    amount = f"{budget.amount:.3g}" if budget.kind == "flops" else f"{budget.amount:,.0f}"
    return f"{amount} {unit}"
