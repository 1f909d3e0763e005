"""What an approval covers, and whether the same change would be signed differently today."""

from __future__ import annotations

from django.conf import settings

from gpu_runner import contract
from research.models import Campaign, Incumbent, Revision


def lock_sha256() -> str:
    """sha256 of the constraints file that this side is installed from."""
    return contract.sha256(settings.LOCK_FILE.read_bytes())


def of(campaign: Campaign, incumbent: Incumbent, patch: str, overrides: contract.Knobs) -> contract.Approval:
    """The Approval of this change under today's conditions."""
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
        environment_sha256=campaign.environment_sha256,
    )


def of_incumbent(incumbent: Incumbent) -> contract.Approval:
    """The Approval of the incumbent's own runs under today's conditions."""
    return of(incumbent.campaign, incumbent, patch="", overrides={})


def is_stale(revision: Revision) -> bool:
    """Whether the revision's digest would differ today: the incumbent, a setting or the installed packages changed."""
    campaign = revision.proposal.campaign
    return of(campaign, campaign.incumbent, revision.patch, revision.knobs).digest() != revision.digest
