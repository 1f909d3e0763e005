"""Checks before any code is fetched that a leased run is what was countersigned: digest, versions, sandbox, dataset."""

from __future__ import annotations

from pathlib import Path

from gpu_runner import contract
from gpu_runner.contract import RunSpec
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.data.verify import refuse_open
from gpu_runner.worker.endings import RunFailure


def check_approval(spec: RunSpec, *, lock_sha256: str, sandbox_level: str) -> None:
    """Raises RunFailure unless the spec is what a person countersigned and this worker has what was approved."""
    approval = spec.approval
    if approval.digest() != spec.digest:
        raise RunFailure(
            "digest_mismatch",
            f"What was sent has the digest {approval.digest()[:12]}, countersigned was {spec.digest[:12]}.",
            "Somebody changed the run after it was approved; look at the events, then review it again.",
        )
    for what, approved, here, todo in (
        ("scorer version", approval.scorer_version, contract.SCORER_VERSION, "Update the worker or the web side."),
        ("lock file", approval.lock_sha256, lock_sha256, "Install the same constraints.txt on this worker."),
    ):
        if approved != here:
            raise RunFailure(
                "digest_mismatch", f"Approved was {what} {approved[:12]}, this worker has {here[:12]}.", todo
            )
    if approval.budget.kind == "flops":
        raise RunFailure(
            "worker_error",
            "The run budget is in FLOPs: how many a token takes only the recipe can say, which proposals edit.",
            "Give the campaign a run budget in tokens or seconds.",
        )
    if approval.sandbox_level != sandbox_level:
        raise RunFailure(
            "sandbox_missing",
            f"Approved was sandbox level {approval.sandbox_level}, this worker has {sandbox_level}.",
            "Make that level work here (COUNTERSIGN_SANDBOX, `manage.py doctor`), or review the proposal again.",
        )


def find_dataset(spec: RunSpec, datasets: Path) -> Path:
    """The folder of the approved dataset. RunFailure: it is missing, another one, or a sandbox would show its text."""
    if not contract.is_safe_path(spec.dataset) or "/" in spec.dataset:
        raise RunFailure("dataset_missing", f"{spec.dataset!r} is no dataset's name.")
    folder = datasets / spec.dataset
    todo = f"On this worker run `python -m gpu_runner data prepare --name {spec.dataset}`, then `data verify`."
    try:
        here = manifest_sha256(folder)
        refuse_open(folder)
    except (ValueError, OSError) as error:
        raise RunFailure("dataset_missing", f"{error}", todo) from error
    if here != spec.approval.dataset_sha256:
        approved = spec.approval.dataset_sha256[:12]
        raise RunFailure("digest_mismatch", f"Approved was dataset {approved}, this worker's is {here[:12]}.", todo)
    return folder
