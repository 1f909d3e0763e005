"""After every pair of seeds: keep, discard, go on, or say that it cannot be told.

The arithmetic is in ``statistics.look``; here the pairs are gathered, and the answer becomes a Verdict, an Incumbent
and a Finding in one transaction. A verdict is written once: everything may be called again without harm.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from gpu_runner import contract
from research import dispatch, events, learn, lifecycle, moves, quarantine, repository, statistics, tasks
from research.models import Incumbent, Proposal, Revision, Run, Score, Verdict

log = logging.getLogger(__name__)
BY = "judge"
# Failures that say something about the machine or the operator, not about the proposal.
NOT_ITS_FAULT = frozenset(
    {"lost_contact", "worker_stopped", "worker_error", "sandbox_missing", "dataset_missing", "digest_mismatch"}
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One seed's two trusted scores, in bpb."""

    seed: int
    candidate: Run
    baseline: Run

    @property
    def difference(self) -> float:
        candidate, baseline = self.candidate.score.val_bpb, self.baseline.score.val_bpb
        assert candidate is not None and baseline is not None
        return candidate - baseline


def consider(proposal: Proposal) -> None:
    """Look at ``proposal`` again, after one of its runs or its baselines ended."""
    proposal.refresh_from_db()
    if proposal.state != "running":
        return
    revision = proposal.revision
    if quarantine.is_waiting(revision):
        return  # a person has to look at a score first: see research.settle
    try:
        if (early := _early_end(revision)) is not None:
            conclude(revision, **early)
        else:
            _look(revision)
    except lifecycle.LostRace as race:
        log.info("%s", race)


def pairs_of(revision: Revision) -> list[Pair]:
    """The finished pairs in the order of their seeds, up to the first gap: what a sequential look may use."""
    candidates = _scored(Run.objects.filter(purpose="candidate", revision=revision))
    baselines = _scored(_baselines(revision))
    pairs: list[Pair] = []
    while (seed := revision.incumbent.seed(len(pairs) + 1)) in candidates and seed in baselines:
        pairs.append(Pair(seed=seed, candidate=candidates[seed], baseline=baselines[seed]))
    return pairs


def _scored(runs: QuerySet[Run]) -> dict[int, Run]:
    """By seed, those whose score is believed."""
    believed = runs.filter(state="finished", score__outcome="ok").select_related("score")
    return {run.seed: run for run in believed}


def _early_end(revision: Revision) -> dict[str, Any] | None:
    """A crash, a stop or a disputed score ends a proposal before the statistics do."""
    for run in revision.runs.filter(purpose="candidate").select_related("score").order_by("seed"):
        if run.state in ("failed", "timed_out"):
            failure = run.failure or {}
            words = f"R-{run.pk} (seed {run.seed}) {run.state.replace('_', ' ')}: {failure.get('message', 'no word')}"
            if failure.get("kind") in NOT_ITS_FAULT:
                return {"outcome": "inconclusive", "reason": f"{words}. That is no fault of the proposal."}
            return {"outcome": "discard", "reason": words, "crashed": True}
        if run.state == "cancelled" and not run.stop_reason.startswith(dispatch.POSTPONED):
            return {
                "outcome": "inconclusive",
                "reason": f"R-{run.pk} was stopped: {run.stop_reason or 'no reason given'}",
            }
        if run.state == "finished" and run.score.outcome != "ok":
            return {"outcome": "disputed", "reason": f"The score of R-{run.pk} is disputed: {_why_disputed(run.score)}"}
    return _early_end_of_the_incumbent(revision)


def _early_end_of_the_incumbent(revision: Revision) -> dict[str, Any] | None:
    """Against a score of the incumbent that nobody stands behind nothing can be compared, however long we wait."""
    disputed = _baselines(revision).filter(score__outcome="disputed", seed__in=_seeds(revision))
    if (run := disputed.select_related("score").first()) is None:
        return None
    why = f"The incumbent's own score of seed {run.seed}, R-{run.pk}, is disputed: {_why_disputed(run.score)}"
    return {"outcome": "inconclusive", "reason": f"{why} That is no fault of the proposal."}


def _why_disputed(score: Score) -> str:
    """One sentence: it reaches the proposer, to whom the places of a dispute are not shown."""
    if score.settled_reason:
        return score.settled_reason
    return score.reasons[0] if score.reasons else "no reason was given."


def _baselines(revision: Revision) -> QuerySet[Run]:
    """The incumbent's runs under the conditions of ``revision``."""
    signed = contract.Approval.model_validate(revision.approval).of_the_incumbent()
    return Run.objects.filter(incumbent_id=revision.incumbent_id, purpose="baseline", digest=signed.digest())


def _seeds(revision: Revision) -> QuerySet[Run, int]:
    return revision.runs.filter(purpose="candidate").values_list("seed", flat=True)


