"""Plain builders: ``make_x(**over)`` gives a real row, made by the verb that makes it in earnest."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User

from gpu_runner import contract
from research.change.drafts import Answer, Draft, Edit, Override, Prediction
from research.gates import process
from research.loop import tasks
from research.models import Campaign, Manifest, Proposal, Run, Worker
from research.propose import drafting
from research.record import campaigns
from research.record.rights import COMMAND_LINE, Part, name_of, proposer
from research.review import decisions
from research.runs import leasing, report, workers

LOCK = "0" * 64


def make_campaign(**over: Any) -> Campaign:
    fields: dict[str, Any] = {
        "slug": "first",
        "name": "First campaign",
        "goal": "A lower val_bpb at equal tokens.",
        "dataset_sha256": "d" * 64,
        "run_budget_kind": "tokens",
        "run_budget_amount": 700_000,
        "sandbox_level": "bubblewrap",
    }
    return campaigns.create(**({"by": COMMAND_LINE} | fields | over))


def make_draft(**over: Any) -> Draft:
    fields: dict[str, Any] = {
        "title": "Warm up for longer",
        "hypothesis": "A longer warm-up lets the first steps settle.",
        "mechanism": "Smaller first steps.",
        "refuted_if": "the gain is under 0.005 bpb",
        "prediction": Prediction(effect_bpb=-0.01, low_bpb=-0.03, high_bpb=0.01, chance_to_win=0.3),
        "overrides": (make_override(),),
    }
    return Draft(**(fields | over))


def make_proposal(campaign: Campaign, *, arm: str = "offline", author: User | None = None, **over: Any) -> Proposal:
    """In state *drafted*, as a proposer leaves it."""
    by = proposer(arm) if author is None else Part(name_of(author))  # whatever rights the account has
    return drafting.write(campaign, make_draft(**over), arm=arm, by=by, author=author)


def make_wave(
    campaign: Campaign, *drafts: Draft, arm: str = "claude", design: str = "Two ends of one question."
) -> list[Proposal]:
    """In state *drafted*, as one answer of a proposer."""
    return drafting.write_wave(campaign, Answer(drafts=drafts, design=design), arm=arm)


def make_pending(campaign: Campaign, worker: Worker | None = None, **over: Any) -> Proposal:
    """In state *pending_review*: through every gate, its smoke run played by a worker."""
    return pass_gates(make_proposal(campaign, **over), worker)


def pass_gates(proposal: Proposal, worker: Worker | None = None) -> Proposal:
    """From *drafted* to *pending_review*."""
    process.check(proposal.revision)
    proposal.refresh_from_db()
    assert proposal.state == "checking", list(proposal.revision.gates.values_list("name", "sentence"))
    lease = claim(worker or make_worker())
    assert lease is not None
    assert lease.spec.purpose == "smoke"
    finish(lease, val_bpb=5.0)
    proposal.refresh_from_db()
    return proposal


def make_approved(campaign: Campaign, by: User, **over: Any) -> Proposal:
    """In state *approved*: through every gate, and past ``by``."""
    return approve(make_pending(campaign, **over), by)


def approve(proposal: Proposal, by: User) -> Proposal:
    """From *pending_review* to *approved*."""
    decisions.decide(proposal.pk, digest=proposal.revision.digest, choice="approve", by=by)
    proposal.refresh_from_db()
    return proposal


def make_override(**over: Any) -> Override:
    return Override(**({"key": "warmup_fraction", "value": 0.1, "reason": "twice as long"} | over))


SOCKET = Edit(
    path="train.py", search="import math\nfrom collections", replace="import math\nimport socket\nfrom collections"
)


def make_blocked(campaign: Campaign, **over: Any) -> Proposal:
    """In state *blocked*: the gate that reads code found an import that nobody allowed."""
    proposal = make_proposal(campaign, **({"title": "Ask the network", "overrides": (), "edits": (SOCKET,)} | over))
    process.check(proposal.revision)
    proposal.refresh_from_db()
    assert proposal.state == "blocked", list(proposal.revision.gates.values_list("name", "outcome"))
    return proposal


def make_worker(**over: Any) -> Worker:
    name = over.pop("name", "box")
    worker, _ = Worker.objects.get_or_create(
        name=name, defaults={"token_sha256": contract.sha256(f"token of {name}".encode()), **over}
    )
    return worker


def make_summary(**over: Any) -> contract.DatasetSummary:
    """Of a dataset of text in bytes, whose val stands in its training text to 0.7 % and whose watch split to 4.9 %."""
    shared = {"watch": 477, "val": 72, "sealed": 0}
    splits = {
        name: {"num_shards": 1, "num_tokens": num, "num_bytes": num, "num_documents": 35, "overlap": (name in shared
               and {"unit": "words", "length": 13, "num": 9_700, "num_shared": shared[name]}) or None}
        for name, num in {"train": 9_660_771, "watch": 91_749, "val": 405_399, "sealed": 509_761}.items()
    }  # fmt: skip
    fields: dict[str, Any] = {
        "name": "stdlib", "sha256": "d" * 64, "dtype": "uint8", "tokenizer": "bytes", "tokenizer_sha256": None,
        "vocab": 256, "separator": 0, "is_scorable": True, "source": {"text": "Python standard library"},
        "splits": splits, "samples": ["def mean(numbers):\n    return sum(numbers) / len(numbers)"],
    }  # fmt: skip
    return contract.DatasetSummary.model_validate(fields | over)


def make_manifest(worker: Worker, **over: Any) -> Manifest:
    """As ``worker`` describes it in its hello; the worker has it."""
    said = make_summary(**over)
    worker.datasets |= {said.name: said.sha256}
    worker.save(update_fields=["datasets"])
    workers.describe(worker, [said])
    return Manifest.objects.get(sha256=said.sha256)


def claim(worker: Worker, **over: str) -> contract.Lease | None:
    """What ``worker`` is handed, once the control worker has answered for what was approved."""
    for campaign in Campaign.objects.filter(proposals__state="approved").distinct():
        tasks.advance(campaign.pk)
    return ask(worker, **over)


def ask(
    worker: Worker, *, hardware_class: str = "cpu-x86_64", sandbox_level: str = "bubblewrap"
) -> contract.Lease | None:
    """What ``worker`` is handed of what is queued."""
    wanted = contract.Claim(hardware_class=hardware_class, sandbox_level=sandbox_level, lock_sha256=LOCK)
    return leasing.claim(worker, wanted)


def claim_candidate(worker: Worker | None = None, *, incumbent_bpb: float = 1.6) -> contract.Lease:
    """The next candidate's lease. Its incumbent is measured before it, where that was not done yet."""
    lease = claim(worker or make_worker())
    if lease is not None and lease.spec.purpose == "baseline":
        finish(lease, val_bpb=incumbent_bpb)
        lease = claim(worker or make_worker())
    assert lease is not None and lease.spec.purpose == "candidate", lease and lease.spec
    return lease


