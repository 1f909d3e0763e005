"""What the API for agents answers, field by field. Nothing else leaves through it.

Scores are the trusted scorer's, on the split that Claude is told of; held-out text and the sealed split are never here.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.urls import reverse

from gpu_runner.contract import Knob, parse_recipe
from research.change.drafts import Brief, Precedent
from research.models import Campaign, Proposal
from research.record import withheld
from research.review import outside


def brief_of(campaign: Campaign, brief: Brief) -> dict[str, Any]:
    """The brief, as Claude gets it."""
    said = {
        "campaign": campaign.slug,
        "name": brief.campaign,
        "state": campaign.state,
        "goal": brief.goal,
        "program": brief.program,
        "incumbent": {"commit": campaign.incumbent.commit, "val_bpb": brief.incumbent_bpb},
        "self_reported": None if brief.word is None else vars(brief.word),
        "noise_sd_bpb": brief.noise_sd_bpb,
        "min_effect_bpb": brief.min_effect_bpb,
        "run_budget": brief.run_budget,
        "budget_left": brief.budget_left,
        "hardware": brief.hardware,
        "files": brief.files,
        "editable": list(parse_recipe(brief.recipe_toml).editable),
        "knobs": [_knob(knob) for knob in parse_recipe(brief.recipe_toml).knobs],
        "ledger": [_precedent(p) for p in brief.precedents],
        "dynamics": [vars(d) for d in brief.dynamics],
        "log_tails": [vars(tail) for tail in brief.log_tails],
        "notes": [vars(note) for note in brief.notes],
        "open_of_agents": {"now": outside.num_open(campaign), "at_most": campaign.max_agent_open},
    }
    told: dict[str, Any] = withheld.stripped(said)
    return told


def _knob(knob: Knob) -> dict[str, Any]:
    return knob.model_dump(mode="json")


def _precedent(p: Precedent) -> dict[str, Any]:
    return {
        "number": p.number,
        "title": p.title,
        "state": p.state,
        "outcome": p.outcome,
        "reason": p.reason,
        "effect_bpb": p.effect_bpb,
        "self_reported": p.self_reported,
        "low_bpb": p.low_bpb,
        "high_bpb": p.high_bpb,
        "interval_percent": p.interval_percent,
        "overrides": [vars(o) for o in p.overrides],
        "patch": p.told_patch,
        "on_incumbent": p.on_incumbent,
    }


def received(proposal: Proposal) -> dict[str, Any]:
    """The answer when a proposal was accepted."""
    revision = proposal.revision
    return {
        "number": proposal.pk,
        "revision": revision.number,
        "digest": revision.digest,
        "state": proposal.state,
        "url": page_of(proposal.pk),
    }


def page_of(number: int) -> str:
    """The address of the proposal's page."""
    return f"{settings.PUBLIC_URL}{reverse('proposal', args=[number])}"


def proposal_of(proposal: Proposal) -> dict[str, Any]:
    """A proposal's state, gates, decisions and verdict."""
    revision = proposal.revision
    decision = revision.decisions.exclude(choice="override").order_by("-pk").first()
    verdict = getattr(revision, "verdict", None)
    said = received(proposal) | {
        "title": proposal.title,
        "arm": proposal.arm,
        "campaign": proposal.campaign.slug,
        "gates": [
            {
                "name": gate.name,
                "outcome": gate.outcome,
                "sentence": gate.sentence,
                "findings": gate.measured.get("findings", []),
            }
            for gate in revision.gates.all()
        ],
        "decision": None
        if decision is None
        else {
            "choice": decision.choice,
            "category": decision.category,
            "reason": decision.reason,
            "at": decision.created_at,
        },
        "verdict": None if verdict is None else withheld.verdict(verdict),
    }
    told: dict[str, Any] = withheld.stripped(said)
    return told
