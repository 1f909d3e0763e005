"""The judge: after every pair of seeds keep, discard, go on, or conclude that it cannot be told.

The arithmetic is in ``statistics.look``. Here the pairs are gathered, and the outcome becomes a Verdict, an Incumbent
and a Finding in one transaction. A keep on val is first confirmed by one more pair on the sealed split. A verdict is
written once, so everything may be called again without harm.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from gpu_runner import contract
from research import lifecycle, statistics
from research.judge import self_reported
from research.models import Incumbent, Proposal, Revision, Run, Score, Verdict
from research.record import events, kinds, learn, moves, repository, rights, withheld
from research.runs import attempts, dispatch, ending, quarantine

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One seed's trusted scores of candidate and incumbent, in bpb."""

    seed: int
    candidate: Run
    baseline: Run

    @property
    def difference(self) -> float:
        candidate, baseline = self.candidate.score.val_bpb, self.baseline.score.val_bpb
        assert candidate is not None and baseline is not None
        return candidate - baseline


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """What a keep's pair measured on the sealed split: for people and the record only."""

    effect_bpb: float
    numbers: dict[str, Any]


def consider(proposal: Proposal) -> None:
    """Judge ``proposal`` again, after one of its runs or of its baselines ended."""
    proposal.refresh_from_db()
    if proposal.state != "running":
        return
    revision = proposal.revision
    if quarantine.is_waiting(revision):
        return  # a person has to look at a score first: see research.review.quarantined
    try:
        if (early := _early_end(revision)) is not None:
            write_verdict(revision, **early)
        else:
            _look(revision)
    except lifecycle.LostRace as race:
        log.info("%s", race)


def pairs_of(revision: Revision) -> list[Pair]:
    """The finished pairs in the order of their seeds, up to the first gap, as a sequential test needs them."""
    candidates = _scored(Run.objects.filter(purpose="candidate", revision=revision))
    baselines = _scored(_baselines(revision))
    pairs: list[Pair] = []
    while (seed := revision.incumbent.seed(len(pairs) + 1)) in candidates and seed in baselines:
        pairs.append(Pair(seed=seed, candidate=candidates[seed], baseline=baselines[seed]))
    return pairs


def _scored(runs: QuerySet[Run]) -> dict[int, Run]:
    """Seed -> run, of those whose score is ok."""
    believed = runs.filter(state="finished", score__outcome="ok").select_related("score")
    return {run.seed: run for run in believed}


def _early_end(revision: Revision) -> dict[str, Any] | None:
    """The end of a proposal before the statistics: a crash, a stop or a disputed score; None without one."""
    for run in revision.runs.filter(purpose="candidate").select_related("score").order_by("seed"):
        if run.state in ("failed", "timed_out"):
            return _failed(run, run.failure or {})
        if run.state == "cancelled" and run.stop_kind not in lifecycle.STOPPED_FOR_NOW:
            return {
                "outcome": "inconclusive",
                "reason": f"R-{run.pk} was stopped: {run.stop_reason or 'no reason given'}",
            }
        if run.state == "finished" and run.score.outcome == "self_reported":
            if why := self_reported.why_not(run.score, revision.proposal.campaign):
                return {"outcome": "inconclusive", "reason": f"R-{run.pk} finished. {why}"}
        elif run.state == "finished" and run.score.outcome != "ok":
            why, disputed = _why_disputed(run.score), f"The score of R-{run.pk} is disputed: "
            told = disputed + withheld.why_of(run, why)
            return {"outcome": "disputed", "reason": disputed + why, "told": told}
    return None


def _failed(run: Run, failure: dict[str, Any]) -> dict[str, Any]:
    failed, why = f"R-{run.pk} (seed {run.seed}) {run.state.replace('_', ' ')}: ", failure.get("message", "no word")
    told = withheld.why_of(run, why) if failure.get("kind") == "scorer_failed" else why
    if (fault := attempts.fault_of(failure)) == "proposal":
        return {"outcome": "discard", "reason": failed + why, "told": failed + told, "crashed": True}
    cleared = "." if fault == "nobody" else ". That is no fault of the proposal."
    reason, told = (f"{failed}{words.rstrip('.')}{cleared}" for words in (why, told))
    return {"outcome": "inconclusive", "reason": reason, "told": told}


def _why_disputed(score: Score) -> str:
    """One sentence without places in the text, since the proposer reads it."""
    if score.settled_reason:
        return score.settled_reason
    return score.reasons[0] if score.reasons else "no reason was given."


