"""The data of a campaign's page: where it stands, what was tried, what it cost. A bounded number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Count, Sum
from django.template.defaultfilters import floatformat
from django.urls import reverse

from research import levels, lifecycle, statistics
from research.judge import latency
from research.models import Campaign, Event, Incumbent, Note, PastExperiment, Proposal, Run, Turn, Verdict
from research.propose import turns
from research.record import kinds, learn, ledger, repository, self_reported
from research.review import decisions
from webapp.drawing import figures, progression
from webapp.pages.campaigns import latency_figure
from webapp.templatetags.shown import level, signed, usd

ENOUGH_TO_SAY = 10  # judged proposals; under it a win rate is mostly noise
MAX_LEDGER = 60
MAX_EVENTS = 20
# Left out of the feed: steps of runs and gates, and what a verdict or a decision says already.
QUIET_EVENTS = (
    *(kinds.RUN[state] for state in ("queued", "leased", "training", "scoring")),
    *(kinds.PROPOSAL[state] for state in ("checking", "judged")),
    kinds.FINDING_RECORDED,
    *kinds.LEDGER,
)
MAX_STEMS = 9
MAX_BRANCHES = 2
MAX_OPEN_BRANCHES = 4


@dataclass(frozen=True)
class LedgerRow:
    """A judged proposal with the interval of its effect, on a scale shared by the table."""

    verdict: Verdict
    proposal: Proposal
    at: float | None
    low: float | None
    high: float | None
    zero: float
    tone: str
    gpu_s: float | None

    @property
    def outcome(self) -> str:
        return "crashed" if self.verdict.crashed else self.verdict.outcome

    @property
    def says(self) -> str:
        """The interval in words, for screen readers."""
        v = self.verdict
        if v.low_bpb is None or v.high_bpb is None:
            return "no interval"
        return f"{level(v.revision.alpha)} interval {signed(v.low_bpb)} to {signed(v.high_bpb)}"


class CampaignPage:
    """One campaign, read lazily: a card that is not drawn is not read."""

    def __init__(self, campaign: Campaign, reader: User) -> None:
        self.campaign, self.reader = campaign, reader

    # --- facts

    @cached_property
    def incumbents(self) -> list[Incumbent]:
        return list(self.campaign.incumbents.select_related("proposal").order_by("number"))

    @cached_property
    def own_seeds(self) -> dict[int, list[float]]:
        """Trusted scores (bpb) of each incumbent's baselines, all measured under their newest conditions."""
        scored = Run.objects.filter(campaign=self.campaign, purpose="baseline", score__outcome="ok")
        rows = list(scored.order_by("pk").values_list("incumbent", "digest", "score__val_bpb"))
        newest = {incumbent: digest for incumbent, digest, _ in rows}
        scores: dict[int, list[float]] = {}
        for incumbent, digest, bpb in rows:
            if digest == newest[incumbent] and bpb is not None:
                scores.setdefault(incumbent, []).append(bpb)
        return scores

    @property
    def num_seeds(self) -> int:
        return len(self.own_seeds.get(self.incumbent.pk, []))

    def bpb_of(self, incumbent: Incumbent) -> float | None:
        """Mean of the incumbent's baselines; before they are measured, the candidate's mean in its verdict."""
        if scores := self.own_seeds.get(incumbent.pk):
            return statistics.mean_sd(scores)[0]
        made_by = (v for v in self.verdicts if v.revision.proposal_id == incumbent.proposal_id)
        return next((v.candidate_bpb for v in made_by), None)

    @property
    def incumbent(self) -> Incumbent:
        return self.incumbents[-1]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """All verdicts, in the order in which they were given."""
        rows = Verdict.objects.filter(revision__proposal__campaign=self.campaign)
        return list(rows.select_related("revision__proposal").order_by("pk"))

    @property
    def num_judged(self) -> int:
        return len(self.verdicts)

    @property
    def num_kept(self) -> int:
        return sum(v.outcome == "keep" for v in self.verdicts)

    @property
    def num_crashed(self) -> int:
        return sum(v.crashed for v in self.verdicts)

    @property
    def win_rate(self) -> float | None:
        """Share of judged proposals that were kept; None under ten, where it would mostly be noise."""
        return self.num_kept / self.num_judged if self.num_judged >= ENOUGH_TO_SAY else None

    @property
    def enough(self) -> int:
        return ENOUGH_TO_SAY

    @property
    def incumbent_bpb(self) -> float | None:
        return self.bpb_of(self.incumbent)

    @property
    def incumbent_word(self) -> dict[str, Any] | None:
        """What the incumbent's trainer says of itself, over its seeds; None before the first."""
        if (value := self_reported.mean(self.incumbent)) is None:
            return None
        return {"value": value, "unit": self.campaign.metric_unit, "metric": self.campaign.metric}

    @property
    def to_target(self) -> float | None:
        if self.campaign.target_bpb is None or self.incumbent_bpb is None:
            return None
        return self.incumbent_bpb - self.campaign.target_bpb

    @cached_property
    def spent(self) -> ledger.Spent:
        return ledger.spent(self.campaign)

    @property
    def of_the_budget(self) -> str:
        """The limit of GPU-hours, and dollars spent with their limit, where there are any."""
        campaign, spent = self.campaign, self.spent
        parts = [f"of {floatformat(campaign.budget_gpu_hours, '-1')}" if campaign.budget_gpu_hours else "no limit"]
        if spent.usd:
            parts.append(usd(spent.usd) + (f" of {usd(campaign.budget_usd)}" if campaign.budget_usd else ""))
        if spent.num_unpriced:
            parts.append(f"{spent.num_unpriced} calls of unknown price")
        return ", ".join(parts)

    @cached_property
    def states(self) -> dict[str, int]:
        counts = self.campaign.proposals.values_list("state").annotate(n=Count("pk"))
        return dict(counts)

    @cached_property
    def num_waiting(self) -> int:
        """How many proposals the reader may decide on."""
        return decisions.waiting_for(self.reader).filter(campaign=self.campaign).count()

    @property
    def num_proposals(self) -> int:
        return sum(self.states.values())

    @cached_property
    def num_live(self) -> int:
        return self.campaign.runs.filter(state__in=lifecycle.RUN_LIVE).count()

    @cached_property
    def noise(self) -> learn.Noise:
        return learn.noise(self.campaign)

    @cached_property
    def baseline(self) -> dict[str, Any]:
        """Mean and sample sd (bpb) of the incumbent's baselines, with n; None where there are too few for one."""
        scores = self.own_seeds.get(self.incumbent.pk, [])
        mean, sd = statistics.mean_sd(scores) if scores else (None, None)
        return {"n": len(scores), "mean": mean, "sd": sd}

    @cached_property
    def account(self) -> ledger.Account:
        return ledger.account(self.campaign)

    @cached_property
    def latency_figures(self) -> list[latency_figure.LatencyFigure]:
        """Latency of every stage, for wide and for narrow pages; empty while none is over."""
        stages = latency_figure.stages_of(self.campaign)
        return [figure for w in (680, 330) if (figure := latency_figure.latency_figure(stages, width=w)) is not None]

    @property
    def num_timed(self) -> int:
        return min(self.num_proposals, latency_figure.NEWEST)

    @property
    def enough_stays(self) -> int:
        return latency.ENOUGH

    @cached_property
    def notes(self) -> list[Note]:
        """Steering notes that are not retired, oldest first."""
        return list(self.campaign.notes.filter(retired_at=None).select_related("by"))

    @cached_property
    def num_past(self) -> int:
        """How many experiments of other loops a proposer is told."""
        rows = PastExperiment.objects.filter(imported__campaign=self.campaign, imported__archived_at=None)
        return rows.count()

    @cached_property
    def turns(self) -> list[Turn]:
        return turns.shown(self.campaign)

    @property
    def clone_from(self) -> str:
        return str(repository.path_of(self.campaign))

    # --- figures

    @cached_property
    def base_bpb(self) -> float | None:
        """The start of the staircase: the base recipe's baselines, or the first verdict's incumbent."""
        base = self.bpb_of(self.incumbents[0])
        return base if base is not None else next((v.incumbent_bpb for v in self.verdicts if v.incumbent_bpb), None)

    @cached_property
    def staircases(self) -> list[progression.StaircaseFigure]:
        if self.base_bpb is None:
            return []
        judged = [_judged(v) for v in self.verdicts]
        target = self.campaign.target_bpb
        return [
            progression.staircase_figure(self.base_bpb, judged, target, width=w, labels=w > 400) for w in (1120, 340)
        ]

    @cached_property
    def lineage(self) -> progression.LineageFigure:
        chain = self.incumbents[-MAX_STEMS:]
        by_stem: dict[int, list[progression.Branch]] = {stem.pk: [] for stem in chain}
        for verdict in reversed(self.verdicts):
            branches = by_stem.get(verdict.revision.incumbent_id)
            if verdict.outcome != "keep" and branches is not None and len(branches) < MAX_BRANCHES:
                branches.append(_tried(verdict))
        by_stem[chain[-1].pk] = [*self._open_branches(), *by_stem[chain[-1].pk]][:MAX_OPEN_BRANCHES]
        return progression.lineage_figure([(self._stem(stem), by_stem[stem.pk]) for stem in chain])

    def _stem(self, incumbent: Incumbent) -> progression.Branch:
        proposal, mean = incumbent.proposal, self.bpb_of(incumbent)
        return progression.Branch(
            title=proposal.title if proposal else "base recipe",
            line="not measured" if mean is None else figures.plain(mean, 4),
            url=reverse("proposal", args=[proposal.pk]) if proposal else reverse("campaign", args=[self.campaign.slug]),
            tone="head" if incumbent.pk == self.incumbent.pk else "kept",
        )

    def _open_branches(self) -> list[progression.Branch]:
        rows = self.campaign.proposals.filter(state__in=("running", "approved", "pending_review"))
        words = {"running": "running", "approved": "approved", "pending_review": "to review"}
        newest = sorted(rows.order_by("pk")[:50], key=lambda p: list(words).index(p.state))
        return [
            progression.Branch(
                title=p.title,
                line=words[p.state],
                url=reverse("proposal", args=[p.pk]),
                tone="run" if p.state == "running" else "wait",
            )
            for p in newest[: MAX_OPEN_BRANCHES - 1]
        ]

    # --- tables

    @cached_property
    def ledger(self) -> list[LedgerRow]:
        """The newest ``MAX_LEDGER`` judged proposals, newest first, which fit a page."""
        newest = self.verdicts[::-1][:MAX_LEDGER]
        scale = figures.Scale(*figures.span(_bounds(newest), pad=0.06), 6, 174)
        spent = self._spent_by_proposal()
        sd = self.noise.sd_bpb
        return [_ledger_row(v, scale, spent.get(v.revision.proposal_id), sd) for v in newest]

    def _spent_by_proposal(self) -> dict[int, float]:
        rows = self.campaign.runs.filter(device_s__isnull=False, revision__isnull=False)
        return dict(rows.values_list("revision__proposal").annotate(total=Sum("device_s")))

    @property
    def level(self) -> str:
        """The level of the intervals in the table."""
        return levels.several(row.verdict.revision.alpha for row in self.ledger)

    @property
    def level_of_steps(self) -> str:
        """The level of the bars of the staircase."""
        return levels.several(v.revision.alpha for v in self.verdicts if v.outcome == "keep")

    @property
    def num_unlisted(self) -> int:
        return max(0, self.num_judged - MAX_LEDGER)

    @cached_property
    def open_proposals(self) -> list[Proposal]:
        return list(self.campaign.proposals.filter(state__in=lifecycle.PROPOSAL_OPEN).order_by("-pk")[:MAX_LEDGER])

    @cached_property
    def events(self) -> list[Event]:
        told = Event.objects.filter(campaign=self.campaign).exclude(kind__in=QUIET_EVENTS).select_related("proposal")
        return list(told.order_by("-pk")[:MAX_EVENTS])


