"""Which datasets there are, by what workers said and what campaigns use. Their text never crosses to this side."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from research.models import Campaign, Worker
from research.record import approval

AWAY_AFTER = timedelta(minutes=2)  # a worker asks for runs twice a minute, and reports every ten seconds


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A dataset by its manifest's hash, and the workers that have it."""

    name: str
    sha256: str
    workers: tuple[str, ...]


def here() -> QuerySet[Worker]:
    """Workers that may take runs and were heard of within ``AWAY_AFTER``."""
    return Worker.objects.filter(enabled=True, seen_at__gt=timezone.now() - AWAY_AFTER)


def fitting(campaign: Campaign) -> QuerySet[Worker]:
    """Those of ``here`` that may take this campaign's runs, whatever datasets they have."""
    same = here().filter(sandbox_level=campaign.sandbox_level, lock_sha256=approval.lock_sha256())
    return same.filter(hardware_class=campaign.hardware_class) if campaign.hardware_class else same


def has_packages(campaign: Campaign, worker: Worker) -> bool:
    """Whether the worker declares the environment that the campaign's recipe trains in, with the same packages."""
    return campaign.environment_sha256 in ("", *worker.environments.values())


def known() -> list[Dataset]:
    """Every dataset that an enabled worker has or a campaign uses, by name."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, sha256 in Campaign.objects.filter(~Q(dataset_sha256="")).values_list("dataset", "dataset_sha256"):
        found.setdefault((name, sha256), [])
    for worker in Worker.objects.filter(enabled=True).order_by("name"):
        for name, sha256 in worker.datasets.items():
            found.setdefault((name, sha256), []).append(worker.name)
    return [Dataset(name=n, sha256=sha, workers=tuple(have)) for (n, sha), have in sorted(found.items())]


def sha256_of(name: str) -> str:
    """The manifest's hash of the dataset that is called so. Raises ValueError where there is none, or are several."""
    ours = [one for one in known() if one.name == name]
    held = [one for one in ours if one.workers] or ours
    if len(held) == 1:
        return held[0].sha256
    if not held:
        names = ", ".join(sorted({one.name for one in known()})) or "none yet"
        raise ValueError(
            f"dataset: no worker has one called {name!r}; there are: {names}. Prepare it on a worker"
            f" (`python -m gpu_runner data prepare --name {name}`) and start that worker again"
        )
    kinds = "; ".join(f"{one.sha256[:12]} on {', '.join(one.workers) or 'no worker'}" for one in held)
    raise ValueError(f"dataset: workers have different ones called {name!r}: {kinds}. Say which by its dataset_sha256")