def _baselines(revision: Revision) -> QuerySet[Run]:
    """The incumbent's runs under the conditions of ``revision``."""
    signed = contract.Approval.model_validate(revision.approval).of_the_incumbent()
    return Run.objects.filter(incumbent_id=revision.incumbent_id, purpose="baseline", digest=signed.digest())


def _look(revision: Revision) -> None:
    if self_reported.is_about(revision):
        _look_at_words(revision)
        return
    if (final := revision.proposal.kept_on_val) is not None:
        _confirm(revision, statistics.Look(**final["look"]), final["rows"])
        return
    pairs = pairs_of(revision)
    looks = _looks(revision, pairs)
    if not looks or (last := looks[-1]).decision == "continue":
        _wait_for_more(revision, len(pairs))
        return
    rows = [_row(pair, look) for pair, look in zip(pairs, looks, strict=True)]
    if last.decision == "keep":
        _ask_sealed(revision, last, rows)
    else:
        write_verdict(revision, outcome=last.decision, reason=last.reason, look=last, rows=rows)


def _look_at_words(revision: Revision) -> None:
    """As ``_look``, over numbers that the trainers report themselves; no sealed text confirms a keep of these."""
    pairs = self_reported.pairs_of(revision, _baselines(revision))
    looks = self_reported.looks(revision, pairs)
    if not looks or (last := looks[-1]).decision == "continue":
        _wait_for_more(revision, len(pairs))
        return
    told = self_reported.told(revision.proposal.campaign, pairs, looks)
    reason = f"By self-reported {told['metric']}, which nobody measured. {last.reason}"
    outcome: str = last.decision
    if self_reported.ignores_seeds(pairs):
        outcome, reason = "inconclusive", f"{self_reported.NO_SEEDS} {reason}"
    write_verdict(revision, outcome=outcome, reason=reason, words=told)


def _wait_for_more(revision: Revision, num_pairs: int) -> None:
    """Queue the next pair; where the incumbent moved, none is queued any more: conclude once no own run is left."""
    own = revision.runs.filter(purpose="candidate", state__in={"queued", *lifecycle.RUN_LIVE})
    if revision.proposal.campaign.incumbent.pk != revision.incumbent_id and not own.exists():
        reason = "The incumbent moved before its pairs were whole: propose it again. That is no fault of the proposal."
        write_verdict(revision, outcome="inconclusive", reason=reason)
    elif num_pairs:
        dispatch.add_pair(revision, num_pairs + 1)
        dispatch.ring_waiting(revision.proposal.campaign)


def _looks(revision: Revision, pairs: list[Pair]) -> list[statistics.Look]:
    """The statistics after each pair, in order."""
    noise = learn.noise(revision.proposal.campaign)
    differences = [pair.difference for pair in pairs]
    return [
        statistics.look(
            differences[:n],
            pooled_ss=noise.sum_of_squares,
            pooled_df=noise.degrees_of_freedom,
            seeds=contract.Approval.model_validate(revision.approval).seeds,  # what was signed
        )
        for n in range(1, len(pairs) + 1)
    ]


# --- a keep on val is confirmed on the sealed text ----------------------------------------------


def _ask_sealed(revision: Revision, look: statistics.Look, rows: list[dict[str, Any]]) -> None:
    """Queue one more pair, on a fresh seed, whose scorer reads both splits.

    The look on val is final from here on and is stored: the test has stopped, so it may look neither at this pair nor
    at noise that is pooled later.
    """
    proposal = revision.proposal
    final = {"look": dataclasses.asdict(look), "rows": rows}
    with transaction.atomic():
        mine = Proposal.objects.filter(pk=proposal.pk, state="running", kept_on_val__isnull=True)
        if mine.update(kept_on_val=final) != 1:
            raise lifecycle.LostRace(f"P-{proposal.pk} was found better already")
        sentence = f"P-{proposal.pk} {proposal.title} is better on val; one more pair reads the sealed text"
        fact = kinds.BETTER_ON_VAL(final=final)
        events.record(fact, sentence, by=rights.JUDGE, campaign=proposal.campaign, proposal=proposal, rows=[proposal])
        dispatch.add_pair(revision, dispatch.SEALED_PAIR)


