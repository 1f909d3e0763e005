"""A foreign trainer's word, played: runs that end with it, and a proposal that is judged by it."""

from __future__ import annotations

from typing import Any

from gpu_runner import contract
from research.gates import process
from research.models import Campaign, Proposal, Verdict
from tests.builders import approve, claim, finish, make_proposal, make_worker

ABOUT: dict[str, Any] = {"metric": "val_loss", "metric_unit": "nats per token", "direction": "lower"}


def word(value: float | None, **over: Any) -> dict[str, Any]:
    said = {"metric": "val_loss", "unit": "nats per token", "direction": "lower", "value": value, "num_values": 3}
    return {"outcome": "self_reported", "self_reported": contract.SelfReported(**(said | over))}


def make_running(campaign: Campaign, by: Any) -> Proposal:
    """Approved, its smoke run through with a word of its own."""
    proposal = make_proposal(campaign)
    process.check(proposal.revision)
    lease = claim(make_worker())
    assert lease is not None and lease.spec.purpose == "smoke"
    finish(lease, val_bpb=None, **word(4.0))
    proposal.refresh_from_db()
    assert proposal.state == "pending_review", list(proposal.revision.gates.values_list("name", "sentence"))
    return approve(proposal, by)


def train_all(candidate: list[float], incumbent: list[float], **over: Any) -> None:
    """Every run of the queue ends with the next word of its own kind, until there is a verdict."""
    words = {"candidate": iter(candidate), "baseline": iter(incumbent)}
    while not Verdict.objects.exists():
        lease = claim(make_worker())
        assert lease is not None
        finish(lease, val_bpb=None, **word(next(words[lease.spec.purpose]), **over))
