"""A draft's statements beside its change, as fields of a Revision and back.

They are: risk, cost, why several things change at once, what rejected idea it takes up again, who wrote it.
"""

from __future__ import annotations

from typing import Any

from research.change.drafts import Draft, ExpectedCost, Origin, Return
from research.models import Campaign, Revision


def fields(campaign: Campaign, draft: Draft) -> dict[str, Any]:
    """Fields for ``Revision.objects.create``. What was not stated is NULL, or empty text."""
    returns = draft.returns
    rejected = campaign.proposals.filter(pk=returns.proposal, state="rejected").first() if returns else None
    return {
        "risk": draft.risk,
        "time_factor": draft.cost.time_factor if draft.cost else None,
        "memory_factor": draft.cost.memory_factor if draft.cost else None,
        "why_together": draft.why_together,
        "returns_from": rejected,
        "what_changed": returns.what_changed if returns and rejected else "",
    } | origin_fields(draft)


def origin_fields(draft: Draft) -> dict[str, str]:
    """Fields of a Revision, and of its Wave: which model and prompt wrote it."""
    return dict(vars(draft.origin)) if draft.origin else {}


def of(revision: Revision) -> dict[str, Any]:
    """The same, read from a revision, as arguments of ``Draft``."""
    return {
        "risk": revision.risk,
        "cost": _cost(revision),
        "why_together": revision.why_together,
        "returns": _returns(revision),
        "origin": _origin(revision),
    }


def _cost(revision: Revision) -> ExpectedCost | None:
    if revision.time_factor is None or revision.memory_factor is None:
        return None
    return ExpectedCost(time_factor=revision.time_factor, memory_factor=revision.memory_factor)


def _returns(revision: Revision) -> Return | None:
    if revision.returns_from_id is None:
        return None
    return Return(proposal=revision.returns_from_id, what_changed=revision.what_changed)


def _origin(revision: Revision) -> Origin | None:
    if not revision.model:
        return None
    return Origin(
        model=revision.model, prompt_sha256=revision.prompt_sha256, templates_sha256=revision.templates_sha256
    )