def _confirm(revision: Revision, look: statistics.Look, rows: list[dict[str, Any]]) -> None:
    """Once the sealed pair is measured, conclude: a keep if the effect on val carries over."""
    if (pair := _sealed_pair(revision)) is None:
        _wait_for_more(revision, 0)  # its runs are under way; dispatch.advance sees to them
        return
    numbers = _sealed_row(pair)
    if None in numbers.values():
        why = "No sealed number came with the pair that was to confirm it. That is no fault of the proposal."
        write_verdict(revision, outcome="inconclusive", reason=f"{look.reason} {why}", look=look, rows=rows)
        return
    found = statistics.transfer(
        look.mean,
        val=pair.difference,
        sealed=numbers["candidate_sealed_bpb"] - numbers["incumbent_sealed_bpb"],
    )
    write_verdict(
        revision,
        outcome="keep" if found.carries_over else "inconclusive",
        reason=f"{look.reason} {found.reason}",
        told=look.reason if found.carries_over else f"{look.reason} But it does not carry over to the sealed text.",
        look=look,
        rows=rows,
        sealed=Sealed(effect_bpb=found.effect_bpb, numbers=numbers),
    )


def _sealed_pair(revision: Revision) -> Pair | None:
    seed = revision.incumbent.seed(dispatch.SEALED_PAIR)
    candidate = _scored(revision.runs.filter(purpose="candidate", seed=seed)).get(seed)
    baseline = _scored(_baselines(revision).filter(seed=seed)).get(seed)
    return None if candidate is None or baseline is None else Pair(seed=seed, candidate=candidate, baseline=baseline)


def _sealed_row(pair: Pair) -> dict[str, Any]:
    return {
        "seed": pair.seed,
        "candidate_bpb": pair.candidate.score.val_bpb,
        "incumbent_bpb": pair.baseline.score.val_bpb,
        "candidate_sealed_bpb": pair.candidate.score.sealed_bpb,
        "incumbent_sealed_bpb": pair.baseline.score.sealed_bpb,
    }


# --- the verdict --------------------------------------------------------------------------------


def _row(pair: Pair, look: statistics.Look) -> dict[str, Any]:
    return {
        "seed": pair.seed,
        "candidate_bpb": pair.candidate.score.val_bpb,
        "incumbent_bpb": pair.baseline.score.val_bpb,
        "difference_bpb": pair.difference,
        "e_value": look.e_value,
    }


def write_verdict(
    revision: Revision,
    *,
    outcome: str,
    reason: str,
    crashed: bool = False,
    look: statistics.Look | None = None,
    rows: list[dict[str, Any]] | None = None,
    sealed: Sealed | None = None,
    told: str = "",
    words: dict[str, Any] | None = None,
) -> Verdict:
    """Write the verdict and all that follows from it, once. Raises LostRace when it is written already.

    ``words``: self-reported numbers on which it rests, instead of measured ones. ``told`` is the reason for prompts and
    webhooks where it differs from ``reason``: without sealed numbers (``withheld``).
    """
    proposal, rows, told = revision.proposal, rows or [], told or reason
    if proposal.state == "judged":
        raise lifecycle.LostRace(f"P-{proposal.pk} is judged already")
    num_pairs = len(words["pairs"] if words else rows)
    if look is not None:
        reason += attempts.as_told(proposal.pk)
    if outcome == "keep" and proposal.campaign.incumbent.pk != revision.incumbent_id:
        outcome = "inconclusive"
        moved = (
            f"Better than incumbent {revision.incumbent.number}, which is no longer the incumbent: propose it again."
        )
        reason, told = f"{moved} {reason}", f"{moved} {told}"
    commit = _commit(revision, look, reason, sealed, words) if outcome == "keep" else None
    with transaction.atomic():
        moves.hold(proposal.campaign)  # two keeps at once: the second finds that the incumbent has moved
        sentence = f"P-{proposal.pk} {proposal.title}: {outcome}. {reason}"
        told_so = kinds.Told(told=f"P-{proposal.pk} {proposal.title}: {outcome}. {told}"[:600])
        moves.move_proposal(proposal, "judged", by=rights.JUDGE, sentence=sentence, payload=told_so)
        verdict = Verdict.objects.create(
            revision=revision,
            outcome=outcome,
            reason=reason[:600],
            crashed=crashed,
            num_pairs=num_pairs,
            self_reported=words,
            **_numbers(look, rows, sealed),
        )
        kind = _kind(outcome, crashed)
        learn.record(proposal, kind, f"{proposal.title}: {kind}. {told[:600]}")  # first: it is told with the verdict
        _tell(verdict, sentence, told_so["told"])
        ending.cancel_queued(revision, by=rights.JUDGE, reason=f"P-{proposal.pk} is judged")
        if commit is not None:
            _promote(revision, commit)
    return verdict


