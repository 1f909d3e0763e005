"""What a change of a campaign's settings makes stale or sets going, said before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from research.models import Campaign, Proposal
from research.record import campaigns, ledger

SIGNED = campaigns.SEEDS  # what a digest covers of what may be changed


def of(campaign: Campaign, wanted: Mapping[str, Any]) -> list[str]:
    """Sentences, the gravest first; ``wanted`` holds only what differs. Empty where nothing becomes stale or stops."""
    said = _of_the_seeds(campaign, wanted) if wanted.keys() & set(SIGNED) else []
    if wanted.keys() & set(campaigns.BUDGET) and (why := _spent(campaign, wanted)):
        said.append(f"It rests at once: {why}.")
    if "approval_ttl_h" in wanted and wanted["approval_ttl_h"] < campaign_now(campaign).approval_ttl_h:
        said.append("Approvals that are older than the new time go stale within seconds, and are asked for again.")
    return said


def campaign_now(campaign: Campaign) -> Campaign:
    return Campaign.objects.get(pk=campaign.pk)


def _of_the_seeds(campaign: Campaign, wanted: Mapping[str, Any]) -> list[str]:
    """Seeds, alpha and smallest effect are signed, and stand in the digest of every run."""
    open_ones = Proposal.objects.filter(campaign=campaign)
    num_waiting = open_ones.filter(state="pending_review").count()
    num_approved = open_ones.filter(state="approved").count()
    num_running = open_ones.filter(state="running").count()
    num_own = campaign.runs.filter(purpose="baseline", incumbent=campaign.incumbent, state="finished").count()
    said = []
    if num := num_waiting + num_approved:
        states = ((num_waiting, "waiting for review"), (num_approved, "approved"))
        parts = ", ".join(f"{some} {word}" for some, word in states if some)
        proposals = "1 proposal goes" if num == 1 else f"{num} proposals go"
        said.append(
            f"{proposals} stale ({parts}): what was signed holds the old policy. Stale ones are rebased and asked for"
            " again."
        )
    if num_own:
        runs = "1 run of the incumbent's own was" if num_own == 1 else f"{num_own} runs of the incumbent's own were"
        said.append(f"{runs} made under the old policy: new ones are made.")
    if num_running:
        running = "1 proposal that runs is" if num_running == 1 else f"{num_running} proposals that run are"
        said.append(f"{running} judged by the old policy, as it was signed.")
    return said


def _spent(campaign: Campaign, wanted: Mapping[str, Any]) -> str:
    tried = campaign_now(campaign)
    for name in campaigns.BUDGET:
        setattr(tried, name, wanted.get(name, getattr(tried, name)))
    return ledger.exhausted(tried) if tried.state == "active" else ""
