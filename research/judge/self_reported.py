"""Judges numbers that foreign trainers report themselves: only where the campaign says so, and only among themselves.

The statistics are those of measured numbers, in the metric's own unit and direction. What they rest on is the word of
code that a proposal edits, so every sentence says *self-reported*, no sealed text confirms it, and no bpb is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from gpu_runner import contract
from research import statistics
from research.models import Campaign, Revision, Run, Score
from research.record import self_reported


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One seed's words of candidate and incumbent, in the metric's unit."""

    seed: int
    candidate: float
    incumbent: float

    @property
    def difference(self) -> float:
        return self.candidate - self.incumbent


def why_not(score: Score, campaign: Campaign) -> str:
    """Why a candidate's self-reported score cannot be judged; empty where it can."""
    told = score.self_reported or {}
    if not campaign.judges_self_reported:
        return (
            f"Its {told.get('metric')} is self-reported: nobody measured it, and this campaign judges no such numbers."
            " Let the campaign say so, or give its recipe a [model] that the trusted scorer can open."
        )
    if told.get("metric") != campaign.metric or told.get("direction") != campaign.direction:
        return (
            f"It reports {told.get('metric')} ({told.get('direction')} is better), and the campaign is about"
            f" {campaign.metric} ({campaign.direction} is better)."
        )
    return ""


def is_about(revision: Revision) -> bool:
    """Whether its runs report their numbers themselves."""
    return revision.runs.filter(purpose="candidate", score__outcome=self_reported.OUTCOME).exists()


NO_SEEDS = (
    "Every seed gave the same numbers to the last digit, so these are no pairs but one, told several times: let run or"
    " env in [command] of recipe.toml hand {seed} to the trainer."
)


def ignores_seeds(pairs: Sequence[Pair]) -> bool:
    """Whether candidate and incumbent differ, each the same for all of several seeds: the trainer knows no seeds."""
    told = {(pair.candidate, pair.incumbent) for pair in pairs}
    return len(pairs) > 1 and len(told) == 1 and any(pair.difference for pair in pairs)


def pairs_of(revision: Revision, baselines: QuerySet[Run]) -> list[Pair]:
    """The pairs in the order of their seeds, up to the first gap, as a sequential test needs them."""
    metric = revision.proposal.campaign.metric
    mine = self_reported.values(revision.runs.filter(purpose="candidate"), metric)
    theirs = self_reported.values(baselines, metric)
    pairs: list[Pair] = []
    while (seed := revision.incumbent.seed(len(pairs) + 1)) in mine and seed in theirs:
        pairs.append(Pair(seed=seed, candidate=mine[seed], incumbent=theirs[seed]))
    return pairs


def looks(revision: Revision, pairs: Sequence[Pair]) -> list[statistics.Look]:
    """The statistics after each pair, in order."""
    campaign = revision.proposal.campaign
    pooled_ss, pooled_df = self_reported.noise(campaign)
    return [
        statistics.look(
            [pair.difference for pair in pairs[:n]],
            pooled_ss=pooled_ss,
            pooled_df=pooled_df,
            seeds=contract.Approval.model_validate(revision.approval).seeds,
            unit=campaign.metric_unit or campaign.metric,
            direction=campaign.direction,
        )
        for n in range(1, len(pairs) + 1)
    ]


def told(campaign: Campaign, pairs: Sequence[Pair], seen: Sequence[statistics.Look]) -> dict[str, Any]:
    """What a verdict keeps: ``Verdict.self_reported``."""
    last = seen[-1]
    return {
        "metric": campaign.metric,
        "unit": campaign.metric_unit,
        "direction": campaign.direction,
        "effect": last.mean,
        "low": last.low,
        "high": last.high,
        "e_value": last.e_value,
        "candidate": statistics.mean_sd([pair.candidate for pair in pairs])[0],
        "incumbent": statistics.mean_sd([pair.incumbent for pair in pairs])[0],
        "pairs": [
            {
                "seed": pair.seed,
                "candidate": pair.candidate,
                "incumbent": pair.incumbent,
                "difference": pair.difference,
                "e_value": look.e_value,
            }
            for pair, look in zip(pairs, seen, strict=True)
        ],
    }
