"""The measurements of a proposal: its pairs, so far or as judged, and the measured effect beside the stated one."""

from __future__ import annotations

from typing import Any

from gpu_runner import contract
from research import statistics
from research.judge import judge
from research.models import Revision, Verdict
from research.record import learn
from webapp.drawing import figures


def pairs(
    revision: Revision, verdict: Verdict | None, noise: learn.Noise, seeds: contract.SeedPolicy
) -> list[figures.Pair]:
    """The pairs of the verdict or of the judge's last look; before these, of the scores so far."""
    if verdict is not None:
        return _from_rows(verdict.pairs)
    if (final := revision.proposal.kept_on_val) is not None:
        return _from_rows(final["rows"])
    return _so_far(revision, noise, seeds)


def outcome_figures(
    revision: Revision, verdict: Verdict | None, sd_bpb: float | None, *, is_claudes: bool
) -> list[figures.OutcomeFigure]:
    """The stated above the measured effect, for wide screens and for a phone; empty without a measured one."""
    if verdict is None or verdict.effect_bpb is None:
        return []
    said = figures.Effect(
        label=f"{'Claude said' if is_claudes else 'predicted'} {figures.signed(revision.effect_bpb, 4)}",
        effect_bpb=revision.effect_bpb,
        low_bpb=revision.low_bpb,
        high_bpb=revision.high_bpb,
        tone="claude" if is_claudes else "accent",
    )
    measured = figures.Effect(
        label=f"measured {figures.signed(verdict.effect_bpb, 4)}",
        effect_bpb=verdict.effect_bpb,
        low_bpb=verdict.low_bpb,
        high_bpb=verdict.high_bpb,
        tone=figures.tone_of(verdict.effect_bpb, sd_bpb),
    )
    return [figures.outcome_figure(said, measured, sd_bpb, alpha=revision.alpha, width=w) for w in (436, 330)]


def _from_rows(rows: list[dict[str, Any]]) -> list[figures.Pair]:
    return [
        figures.Pair(
            seed=pair["seed"],
            candidate_bpb=pair["candidate_bpb"],
            incumbent_bpb=pair["incumbent_bpb"],
            e_value=pair.get("e_value"),
        )
        for pair in rows
    ]


def _so_far(revision: Revision, noise: learn.Noise, seeds: contract.SeedPolicy) -> list[figures.Pair]:
    """The finished pairs with the judge's statistics after each, under the noise pooled so far."""
    finished = judge.pairs_of(revision)
    differences = [pair.difference for pair in finished]
    pairs = []
    for n, pair in enumerate(finished, start=1):
        look = statistics.look(
            differences[:n], pooled_ss=noise.sum_of_squares, pooled_df=noise.degrees_of_freedom, seeds=seeds
        )
        candidate, baseline = pair.candidate.score.val_bpb, pair.baseline.score.val_bpb
        assert candidate is not None and baseline is not None, "a finished pair has two scores"
        pairs.append(
            figures.Pair(
                seed=pair.seed,
                candidate_bpb=candidate,
                incumbent_bpb=baseline,
                e_value=look.e_value,
                low_bpb=look.low,
                high_bpb=look.high,
            )
        )
    return pairs
