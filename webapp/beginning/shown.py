"""A campaign as the command line and the API show it, field by field."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse

from research.models import Campaign
from research.record import campaigns, ledger

LISTED = ("slug", "name", "state", "recipe", "dataset", "hardware_class")
FIXED = ("origin", "origin_commit", "hardware_class", *campaigns.MEASURED)


def listed(campaign: Campaign) -> dict[str, Any]:
    """One row of a list."""
    return {name: getattr(campaign, name) for name in LISTED} | {"url": page_of(campaign)}


def whole(campaign: Campaign) -> dict[str, Any]:
    """Every setting, where it stands, and what it spent."""
    spent = ledger.spent(campaign)
    names = (*campaigns.GOAL, *campaigns.BUDGET, *campaigns.POLICY, *campaigns.PACE, *FIXED)
    said = listed(campaign) | {name: _plain(getattr(campaign, name)) for name in names}
    return said | {
        "state_reason": campaign.state_reason,
        "incumbent": {"number": campaign.incumbent.number, "commit": campaign.incumbent.commit},
        "cloned_from": campaign.cloned_from.slug if campaign.cloned_from else None,
        "spent": {"gpu_hours": spent.gpu_hours, "usd": float(spent.usd)},
        "created_at": campaign.created_at.isoformat(),
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else float(value)


def page_of(campaign: Campaign) -> str:
    return f"{settings.PUBLIC_URL}{reverse('campaign', args=[campaign.slug])}"