def _look(revision: Revision) -> None:
    pairs = pairs_of(revision)
    if not pairs:
        return
    campaign = revision.proposal.campaign
    noise = learn.noise(campaign)
    differences = [pair.difference for pair in pairs]
    looks = [
        statistics.look(
            differences[:n],
            pooled_ss=noise.sum_of_squares,
            pooled_df=noise.degrees_of_freedom,
            seeds=contract.Approval.model_validate(revision.approval).seeds,  # what was signed
        )
        for n in range(1, len(pairs) + 1)
    ]
    last = looks[-1]
    if last.decision == "continue":
        dispatch.add_pair(revision, len(pairs) + 1)
        dispatch.ring_waiting(campaign)
        return
    rows = [_row(pair, look) for pair, look in zip(pairs, looks, strict=True)]
    conclude(revision, outcome=last.decision, reason=last.reason, look=last, rows=rows)


def _row(pair: Pair, look: statistics.Look) -> dict[str, Any]:
    return {
        "seed": pair.seed,
        "candidate_bpb": pair.candidate.score.val_bpb,
        "incumbent_bpb": pair.baseline.score.val_bpb,
        "difference_bpb": pair.difference,
        "e_value": look.e_value,
    }


def conclude(
    revision: Revision,
    *,
    outcome: str,
    reason: str,
    crashed: bool = False,
    look: statistics.Look | None = None,
    rows: list[dict[str, Any]] | None = None,
) -> Verdict:
    """Write the verdict and all that follows from it, once. Raises LostRace when it is written already."""
    proposal, rows = revision.proposal, rows or []
    if outcome == "keep" and proposal.campaign.incumbent.pk != revision.incumbent_id:
        outcome = "inconclusive"
        old = revision.incumbent.number
        reason = f"Better than incumbent {old}, which is no longer the incumbent: propose it again. {reason}"
    commit = _commit(revision, look, reason) if outcome == "keep" else None
    with transaction.atomic():
        moves.hold(proposal.campaign)  # two keeps at once: the second finds that the incumbent has moved
        sentence = f"P-{proposal.pk} {proposal.title}: {outcome}. {reason}"
        moves.move_proposal(proposal, "judged", by=BY, sentence=sentence)
        verdict = Verdict.objects.create(
            revision=revision,
            outcome=outcome,
            reason=reason[:600],
            crashed=crashed,
            num_pairs=len(rows),
            pairs=rows,
            effect_bpb=look.mean if look else None,
            low_bpb=look.low if look else None,
            high_bpb=look.high if look else None,
            e_value=look.e_value if look else None,
            candidate_bpb=_mean([row["candidate_bpb"] for row in rows]),
            incumbent_bpb=_mean([row["incumbent_bpb"] for row in rows]),
        )
        events.record(
            "verdict", sentence, by=BY, campaign=proposal.campaign, proposal=proposal, outcome=outcome,
            effect_bpb=verdict.effect_bpb, low_bpb=verdict.low_bpb, high_bpb=verdict.high_bpb, num_pairs=len(rows),
        )  # fmt: skip
        learn.record(proposal, _kind(outcome, crashed), _finding(proposal, verdict))
        dispatch.cancel_queued(revision, by=BY, reason=f"P-{proposal.pk} is judged")
        if commit is not None:
            _promote(revision, commit)
        transaction.on_commit(lambda: tasks.send("reconcile"))
    return verdict


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _kind(outcome: str, crashed: bool) -> str:
    return "crashed" if crashed else {"keep": "kept", "discard": "discarded"}.get(outcome, outcome)


def _finding(proposal: Proposal, verdict: Verdict) -> str:
    return f"{proposal.title}: {_kind(verdict.outcome, verdict.crashed)}. {verdict.reason}"


def _commit(revision: Revision, look: statistics.Look | None, reason: str) -> str:
    """The commit of a keep, made before the transaction that names it; unreferenced if that one is lost."""
    proposal = revision.proposal
    assert look is not None, "a keep has been looked at"
    message = (
        f"{proposal.title}\n\n{reason}\n\n"
        f"Proposal: P-{proposal.pk} revision {revision.number}\n"
        f"Effect-bpb: {look.mean:+.6f} ({look.low:+.6f} to {look.high:+.6f})\n"
        f"Pairs: {look.n}\nE-value: {look.e_value:.4g}\nDigest: {revision.digest}\n"
    )
    campaign = proposal.campaign
    return repository.commit_keep(campaign, revision.incumbent.commit, revision.patch, revision.knobs, message)


def _promote(revision: Revision, commit: str) -> None:
    """A new incumbent; whoever was checked or approved against the old one is stale."""
    proposal, campaign = revision.proposal, revision.proposal.campaign
    old = campaign.incumbent
    if old.pk != revision.incumbent_id:
        raise lifecycle.LostRace(f"the incumbent moved while P-{proposal.pk} was judged")
    new = Incumbent.objects.create(campaign=campaign, number=old.number + 1, commit=commit, proposal=proposal)
    sentence = f"P-{proposal.pk} {proposal.title} is the new incumbent, {commit[:7]}"
    events.record(
        "incumbent.promoted", sentence, by=BY, campaign=campaign, proposal=proposal, commit=commit, number=new.number
    )
    for other in campaign.proposals.filter(state__in=("pending_review", "approved")):
        moves.move_proposal(other, "stale", by=BY, sentence=f"P-{other.pk} {other.title} is stale: the incumbent moved")
    for run in old.runs.filter(purpose="baseline", state__in={"queued", *lifecycle.RUN_LIVE}):
        dispatch.stop_run(run, by=BY, reason="the incumbent moved")
    transaction.on_commit(lambda: repository.follow(campaign))
