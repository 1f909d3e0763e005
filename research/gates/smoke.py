"""Does it train a few steps, save and score, on the machine and in the sandbox where it would run?"""

from __future__ import annotations

from gpu_runner import contract
from research import dispatch
from research.gates.found import Found
from research.models import Revision, Run

NAME = "smoke run"


def start(revision: Revision) -> Run:
    """Queue the smoke run, before all other work: a person waits for it. One per revision, however often asked."""
    live = revision.runs.filter(purpose="smoke").exclude(state="cancelled").first()
    signed = contract.Approval.model_validate(revision.approval)
    return live or dispatch.queue(revision.incumbent, purpose="smoke", pair=1, signed=signed, revision=revision)


def found(run: Run) -> Found:
    """What a finished, failed or cancelled smoke run says."""
    if run.state == "cancelled":
        return Found.bad(f"It was cancelled: {run.stop_reason or 'no reason given'}.")
    if run.state != "finished":
        failure = run.failure or {}
        message = failure.get("message") or "it ended without a word"
        return Found.bad(f"It {run.state.replace('_', ' ')}: {message} {failure.get('todo', '')}".strip(), **failure)
    score = run.score
    if score.outcome != "ok":
        return Found.bad(f"Its checkpoint could not be scored: {'; '.join(score.reasons) or score.outcome}")
    return _measured(run)


def _measured(run: Run) -> Found:
    steps, seconds = run.num_steps, run.train_s
    rate = steps / seconds if steps and seconds else None
    words = [f"{steps} steps"]
    if rate is not None:
        words.append(f"{rate:.1f} steps/s")
    if run.peak_memory_mib is not None:
        words.append(f"{run.peak_memory_mib:,.0f} MiB")
    return Found.ok(", ".join(words), steps_per_s=rate, peak_memory_mib=run.peak_memory_mib, run=run.pk)
