"""Gate: the smoke run. Does it train a few steps, save and score in its sandbox, and what will a whole run cost?"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Avg, Count, Sum

from gpu_runner import contract
from gpu_runner.contract import Spent
from research.gates.outcome import GateResult, Remark
from research.models import Campaign, Revision, Run
from research.record import ledger
from research.runs import attempts, dispatch, incumbent_usage

NAME = "smoke run"
SLOW = {"slowdown": 1.25, "memory_ratio": 2.0}  # times what the incumbent takes: a person should know


def start(revision: Revision) -> Run:
    """Queue the smoke run, before all other work, since a person waits for it.

    One per revision, however often asked.
    """
    live = revision.runs.filter(purpose="smoke").exclude(state="cancelled").first()
    signed = contract.Approval.model_validate(revision.approval)
    return live or dispatch.queue(revision.incumbent, purpose="smoke", pair=1, signed=signed, revision=revision)


def found(run: Run) -> GateResult:
    """What a finished, failed or cancelled smoke run says."""
    if run.state == "cancelled":
        return GateResult.bad(f"It was cancelled: {run.stop_reason or 'no reason given'}.")
    if run.state != "finished":
        failure = run.failure or {}
        message = failure.get("message") or "it ended without a word"
        said = f"It {run.state.replace('_', ' ')}: {message} {failure.get('todo', '')}".strip()
        is_cleared = attempts.fault_of(failure) in ("machine", "operator")
        return GateResult.bad(f"{said} That is no fault of the change." if is_cleared else said, **failure)
    score = run.score
    if score.outcome == "self_reported":
        return _of_a_word(run, score.self_reported or {})
    if score.outcome != "ok":
        return GateResult.bad(f"Its checkpoint could not be scored: {'; '.join(score.reasons) or score.outcome}")
    return _measured(run)


def _of_a_word(run: Run, said: dict[str, Any]) -> GateResult:
    """Of a foreign trainer: that it starts, and whether it said its number. Nothing of its pace was measured."""
    numbers: dict[str, Any] = {"run": run.pk, "peak_memory_mib": run.peak_memory_mib}
    if said["value"] is None:
        sentence = (
            f"It trained and did not say its {said['metric']} within the smoke run: whether it ever does is not known."
            " Let run in [command] of recipe.toml name {steps}."
        )
        return GateResult.of([Remark(severity="warn", rule="no-metric", sentence=sentence)], sentence, **numbers)
    return GateResult.ok(f"{run.num_steps or 0} steps, as it says; its {said['metric']} was read", **numbers)


# --- what it measured, beside the incumbent --------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The speed of one training; None where it was not measured."""

    steps_per_s: float | None
    tokens_per_s: float | None
    peak_memory_mib: float | None
    train_s: float | None  # of a whole run
    aside_s: float | None  # of a whole run's device time, what is not training: start, score


def _pace(run: Run) -> Pace:
    seconds = run.train_s or None
    return Pace(
        steps_per_s=run.num_steps / seconds if run.num_steps and seconds else None,
        tokens_per_s=run.num_tokens / seconds if run.num_tokens and seconds else None,
        peak_memory_mib=run.peak_memory_mib,
        train_s=seconds,
        aside_s=None,
    )


def _incumbents(run: Run) -> Pace | None:
    """Mean pace of the incumbent's finished runs on the same hardware; None before the first."""
    same = run.incumbent.runs.filter(purpose="baseline", state="finished", set_aside=False)
    same = same.filter(hardware_class=run.hardware_class)
    sums = same.filter(train_s__gt=0).aggregate(
        n=Count("pk"), steps=Sum("num_steps"), tokens=Sum("num_tokens"), seconds=Sum("train_s"), device=Sum("device_s"),
        memory=Avg("peak_memory_mib"),
    )  # fmt: skip
    if not sums["n"]:
        return None
    seconds = sums["seconds"]
    return Pace(
        steps_per_s=sums["steps"] / seconds if sums["steps"] else None,
        tokens_per_s=sums["tokens"] / seconds if sums["tokens"] else None,
        peak_memory_mib=sums["memory"],
        train_s=seconds / sums["n"],
        aside_s=(sums["device"] - seconds) / sums["n"] if sums["device"] else None,
    )


def _measured(run: Run) -> GateResult:
    mine, theirs = _pace(run), _incumbents(run)
    assert run.revision is not None
    projected = _projection(run.campaign, run.revision, mine, theirs)
    numbers = {
        "steps_per_s": mine.steps_per_s,
        "peak_memory_mib": mine.peak_memory_mib,
        "run": run.pk,
        "slowdown": _heaviness(run)
        or _ratio(theirs.tokens_per_s if theirs else None, mine.tokens_per_s)
        or _ratio(theirs.steps_per_s if theirs else None, mine.steps_per_s),
        "memory_ratio": _ratio(mine.peak_memory_mib, theirs.peak_memory_mib if theirs else None),
    } | projected
    remarks = _remarks(run.campaign, numbers) + _of_lookups(run)
    return GateResult.of(remarks, _words(run.num_steps, numbers), **numbers)