def _judged(verdict: Verdict) -> progression.Judged:
    proposal = verdict.revision.proposal
    return progression.Judged(
        number=proposal.pk,
        title=proposal.title,
        outcome=verdict.outcome,
        crashed=verdict.crashed,
        candidate_bpb=verdict.candidate_bpb,
        low_bpb=_shifted(verdict, verdict.low_bpb),
        high_bpb=_shifted(verdict, verdict.high_bpb),
    )


def _shifted(verdict: Verdict, effect: float | None) -> float | None:
    """A bound of the effect as a score, to draw around the candidate's: the step is uncertain, not the level."""
    return None if effect is None or verdict.incumbent_bpb is None else verdict.incumbent_bpb + effect


def _tried(verdict: Verdict) -> progression.Branch:
    proposal = verdict.revision.proposal
    score = "no score" if verdict.candidate_bpb is None else figures.plain(verdict.candidate_bpb, 4)
    return progression.Branch(
        title=proposal.title,
        line="crashed" if verdict.crashed else "disputed" if verdict.outcome == "disputed" else score,
        url=reverse("proposal", args=[proposal.pk]),
        tone="bad" if verdict.crashed or verdict.outcome == "disputed" else "discard",
    )


def _bounds(verdicts: list[Verdict]) -> list[float | None]:
    return [v for verdict in verdicts for v in (verdict.low_bpb, verdict.high_bpb, verdict.effect_bpb)] + [0.0]


def _ledger_row(verdict: Verdict, scale: figures.Scale, gpu_s: float | None, sd: float | None) -> LedgerRow:
    def at(value: float | None) -> float | None:
        return None if value is None else scale(value)

    tone = "ink" if verdict.effect_bpb is None else figures.tone_of(verdict.effect_bpb, sd)
    return LedgerRow(
        verdict=verdict,
        proposal=verdict.revision.proposal,
        at=at(verdict.effect_bpb),
        low=at(verdict.low_bpb),
        high=at(verdict.high_bpb),
        zero=scale(0.0),
        tone=tone if verdict.outcome in ("keep", "discard") else "ink",
        gpu_s=gpu_s,
    )
