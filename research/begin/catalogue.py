"""All datasets with what is known of each: counts, which workers have it, which campaigns train on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from gpu_runner import contract
from research.begin import datasets
from research.models import Campaign, Manifest, Worker


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One manifest of one name. ``summary`` is None until a worker that has it describes it."""

    name: str
    sha256: str
    summary: contract.DatasetSummary | None
    reported_by: str
    reported_at: datetime | None
    workers: tuple[Worker, ...]  # that have it, by name
    campaigns: tuple[Campaign, ...]  # that train on it, the newest first
    num_of_name: int  # different manifests of this name, this one among them

    @property
    def is_missing(self) -> bool:
        """Whether a campaign that is not archived trains on it, and no worker has it."""
        return not self.workers and any(one.state != "archived" for one in self.campaigns)


def entries(name: str | None = None) -> list[Entry]:
    """Those of one name, or all, by name and then by how many workers have each."""
    known = [one for one in datasets.known() if one.name and name in (None, one.name)]
    described = Manifest.objects.select_related("reported_by").in_bulk(
        {one.sha256 for one in known}, field_name="sha256"
    )
    workers = {one.name: one for one in Worker.objects.filter(enabled=True)}
    campaigns: dict[tuple[str, str], list[Campaign]] = {}
    for campaign in Campaign.objects.filter(dataset__in={one.name for one in known}).order_by("-pk"):
        campaigns.setdefault((campaign.dataset, campaign.dataset_sha256), []).append(campaign)
    num_of = Counter(one.name for one in known)
    found = [
        _entry(
            one,
            described.get(one.sha256),
            workers=tuple(workers[box] for box in one.workers if box in workers),
            campaigns=tuple(campaigns.get((one.name, one.sha256), ())),
            num_of_name=num_of[one.name],
        )
        for one in known
    ]
    return sorted(found, key=lambda entry: (entry.name, -len(entry.workers), entry.sha256))


def _entry(
    one: datasets.Dataset,
    row: Manifest | None,
    *,
    workers: tuple[Worker, ...],
    campaigns: tuple[Campaign, ...],
    num_of_name: int,
) -> Entry:
    return Entry(
        name=one.name,
        sha256=one.sha256,
        summary=None if row is None else contract.DatasetSummary.model_validate(row.summary),
        reported_by=row.reported_by.name if row and row.reported_by else "",
        reported_at=row.created_at if row else None,
        workers=workers,
        campaigns=campaigns,
        num_of_name=num_of_name,
    )


def as_json(entry: Entry) -> dict[str, object]:
    """An entry for programs."""
    return {
        "name": entry.name,
        "sha256": entry.sha256,
        "workers": [one.name for one in entry.workers],
        "campaigns": [one.slug for one in entry.campaigns],
        "num_manifests_of_this_name": entry.num_of_name,
        "described_by": entry.reported_by or None,
        "summary": entry.summary and entry.summary.model_dump(mode="json"),
    }