def _numbers(look: statistics.Look | None, rows: list[dict[str, Any]], sealed: Sealed | None) -> dict[str, Any]:
    """What a verdict keeps of the measurements that it rests on."""
    return {
        "pairs": rows,
        "effect_bpb": look.mean if look else None,
        "low_bpb": look.low if look else None,
        "high_bpb": look.high if look else None,
        "e_value": look.e_value if look else None,
        "candidate_bpb": _mean([row["candidate_bpb"] for row in rows]),
        "incumbent_bpb": _mean([row["incumbent_bpb"] for row in rows]),
        "sealed_effect_bpb": sealed.effect_bpb if sealed else None,
        "sealed": sealed.numbers if sealed else None,
    }


def _tell(verdict: Verdict, sentence: str, told: str) -> None:
    proposal = verdict.revision.proposal
    fact = kinds.VERDICT(
        outcome=verdict.outcome,
        effect_bpb=verdict.effect_bpb,
        low_bpb=verdict.low_bpb,
        high_bpb=verdict.high_bpb,
        num_pairs=verdict.num_pairs,
        told=told,
    )
    events.record(fact, sentence, by=rights.JUDGE, campaign=proposal.campaign, proposal=proposal, rows=[verdict])


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _kind(outcome: str, crashed: bool) -> str:
    return "crashed" if crashed else {"keep": "kept", "discard": "discarded"}.get(outcome, outcome)


def _commit(
    revision: Revision,
    look: statistics.Look | None,
    reason: str,
    sealed: Sealed | None,
    words: dict[str, Any] | None,
) -> str:
    """Commit a keep, before the transaction that names the commit; if that fails, nothing refers to it."""
    proposal = revision.proposal
    message = (
        f"{proposal.title}\n\n{reason}\n\nProposal: P-{proposal.pk} revision {revision.number}\n"
        f"{_trailers(look, words)}Digest: {revision.digest}\n"
    )
    if sealed is not None:
        message += f"Sealed-effect-bpb: {sealed.effect_bpb:+.6f}\n"
    campaign = proposal.campaign
    return repository.commit_keep(campaign, revision.incumbent.commit, revision.patch, revision.knobs, message)


def _trailers(look: statistics.Look | None, words: dict[str, Any] | None) -> str:
    if words is not None:
        effect = f"{words['effect']:+.6f} ({words['low']:+.6f} to {words['high']:+.6f}) {words['metric']}"
        return f"Self-reported-effect: {effect}\nPairs: {len(words['pairs'])}\nE-value: {words['e_value']:.4g}\n"
    assert look is not None, "a keep has been looked at"
    effect = f"{look.mean:+.6f} ({look.low:+.6f} to {look.high:+.6f})"
    return f"Effect-bpb: {effect}\nPairs: {look.n}\nE-value: {look.e_value:.4g}\n"


def _promote(revision: Revision, commit: str) -> None:
    """Make the new incumbent. Proposals that were checked or approved against the old one become stale."""
    proposal, campaign = revision.proposal, revision.proposal.campaign
    old = campaign.incumbent
    if old.pk != revision.incumbent_id:
        raise lifecycle.LostRace(f"the incumbent moved while P-{proposal.pk} was judged")
    new = Incumbent.objects.create(campaign=campaign, number=old.number + 1, commit=commit, proposal=proposal)
    sentence = f"P-{proposal.pk} {proposal.title} is the new incumbent, {commit[:7]}"
    fact = kinds.INCUMBENT_PROMOTED(commit=commit, number=new.number)
    events.record(fact, sentence, by=rights.JUDGE, campaign=campaign, proposal=proposal, rows=[new])
    for other in campaign.proposals.filter(state__in=("pending_review", "approved")):
        moves.move_proposal(
            other, "stale", by=rights.JUDGE, sentence=f"P-{other.pk} {other.title} is stale: the incumbent moved"
        )
    for run in old.runs.filter(purpose="baseline", state__in={"queued", *lifecycle.RUN_LIVE}):
        ending.stop_run(run, kind=lifecycle.Stop.UNWANTED, by=rights.JUDGE, reason="the incumbent moved")
