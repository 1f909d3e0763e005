"""Withholds numbers of the sealed split from all that leaves by itself: prompts, the API for agents, webhooks.

Through these a campaign could learn that text bit by bit. People see them: on pages, in the admin panel, in the record
and in commits.
"""

from __future__ import annotations

from typing import Any

from research import levels
from research.models import Event, Run, Verdict

NUMBERS = frozenset({"sealed_bpb", "sealed_effect_bpb", "sealed", "candidate_sealed_bpb", "incumbent_sealed_bpb"})
FOR_PEOPLE = "its page says why, for people only, since that may tell of the sealed text"


def stripped(said: Any) -> Any:
    """``said`` without the keys in ``NUMBERS``, at any depth."""
    if isinstance(said, dict):
        return {key: stripped(value) for key, value in said.items() if key not in NUMBERS}
    if isinstance(said, list | tuple):
        return [stripped(value) for value in said]
    return said


def why_of(run: Run, why: str) -> str:
    """``why``, the scorer's or a person's reason; another sentence where the run's scorer read the sealed split."""
    return FOR_PEOPLE if run.reads_sealed else why


def sentence_of(event: Event) -> str:
    """The event's sentence for outside: another one where its own tells of the sealed split."""
    told: str = event.payload.get("told") or event.sentence
    return told


def verdict(row: Verdict) -> dict[str, Any]:
    """A verdict as agents and webhooks are told it. Its reason is the proposer's: see ``judge.write_verdict``."""
    return {
        "outcome": row.outcome,
        "reason": row.revision.proposal.finding.text,
        "crashed": row.crashed,
        "effect_bpb": row.effect_bpb,
        "low_bpb": row.low_bpb,
        "high_bpb": row.high_bpb,
        "interval_percent": None if row.low_bpb is None else levels.percent(row.revision.alpha),
        "e_value": row.e_value,
        "num_pairs": row.num_pairs,
        "candidate_bpb": row.candidate_bpb,
        "incumbent_bpb": row.incumbent_bpb,
        "self_reported": row.self_reported,
    }
