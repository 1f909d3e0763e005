"""What a campaign's numbers will cost: runs, verdicts, hours and dollars, from measured runs where there are any.

A forecast is an "about": it counts neither repeats of lost runs nor a queue that runs dry because nobody decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Avg, Count, Q, Sum

from research.begin import datasets
from research.models import Campaign, Run

NIGHT_H = 8.0
ASIDE_S = 15.0  # of a run, what is not training: start, checkpoint, score; measured runs say it better


@dataclass(frozen=True, kw_only=True)
class Duration:
    """Seconds that a machine is held by one run; None where nothing says so. ``how`` is where it is from.

    ``is_rough`` where only a few first steps say so, which are slower than later ones.
    """

    seconds: float | None
    how: str
    is_rough: bool = False


@dataclass(frozen=True, kw_only=True)
class Yield:
    """How many runs fit, and how many verdicts they give when all take the most pairs, and the fewest."""

    num_runs: int
    fewest_verdicts: int
    most_verdicts: int

    def __str__(self) -> str:
        runs = f"about {_about(self.num_runs):,} run{'' if self.num_runs == 1 else 's'}"
        low, high = _about(self.fewest_verdicts), _about(self.most_verdicts)
        if not high:
            return f"{runs}, no verdict"
        return (
            f"{runs}, {f'{low:,} to {high:,}' if low != high else f'about {low:,}'} verdict{'' if high == 1 else 's'}"
        )


def _about(count: int) -> int:
    """Two digits: more would be a promise."""
    if count < 100:
        return count
    step: int = 10 ** (len(str(count)) - 2)
    return count // step * step


def num_machines(campaign: Campaign) -> int:
    """Workers that could take its runs now; at least one, since one may still come."""
    return max(1, datasets.fitting(campaign).count())


def run_duration(campaign: Campaign) -> Duration:
    """How long one run of ``campaign`` holds a machine. It need not be saved yet."""
    return _of_its_own(campaign) or _of_alike(campaign) or _of_its_pace(campaign) or _of_the_budget(campaign)


def _measured(where: Q) -> tuple[float | None, int]:
    runs = Run.objects.filter(where, state="finished", device_s__gt=0).exclude(purpose="smoke")
    found = runs.aggregate(mean=Avg("device_s"), n=Count("pk"))
    return found["mean"], found["n"]


def _of_its_own(campaign: Campaign) -> Duration | None:
    mean, n = _measured(Q(campaign=campaign.pk)) if campaign.pk else (None, 0)
    return None if mean is None else Duration(seconds=mean, how=f"measured on {_runs(n)} of it")


def _of_alike(campaign: Campaign) -> Duration | None:
    mean, n = _measured(_alike(campaign) & Q(campaign__run_budget_amount=campaign.run_budget_amount))
    return (
        None if mean is None else Duration(seconds=mean, how=f"measured on {_runs(n)} with the same recipe and budget")
    )


def _alike(campaign: Campaign) -> Q:
    same = Q(campaign__recipe=campaign.recipe, campaign__run_budget_kind=campaign.run_budget_kind)
    if campaign.hardware_class:
        same &= Q(campaign__hardware_class=campaign.hardware_class)
    return same


def _of_its_pace(campaign: Campaign) -> Duration | None:
    """From the tokens a second of runs with another budget, else of smoke runs."""
    if campaign.run_budget_kind != "tokens":
        return None
    alike = Run.objects.filter(_alike(campaign), state="finished", train_s__gt=0, num_tokens__gt=0)
    aside = f"with {ASIDE_S:.0f} s beside the training"
    for runs, words in ((alike.exclude(purpose="smoke"), "the pace of {}"), (alike, "the pace of a few first steps")):
        sums = runs.aggregate(seconds=Sum("train_s"), tokens=Sum("num_tokens"), n=Count("pk"))
        if sums["n"]:
            seconds = sums["seconds"] / sums["tokens"] * campaign.run_budget_amount + ASIDE_S
            how = f"by {words.format(_runs(sums['n']))}, {aside}"
            return Duration(seconds=seconds, how=how, is_rough="{}" not in words)
    return None


def _runs(count: int) -> str:
    return f"{count:,} run{'' if count == 1 else 's'}"


def _of_the_budget(campaign: Campaign) -> Duration:
    if campaign.run_budget_kind == "seconds":
        seconds = campaign.run_budget_amount + ASIDE_S
        return Duration(seconds=seconds, how=f"its budget, with {ASIDE_S:.0f} s beside the training")
    return Duration(seconds=None, how="not known before its first five steps")


def of_hours(campaign: Campaign, gpu_hours: float, run_s: float) -> Yield:
    """What ``gpu_hours`` of machines give, when a run holds one for ``run_s`` seconds."""
    runs = int(gpu_hours * 3600 / run_s)
    return Yield(
        num_runs=runs,
        fewest_verdicts=_verdicts(runs, campaign.max_pairs),
        most_verdicts=_verdicts(runs, campaign.min_pairs),
    )


def _verdicts(num_runs: int, num_pairs: int) -> int:
    """With so many pairs each: the incumbent's runs are made once, and shared by all that is judged against it."""
    return max(0, (num_runs - num_pairs) // num_pairs)


def sentences(campaign: Campaign) -> dict[str, str]:
    """Setting -> what it will cost, in words. ``campaign`` need not be saved yet."""
    run, machines = run_duration(campaign), num_machines(campaign)
    said = {"run_budget_amount": _of_a_run(run), "approval_ttl_h": _of_the_ttl(campaign)}
    if run.seconds is None:
        return said | {"night": "How many runs a night holds is not known before the first five steps."}
    night = of_hours(campaign, NIGHT_H * machines, run.seconds)
    where = "one machine" if machines == 1 else f"{machines} machines"
    said["night"] = f"A night of {NIGHT_H:.0f} h on {where}: {night}."
    said["max_pairs"] = _of_the_pairs(campaign, run.seconds, machines)
    said["deadline_s"] = _of_the_deadline(campaign, run.seconds)
    said["budget_gpu_hours"] = _of_the_hours(campaign, run.seconds, machines)
    said["budget_usd"] = _of_the_dollars(campaign, run.seconds)
    return said


def _of_a_run(run: Duration) -> str:
    return (
        f"A run's time is {run.how}." if run.seconds is None else f"A run takes about {_time(run.seconds)} ({run.how})."
    )


def _of_the_ttl(campaign: Campaign) -> str:
    return (
        f"What is approved and has not started within {campaign.approval_ttl_h:g} h goes stale and is asked for again."
    )


def _of_the_pairs(campaign: Campaign, run_s: float, machines: int) -> str:
    """The first verdict needs the incumbent's runs, too; later ones find them made."""
    few, many = campaign.min_pairs, campaign.max_pairs
    first = f"{2 * few} to {2 * many}" if few != many else f"{2 * few}"
    later = f"{few} to {many}" if few != many else f"{few}"
    longest = _time(2 * many * run_s / machines)
    return (
        f"The first verdict takes {first} runs, {longest} at most; a later one {later}, since the incumbent's are made."
    )


def _of_the_deadline(campaign: Campaign, run_s: float) -> str:
    ends = f"A training process is ended after {_time(campaign.deadline_s)}"
    if run_s > campaign.deadline_s:
        return (
            f"{ends}, and a run takes about {_time(run_s)}: every run would be ended. Raise it, or shrink the budget."
        )
    return f"{ends}: {campaign.deadline_s / run_s:.1f} times what a run takes."


def _of_the_hours(campaign: Campaign, run_s: float, machines: int) -> str:
    hours = campaign.budget_gpu_hours
    if hours is None:
        return "No limit: it goes on until somebody pauses it."
    when, given = _time(hours * 3600 / machines), f"{hours:g} GPU-hour{'' if hours == 1 else 's'}"
    return f"{given}: {of_hours(campaign, hours, run_s)}; spent after {when} without a break."


def _of_the_dollars(campaign: Campaign, run_s: float) -> str:
    price, most = campaign.usd_per_gpu_hour, campaign.budget_usd
    parts = []
    if price is not None:
        parts.append(f"a run costs about ${Decimal(run_s) / 3600 * price:.2f}")
        if campaign.budget_gpu_hours is not None:
            parts.append(f"the GPU-hours ${Decimal(campaign.budget_gpu_hours) * price:,.2f} together")
    else:
        parts.append("machines cost nothing in the ledger, since no price an hour is set")
    if most is None:
        parts.append("no limit of dollars, but the daily one for Claude")
    elif price:
        hours = float(most / price)
        parts.append(
            f"${most:,.2f} are {hours:,.1f} GPU-hours, {of_hours(campaign, hours, run_s)}, less what Claude costs"
        )
    else:
        parts.append(f"${most:,.2f} are for Claude")
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def _time(seconds: float) -> str:
    """Two digits, in the unit that people would use."""
    for size, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {name}" if seconds < 10 * size else f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
