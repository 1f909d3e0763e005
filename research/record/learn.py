"""Writes findings, and reads the record for the next prompt: precedents, noise, the incumbent's mean."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from django.db.models import Avg, F, Max

from research import levels, statistics
from research.change.drafts import Comment, Override, Precedent
from research.models import Campaign, Decision, Finding, Incumbent, Proposal, Revision, Run, Verdict
from research.record import events, kinds, rights

MAX_PRECEDENTS = 5_000


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Noise of paired differences, pooled over the campaign's verdicts.

    ``sd_bpb`` is None below two degrees of freedom.
    """

    sum_of_squares: float
    degrees_of_freedom: int

    @property
    def sd_bpb(self) -> float | None:
        if self.degrees_of_freedom < 2:
            return None
        return math.sqrt(self.sum_of_squares / self.degrees_of_freedom)


def noise(campaign: Campaign) -> Noise:
    """Pool the residuals of every proposal that has pairs; a campaign has one hardware class and budget."""
    rows = Verdict.objects.filter(revision__proposal__campaign=campaign, num_pairs__gte=2).values_list(
        "pairs", flat=True
    )
    differences = [[pair["difference_bpb"] for pair in pairs] for pairs in rows]
    sum_of_squares, degrees_of_freedom = statistics.pool(differences)
    return Noise(sum_of_squares=sum_of_squares, degrees_of_freedom=degrees_of_freedom)


def num_since_keep(incumbent: Incumbent) -> int:
    """How many proposals were judged on ``incumbent``, none of them kept, since a keep makes a new incumbent."""
    return Verdict.objects.filter(revision__incumbent=incumbent).count()


def incumbent_bpb(incumbent: Incumbent) -> float | None:
    """Mean trusted score over the incumbent's own finished seeds; None before the first."""
    scored = incumbent.runs.filter(purpose="baseline", score__outcome="ok")
    if (newest := scored.order_by("pk").last()) is None:
        return None
    scored = scored.filter(digest=newest.digest)  # measured under one set of conditions
    mean: float | None = scored.aggregate(mean=Avg("score__val_bpb"))["mean"]
    return mean


def record(proposal: Proposal, kind: str, text: str) -> Finding:
    """Write the Finding about ``proposal``. Must run inside the transaction that ends it."""
    finding, _ = Finding.objects.update_or_create(
        proposal=proposal, defaults={"campaign": proposal.campaign, "kind": kind, "text": text}
    )
    fact = kinds.FINDING_RECORDED(finding=finding.pk)
    events.record(fact, text, by=rights.LEARN, campaign=proposal.campaign, proposal=proposal, rows=[finding])
    return finding


def precedents(campaign: Campaign) -> tuple[Precedent, ...]:
    """Everything tried or waiting, newest first: kept, discarded, rejected and blocked ones with their reasons."""
    newest = Revision.objects.filter(proposal__campaign=campaign).annotate(last=Max("proposal__revisions__number"))
    newest = newest.annotate(signed_alpha=F("approval__seeds__alpha")).filter(number=F("last"))
    newest = newest.select_related("verdict", "proposal__finding")
    rows = newest.defer("hypothesis", "mechanism", "edits", "approval").order_by("-proposal")[:MAX_PRECEDENTS]
    said = _comments(campaign)
    incumbent = campaign.incumbent
    holding = _holding_held_out_text(campaign)
    return tuple(
        replace(
            _precedent(revision, incumbent, said.get(revision.proposal_id, ()), revision.signed_alpha),
            holds_held_out=revision.proposal_id in holding,
        )
        for revision in rows
    )


def _holding_held_out_text(campaign: Campaign) -> set[int]:
    """Proposals of which a worker found held-out text in any revision: no prompt may show their patches."""
    runs = Run.objects.filter(campaign=campaign, revision__isnull=False, failure__kind="held_out_text")
    return set(runs.values_list("revision__proposal", flat=True))


def _comments(campaign: Campaign) -> dict[int, tuple[Comment, ...]]:
    """Reviewers' comments by proposal, oldest first. Without rejections, whose reason is the proposal's finding."""
    rows = Decision.objects.filter(revision__proposal__campaign=campaign).exclude(choice="reject").exclude(reason="")
    found: dict[int, tuple[Comment, ...]] = {}
    for number, choice, reason in rows.order_by("pk").values_list("revision__proposal", "choice", "reason"):
        found[number] = (*found.get(number, ()), Comment(choice=choice.replace("_", " "), text=reason))
    return found


def _in_words(told: dict[str, Any]) -> str:
    """The effect that a verdict on self-reported numbers found."""
    return f"{told['effect']:+.5f} {told['unit']}".rstrip() + f" of {told['metric']}, {told['direction']} is better"


def _precedent(revision: Revision, incumbent: Incumbent, comments: tuple[Comment, ...], alpha: float) -> Precedent:
    proposal = revision.proposal
    verdict: Verdict | None = getattr(revision, "verdict", None)
    finding: Finding | None = getattr(proposal, "finding", None)
    return Precedent(
        number=proposal.pk,
        title=proposal.title,
        state=proposal.state,
        outcome=verdict.outcome if verdict else None,
        reason=finding.text if finding else "",
        effect_bpb=verdict.effect_bpb if verdict else None,
        self_reported=_in_words(verdict.self_reported) if verdict and verdict.self_reported else "",
        low_bpb=verdict.low_bpb if verdict else None,
        high_bpb=verdict.high_bpb if verdict else None,
        interval_percent=levels.percent(alpha) if verdict and verdict.low_bpb is not None else None,
        overrides=tuple(Override(**o) for o in revision.overrides),
        patch=revision.patch,
        source=proposal.source,
        on_incumbent=revision.incumbent_id == incumbent.pk,
        comments=comments,
        settled_at=proposal.state_at.isoformat(),
    )