def make_points(first: int = 0, n: int = 5) -> contract.Points:
    steps = list(range(first, first + n))
    losses: list[float | None] = [5.0 - 0.01 * step for step in steps]
    return contract.Points(
        step=steps,
        tokens=[step * 2_048 for step in steps],
        elapsed_s=[0.1 * step for step in steps],
        metrics={"train_loss": losses, "watch_bpb": [None] * (n - 1) + [4.0 - 0.01 * steps[-1]]},
    )


def make_score(val_bpb: float | None, **over: Any) -> contract.Score:
    fields: dict[str, Any] = {"val_bpb": val_bpb, "outcome": "ok", "reasons": [], "provenance": {}, "seconds": 1.0}
    return contract.Score(**(fields | over))


def make_spent(**over: Any) -> contract.Spent:
    fields: dict[str, Any] = {
        "before_s": 1.5,
        "before_cpu_s": 1.0,
        "train_s": 25.0,
        "train_cpu_s": 48.0,
        "after_s": 0.75,
        "after_cpu_s": 0.5,
        "num_tokens": 10_240,
        "num_batches": 5,
    }
    return contract.Spent(**(fields | over))


def make_effort(**over: Any) -> contract.Effort:
    """What scoring the shipped recipe takes on two cores."""
    fields: dict[str, Any] = {
        "clock": "processor",
        "num_processes": 2,
        "ready_s": 0.97,
        "load_s": 0.14,
        "first_s": 0.19,
        "later_s": 0.025,
        "num_later": 46,
        "total_s": 3.6,
        "peak_memory_mib": 340.0,
        "num_threads": 5,
        "checkpoint_mib": 129.9,
        "other_mib": 0.002,
    }
    return contract.Effort(**(fields | over))


def finish(
    lease: contract.Lease,
    *,
    val_bpb: float | None,
    device_s: float = 30.0,
    spent: contract.Spent | None = None,
    **over: Any,
) -> Run:
    """Play a whole run: one report, then the end with a score, then what the end sets off.

    Where the sealed text is read it says the same as val, unless ``sealed_bpb`` is given.
    """
    run = report.leased(lease.spec.run_id, lease.token)
    batch = contract.Report(fence=lease.spec.fence, seq=lease.spec.next_seq, phase="training", points=make_points())
    report.accept(run, batch)
    if "sealed" in lease.spec.splits:
        over = {"sealed_bpb": val_bpb} | over
    score = make_score(val_bpb, **over)
    last = contract.RunEnd(
        fence=lease.spec.fence,
        outcome="finished",
        score=score,
        device_s=device_s,
        train_s=25.0,
        num_steps=5,
        spent=spent or make_spent(),
    )
    report.end(run, last)
    tasks.run_ended(run.pk)
    run.refresh_from_db()
    return run


def fail(lease: contract.Lease, *, kind: str = "out_of_memory", outcome: str = "failed") -> Run:
    run = report.leased(lease.spec.run_id, lease.token)
    failure = contract.Failure(kind=kind, message="It ran out of memory at step 3.", todo="Make the batch smaller.")  # type: ignore[arg-type]
    report.end(run, contract.RunEnd(fence=lease.spec.fence, outcome=outcome, failure=failure, device_s=3.0))  # type: ignore[arg-type]
    tasks.run_ended(run.pk)
    run.refresh_from_db()
    return run


@cache
def password_hash() -> str:
    """Of the password that everybody has. It takes a quarter of a second, as it should."""
    return make_password("correct horse battery")
