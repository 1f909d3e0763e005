"""What a worker sends: batches of reports, heartbeats, and the end of a lease.

Every accepted batch is committed before it is acknowledged; (run, seq) makes a retry harmless, a gap is answered with
the last seq that is stored. A stale fence is refused: another worker has the run now.
"""

from __future__ import annotations

import hmac
import logging
import zlib
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from django.db import transaction
from django.dispatch import Signal
from django.utils import timezone

from gpu_runner import contract
from research import lifecycle
from research.models import ReportBatch, Run, Score
from research.record import kinds, ledger, moves, rights, withheld
from research.record.rights import Part
from research.runs import ending, quarantine

log = logging.getLogger(__name__)
WATCHED = frozenset({"watch_bpb", "watch_loss", "logit_rms"})  # measured a few times in a whole run
reported = Signal()  # run_id, campaign_id, seq: on commit of every accepted batch


class Superseded(Exception):
    """The fence is old or the run is over: the worker must drop it."""


class WrongToken(Exception):
    """No lease has this token."""


def leased(run_id: int, token: str) -> Run:
    """The run whose present lease has this token. Raises WrongToken."""
    run = (
        Run.objects.select_related("campaign", "incumbent", "worker", "revision__proposal__campaign")
        .filter(pk=run_id)
        .first()
    )
    given = contract.sha256(token.encode())
    if run is None or not run.token_sha256 or not hmac.compare_digest(run.token_sha256, given):
        raise WrongToken(f"no lease of run {run_id} has this token")
    return run


def accept(run: Run, report: contract.Report) -> contract.Order:
    """Store one batch and answer with what to do. Raises Superseded."""
    with transaction.atomic():
        run = _locked(run, report.fence)
        if report.seq == run.last_seq + 1:
            _enter_phase(run, report.phase)
            _store(run, report)
            transaction.on_commit(
                partial(reported.send_robust, sender=Run, run_id=run.pk, campaign_id=run.campaign_id, seq=report.seq)
            )
        else:
            log.info("R-%s: seq %s after %s: not stored again", run.pk, report.seq, run.last_seq)
    return _order(run)


def beat(run: Run, fence: int) -> contract.Order:
    """Prolong a lease that has nothing to report. Raises Superseded."""
    with transaction.atomic():
        run = _locked(run, fence)
        _update(run, lease_until=_lease_until())
    return _order(run)


def _locked(run: Run, fence: int) -> Run:
    """The row, locked for this transaction (SQLite's write transaction is the lock), if the lease still holds."""
    run = (
        Run.objects.select_for_update(of=("self",))
        .select_related("campaign", "worker", "revision__proposal__campaign")
        .get(pk=run.pk)
    )
    if run.fence != fence or run.state not in lifecycle.RUN_LIVE:
        raise Superseded(f"run {run.pk} is {run.state} under fence {run.fence}, not {fence}: drop it")
    return run


def _order(run: Run) -> contract.Order:
    order: Literal["stop", "continue"] = "stop" if run.stop_kind else "continue"
    return contract.Order(order=order, reason=run.stop_reason, acked_seq=run.last_seq)


def _lease_until() -> Any:
    return timezone.now() + timedelta(seconds=contract.LEASE_S)


def _enter_phase(run: Run, phase: contract.Phase) -> None:
    """Move the run up to the reported phase, through all states before it: a report may have been lost."""
    order = ["leased", "training", "scoring"]
    by = rights.worker(run.worker)
    for state in order[order.index(run.state) + 1 : order.index(phase) + 1]:
        moves.move_run(run, state, by=by, sentence=f"R-{run.pk} is {state}")


def _store(run: Run, report: contract.Report) -> None:
    points = report.points.model_dump() if report.points else None
    body = {"points": points, "log": [line.model_dump() for line in report.log]}
    ReportBatch.objects.create(
        run=run,
        seq=report.seq,
        attempt=run.attempt,
        num_points=len(report.points.step) if report.points else 0,
        watched=bool(report.points and report.points.metrics.keys() & (WATCHED | {run.campaign.metric})),
        body=zlib.compress(contract.canonical_json(body), 1),
    )
    changes: dict[str, Any] = {"last_seq": report.seq, "lease_until": _lease_until()}
    if report.progress:
        changes["progress"] = report.progress.model_dump()
    if report.started is not None:
        changes["started"] = report.started
    if report.points and report.points.step:
        changes["latest"] = run.latest | _latest(report.points)
        # A foreign trainer may not say how many tokens it read: 0 would be a number.
        changes["num_steps"], changes["num_tokens"] = report.points.step[-1], report.points.tokens[-1] or None
    _update(run, **changes)