def _heaviness(run: Run) -> float | None:
    """How many times the incumbent's time a token takes, measured outside of the run; None where that is not known.

    In a budget of tokens a person signs that.
    """
    theirs = incumbent_usage.of(run)
    return Spent.model_validate(run.spent).times(theirs) if theirs and run.spent else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _projection(
    campaign: Campaign, revision: Revision, mine: Pace, theirs: Pace | None
) -> dict[str, float | str | None]:
    """Seconds of a whole run at the smoke run's pace, and GPU-hours and dollars of the fewest pairs."""
    train_s = _train_s(campaign.run_budget, mine, theirs)
    seeds = contract.Approval.model_validate(revision.approval).seeds
    aside_s = theirs.aside_s or 0.0 if theirs else 0.0
    gpu_hours = None if train_s is None else seeds.min_pairs * (train_s + aside_s) / 3600
    price = campaign.usd_per_gpu_hour
    usd = None if gpu_hours is None or price is None else str(round(price * Decimal(gpu_hours), 2))
    return {"projected_train_s": train_s, "projected_gpu_hours": gpu_hours, "projected_usd": usd}


def _train_s(budget: contract.Budget, mine: Pace, theirs: Pace | None) -> float | None:
    """Seconds of training in a whole run: the budget's own; by tokens/s; or the incumbent's, scaled by steps/s."""
    if budget.kind == "seconds":
        return budget.amount
    if budget.kind == "tokens" and mine.tokens_per_s:
        return budget.amount / mine.tokens_per_s
    if theirs and theirs.train_s and (slowdown := _ratio(theirs.steps_per_s, mine.steps_per_s)):
        return theirs.train_s * slowdown
    return None


def _remarks(campaign: Campaign, numbers: dict[str, float | str | None]) -> list[Remark]:
    """Warnings about time, memory and budget. They never block, since a few first steps are slower than later ones."""
    remarks = []
    train_s, gpu_hours = numbers["projected_train_s"], numbers["projected_gpu_hours"]
    if isinstance(train_s, float) and train_s > campaign.deadline_s:
        sentence = (
            f"At this pace a run trains for about {train_s:,.0f} s, and the campaign ends it at"
            f" {campaign.deadline_s:,.0f} s; make a step cheaper, or raise the deadline."
        )
        remarks.append(Remark(severity="warn", rule="deadline", sentence=sentence))
    if isinstance(gpu_hours, float) and campaign.budget_gpu_hours is not None:
        left = max(0.0, campaign.budget_gpu_hours - ledger.spent(campaign).gpu_hours)
        if gpu_hours > left:
            sentence = (
                f"Its fewest runs take about {gpu_hours:.2f} GPU-hours, and {left:.2f} are left; raise the campaign's "
                "budget, or propose something cheaper."
            )
            remarks.append(Remark(severity="warn", rule="budget", sentence=sentence))
    for name, most in SLOW.items():
        ratio = numbers[name]
        if isinstance(ratio, float) and ratio > most:
            remarks.append(
                Remark(severity="warn", rule=name.replace("_", "-"), sentence=_costly(campaign, name, ratio))
            )
    return remarks


def _of_lookups(run: Run) -> list[Remark]:
    """A warning for tables in 16 bits on a CPU (gpu_runner/harness/lookups.py), where the incumbent's are not.

    The number comes from a process that proposed code shares; the sentence is ours.
    """
    most, theirs = _counts_to(run), run.incumbent.runs.filter(purpose="baseline", started__isnull=False)
    if most is None or ((last := theirs.order_by("pk").last()) is not None and _counts_to(last) == most):
        return []
    sentence = (
        f"It reads a table in 16 bits, and on a CPU torch then counts at most {most:,} uses of a row in a batch, so"
        " that frequent tokens may learn too little; keep the table in float32 and cast what was read from it."
    )
    return [Remark(severity="warn", rule="narrow-lookup", sentence=sentence)]


def _counts_to(run: Run) -> int | None:
    most = (run.started or {}).get("lookups_count_to")
    return most if isinstance(most, int) and not isinstance(most, bool) else None


def _costly(campaign: Campaign, name: str, ratio: float) -> str:
    if name == "memory_ratio":
        return f"It takes {ratio:.1f} times as much memory as the incumbent; the gain has to be worth that."
    if campaign.run_budget.kind == "tokens":
        return (
            f"It takes {ratio:.1f} times the incumbent's time for each token, which a budget in tokens does not count:"
            " whoever approves it signs that too, and the gain has to be worth it."
        )
    return f"It is {ratio:.1f} times as slow as the incumbent; the gain has to be worth that."


def _words(steps: int | None, numbers: dict[str, float | str | None]) -> str:
    words = [f"{steps} steps"]
    if numbers["steps_per_s"] is not None:
        words.append(f"{numbers['steps_per_s']:.1f} steps/s")
    if numbers["peak_memory_mib"] is not None:
        words.append(f"{numbers['peak_memory_mib']:,.0f} MiB")
    if numbers["slowdown"] is not None:
        words.append(f"{numbers['slowdown']:.2f} times the incumbent's time")
    if numbers["projected_gpu_hours"] is not None:
        words.append(f"about {numbers['projected_gpu_hours']:.2f} GPU-hours for the fewest pairs")
    if numbers["projected_usd"] is not None:
        words.append(f"${numbers['projected_usd']}")
    return ", ".join(words)
