"""What judging a proposal would cost: the runs that are still missing, times the device time of measured runs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Avg, Count

from gpu_runner import contract
from research.models import Campaign, Incumbent, Revision
from research.record import ledger
from research.runs import dispatch
from webapp.templatetags.shown import hours, minutes, usd


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of judging a proposal, from measured runs; None where there are none."""

    num_runs_least: int
    num_runs_most: int
    run_s: float | None
    num_measured: int
    usd_per_gpu_hour: Decimal | None
    gpu_s_left: float | None

    @property
    def gpu_s_most(self) -> float | None:
        return None if self.run_s is None else self.run_s * self.num_runs_most

    @property
    def gpu_s_least(self) -> float | None:
        return None if self.run_s is None else self.run_s * self.num_runs_least

    @property
    def usd_most(self) -> Decimal | None:
        if self.gpu_s_most is None or self.usd_per_gpu_hour is None:
            return None
        return Decimal(self.gpu_s_most) * self.usd_per_gpu_hour / 3600

    @property
    def gpu_s_left_after(self) -> float | None:
        if self.gpu_s_left is None or self.gpu_s_most is None:
            return None
        return max(0.0, self.gpu_s_left - self.gpu_s_most)

    @property
    def queues(self) -> str:
        """The runs that an approval would queue, in words."""
        runs = f"Approving queues {self.num_runs_least} to {self.num_runs_most} runs"
        if self.usd_most is not None:
            return f"{runs}, at most {usd(self.usd_most)}"
        return runs if self.gpu_s_most is None else f"{runs}, at most {minutes(self.gpu_s_most)} GPU-min"

    @property
    def leaves(self) -> str:
        """What would be left of the budget, in words."""
        if self.gpu_s_left is None:
            return "no budget limit set"
        if self.gpu_s_left_after is None:
            return f"{hours(self.gpu_s_left)} GPU-h left"
        return f"{hours(self.gpu_s_left)} GPU-h left becomes {hours(self.gpu_s_left_after)} at least"


def cost_of(campaign: Campaign, revision: Revision) -> Cost:
    """Missing runs for the fewest and the most pairs, times the mean device time of finished runs."""
    signed = contract.Approval.model_validate(revision.approval)
    seeds = signed.seeds
    over = campaign.runs.filter(state="finished", device_s__isnull=False).exclude(purpose="smoke")
    measured = over.aggregate(mean=Avg("device_s"), n=Count("pk"))
    baselines = revision.incumbent.runs.filter(purpose="baseline", digest=signed.of_the_incumbent().digest())
    have = set(baselines.filter(state="finished", set_aside=False).values_list("seed", flat=True))
    left = None
    if campaign.budget_gpu_hours is not None:
        left = max(0.0, campaign.budget_gpu_hours * 3600 - ledger.spent(campaign).gpu_s)
    return Cost(
        num_runs_least=_num_runs(revision.incumbent, have, seeds.min_pairs),
        num_runs_most=_num_runs(revision.incumbent, have, seeds.max_pairs, and_sealed=True),
        run_s=measured["mean"],
        num_measured=measured["n"],
        usd_per_gpu_hour=campaign.usd_per_gpu_hour,
        gpu_s_left=left,
    )


def _num_runs(incumbent: Incumbent, have: set[int], num_pairs: int, *, and_sealed: bool = False) -> int:
    """How many runs: a candidate for every pair, a baseline for seeds without one, and one pair more for a keep."""
    pairs = [*range(1, num_pairs + 1), *([dispatch.SEALED_PAIR] if and_sealed else [])]
    return len(pairs) + sum(incumbent.seed(pair) not in have for pair in pairs)