def _latest(points: contract.Points) -> dict[str, list[float]]:
    """metric -> [value, step] of its newest measurement in the batch."""
    newest = {}
    for name, column in points.metrics.items():
        for step, value in zip(reversed(points.step), reversed(column), strict=True):
            if value is not None:
                newest[name] = [value, step]
                break
    return newest


def _update(run: Run, **changes: Any) -> None:
    Run.objects.filter(pk=run.pk).update(**changes)
    for field, value in changes.items():
        setattr(run, field, value)


# --- the last word -------------------------------------------------------------------------


def end(run: Run, last: contract.RunEnd) -> contract.Order:
    """Record the end of a lease, once: score, GPU-seconds and state in one transaction. Raises Superseded."""
    with transaction.atomic():
        if run.purpose == "baseline":
            moves.hold(run.campaign)  # before the run: a baseline's failure pauses the campaign
        run = _locked(run, last.fence)
        ledger.charge_run(run, last.device_s)
        by = rights.worker(run.worker)
        _update(run, **_measured(last))
        if last.outcome == "lost":
            given_back = last.failure or contract.Failure(kind="worker_stopped", message="the worker gave it back")
            ending.give_back(run, by=by, why=given_back.message, kind=given_back.kind, todo=given_back.todo)
        else:
            _close(run, last, by)
    return contract.Order(order="stop", reason="the run is over", acked_seq=run.last_seq)


def _measured(last: contract.RunEnd) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "device_s": last.device_s,
        "train_s": last.train_s,
        "peak_memory_mib": last.peak_memory_mib,
        "spent": last.spent.model_dump() if last.spent else None,
    }
    counts = {"num_steps": last.num_steps, "num_tokens": last.num_tokens}
    return fields | {name: count for name, count in counts.items() if count is not None}


def _close(run: Run, last: contract.RunEnd, by: Part) -> None:
    last = _held_against_history(run, last)
    if last.outcome == "finished":
        assert last.score is not None
        _enter_phase(run, "scoring")
        Score.objects.create(run=run, **last.score.model_dump())
    elif last.outcome == "timed_out":
        _enter_phase(run, "training")
    failure = last.failure.model_dump() if last.failure else None
    unscored = last.score is not None and last.score.outcome == "failed"
    if unscored and failure is None and last.score is not None:
        failure = {"kind": "scorer_failed", "message": "; ".join(last.score.reasons) or "the scorer failed", "todo": ""}
    moves.move_run(
        run,
        "failed" if unscored else last.outcome,
        by=by,
        sentence=_sentence(run, last),
        payload=_payload(run, last),
        failure=failure,
        ended_at=timezone.now(),
        lease_until=None,
    )
    if run.state != "finished" or run.score.outcome not in ("ok", "self_reported"):
        ending.pause_for_baseline(run)


def _payload(run: Run, last: contract.RunEnd) -> kinds.Ended:
    ended = kinds.Ended(val_bpb=last.score.val_bpb if last.score else None)
    if last.score is not None:
        ended["outcome"] = last.score.outcome
    if last.failure is not None and last.failure.kind == "scorer_failed":
        ended["told"] = f"R-{run.pk} {last.outcome}: {withheld.why_of(run, last.failure.message)}"
    return ended


def _held_against_history(run: Run, last: contract.RunEnd) -> contract.RunEnd:
    """The end; its score is put into quarantine if a candidate's number is too good for its campaign."""
    score = last.score
    if run.purpose != "candidate" or score is None or score.outcome != "ok" or score.val_bpb is None:
        return last
    if not (why := quarantine.too_good(run, score.val_bpb)):
        return last
    doubted = score.model_copy(update={"outcome": "quarantined", "reasons": [*score.reasons, why]})
    return last.model_copy(update={"score": doubted})


def _sentence(run: Run, last: contract.RunEnd) -> str:
    if run.purpose == "smoke" and last.outcome == "finished":
        return f"R-{run.pk} came through its smoke run"  # whose number is none that others are held against
    if last.score is not None and last.score.val_bpb is not None:
        return f"R-{run.pk} finished at {last.score.val_bpb:.4f} bpb ({last.score.outcome})"
    if last.score is not None and (said := last.score.self_reported) is not None and said.value is not None:
        return f"R-{run.pk} finished; its self-reported {said.metric} is {said.value:.4f} {said.unit}".rstrip()
    why = f": {last.failure.message}" if last.failure else ""
    return f"R-{run.pk} {last.outcome.replace('_', ' ')}{why}"
