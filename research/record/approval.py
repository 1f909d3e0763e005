"""Approve what you saw: what a signature covers, and whether it would still be the same one."""

from __future__ import annotations

from django.conf import settings

from gpu_runner import contract
from research.models import Campaign, Incumbent, Revision


def lock_sha256() -> str:
    """Of the pinned versions that this side is installed from."""
    return contract.sha256(settings.LOCK_FILE.read_bytes())


def of(campaign: Campaign, incumbent: Incumbent, patch: str, overrides: contract.Knobs) -> contract.Approval:
    """Everything that changes what a run of this change means, as it stands today."""
    return contract.Approval(
        base_commit=incumbent.commit,
        patch=patch,
        overrides=overrides,
        budget=campaign.run_budget,
        seeds=campaign.seeds,
        dataset_sha256=campaign.dataset_sha256,
        scorer_version=contract.SCORER_VERSION,
        lock_sha256=lock_sha256(),
        sandbox_level=campaign.sandbox_level,
        gate_version=contract.GATE_VERSION,
    )


def of_incumbent(incumbent: Incumbent) -> contract.Approval:
    """What the incumbent's own runs are measured under today."""
    return of(incumbent.campaign, incumbent, patch="", overrides={})


def is_stale(revision: Revision) -> bool:
    """Would the same change be signed differently today? The incumbent, a setting or the installed packages moved."""
    campaign = revision.proposal.campaign
    return of(campaign, campaign.incumbent, revision.patch, revision.knobs).digest() != revision.digest
