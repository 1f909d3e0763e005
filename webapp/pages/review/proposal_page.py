"""The data of a proposal's page: all that a reviewer sees, in a bounded number of queries."""

from __future__ import annotations

from functools import cached_property

from django.contrib.auth.models import User

from gpu_runner import contract
from research import lifecycle
from research.models import Decision, Finding, Gate, Incumbent, Proposal, Revision, Run, Verdict
from research.record import learn, rights
from webapp.drawing import diffs, figures
from webapp.pages.review import history, judged
from webapp.pages.review.changes import Changes
from webapp.pages.review.cost import Cost, cost_of
from webapp.pages.review.estimates import Estimates
from webapp.pages.review.history import Moment
from webapp.pages.review.objection import Objection
from webapp.pages.review.overrides import OverrideRow, recipe_of
from webapp.pages.review.rebased import Rebase, rebase_of
from webapp.pages.review.wave import Wave, wave_of
from webapp.pages.runs.doubt import Doubt, doubts

MAX_PRECEDENTS = 3
SPEAKERS = {
    "claude": "Claude", "offline": "the catalogue", "human": "a person", "agent": "an agent",
    "random": "nobody: drawn at random", "tpe": "TPE",
}  # fmt: skip


class ProposalPage:
    """One proposal at its newest revision. Lazy: a section that is not drawn is not read."""

    def __init__(self, proposal: Proposal) -> None:
        self.proposal = proposal
        self.campaign = proposal.campaign

    @cached_property
    def revision(self) -> Revision:
        rows = self.proposal.revisions.select_related(
            "incumbent__proposal", "verdict", "author", "returns_from__finding"
        )
        return rows.latest("number")

    @cached_property
    def incumbent(self) -> Incumbent:
        return self.revision.incumbent

    @property
    def incumbent_name(self) -> str:
        """The incumbent, by the proposal that made it, or "base recipe"."""
        return f"P-{self.incumbent.proposal_id}" if self.incumbent.proposal_id else "base recipe"

    @cached_property
    def is_current(self) -> bool:
        """Whether the revision is on today's incumbent."""
        return self.campaign.incumbent.pk == self.revision.incumbent_id

    @cached_property
    def verdict(self) -> Verdict | None:
        return getattr(self.revision, "verdict", None)

    @cached_property
    def finding(self) -> Finding | None:
        return Finding.objects.filter(proposal=self.proposal).first()

    @property
    def can_be_decided(self) -> bool:
        return self.proposal.state == "pending_review"

    # --- taking it back, and letting it go on though a gate says no

    @cached_property
    def objection(self) -> Objection:
        return Objection(self.proposal, self.revision, self.gates, self.decisions)

    @cached_property
    def rebase(self) -> Rebase | None:
        return rebase_of(self.revision, self.decisions)

    @property
    def can_be_edited(self) -> bool:
        return self.proposal.state in lifecycle.PROPOSAL_EDITABLE

    def may_withdraw(self, user: User) -> bool:
        is_open = "withdrawn" in lifecycle.PROPOSAL[self.proposal.state]
        return is_open and rights.may(user, rights.withdraw, self.proposal)

    @property
    def waits_for(self) -> str:
        """The next step of a proposal on which nobody can decide now."""
        if any(doubt.is_open for doubt in self.doubts):
            return "A score waits for a reviewer"
        if self.proposal.state == "running" and self.proposal.kept_on_val is not None:
            return "Better on val; one more pair reads the sealed text"
        return {
            "drafted": "Goes through the gates",
            "checking": "In the gates",
            "changes_requested": "Waits for its author"
            if self.proposal.arm in Proposal.FROM_OUTSIDE
            else "The proposer is asked for a new revision",
            "stale": "Is being brought onto today's incumbent",
            "approved": "Approved; waits for a GPU",
            "running": "Running",
        }.get(self.proposal.state, "")

    @property
    def who_answers(self) -> str:
        """Who answers a request for changes, and when."""
        is_outside = self.proposal.arm in Proposal.FROM_OUTSIDE
        when = "" if is_outside or self.proposal.campaign.state == "active" else "once the campaign is resumed "
        who = "Its author" if is_outside else "The proposer"
        return f"{who} answers {when}with a new revision, which passes the gates again."

    @property
    def is_solo(self) -> bool:
        """Whether the proposal is past the queue, so that its results take the queue's width."""
        return self.proposal.state in ("running", "judged", "rejected", "withdrawn")

    @property
    def seen(self) -> str:
        """A mark of what the page shows; another one means that the page is old."""
        if self.proposal.state == "blocked":
            return f"{self.revision.digest[:16]}{self.objection.seen}.blocked"
        return f"{self.revision.digest[:16]}.{self.proposal.state}"

    # --- who wrote it

    @property
    def editor(self) -> str:
        """The person who made this revision of another's proposal."""
        author = self.revision.author
        return "" if author is None else author.get_full_name() or author.get_username()

    @property
    def how_it_came(self) -> str:
        """The number of this revision, and why it was made."""
        revision = self.revision
        if self.editor:
            why = f", edited by {self.editor}"
        elif revision.origin == "rebased":
            why = ", rebased"
        else:
            why = ", answers a comment" if revision.answers else ""
        return f"Revision {revision.number}{why}"

    @cached_property
    def co_authors(self) -> str:
        """People who edited earlier revisions, on which this one builds."""
        if self.revision.number == 1:
            return ""
        wrote = User.objects.filter(pk__in=self.proposal.revisions.exclude(author=None).values("author"))
        return ", ".join(user.get_full_name() or user.get_username() for user in wrote.order_by("pk"))

    @cached_property
    def changes(self) -> Changes | None:
        """What changed since the revision before; None for the first."""
        if self.revision.number == 1:
            return None
        before = self.proposal.revisions.select_related("incumbent").get(number=self.revision.number - 1)
        self.incumbent.campaign = self.campaign  # the same row, read already
        return Changes(before, self.revision)

    @property
    def speaker(self) -> str:
        """Who stated the prediction."""
        author = self.proposal.author
        whose = (author.get_full_name() or author.get_username()) if author else SPEAKERS[self.proposal.arm]
        return self.editor or " and ".join(filter(None, [whose, self.co_authors]))

    @property
    def is_claudes(self) -> bool:
        """Whether all words are Claude's own."""
        return self.proposal.arm == "claude" and not self.co_authors

    # --- the four facts

    @cached_property
    def cost(self) -> Cost:
        return cost_of(self.campaign, self.revision)

    @cached_property
    def gates(self) -> list[Gate]:
        return list(self.revision.gates.all())

    @property
    def num_passed(self) -> int:
        return sum(gate.outcome in ("passed", "warned") for gate in self.gates)

    @property
    def num_failed(self) -> int:
        return sum(gate.outcome == "failed" for gate in self.gates)

    @property
    def gates_s(self) -> float | None:
        known = [gate.seconds for gate in self.gates if gate.seconds is not None]
        return sum(known) if known else None

    @cached_property
    def noise(self) -> learn.Noise:
        return learn.noise(self.campaign)

    @cached_property
    def estimates(self) -> Estimates:
        return Estimates(self.revision, self.gates, len(self.files))

    @cached_property
    def wave(self) -> Wave | None:
        return wave_of(self.proposal)

    # --- prediction, precedents

    @cached_property
    def predicted(self) -> figures.Effect:
        r = self.revision
        return figures.Effect(
            label=figures.signed(r.effect_bpb, 4),
            effect_bpb=r.effect_bpb,
            low_bpb=r.low_bpb,
            high_bpb=r.high_bpb,
            tone="accent",
        )

    @cached_property
    def precedents(self) -> list[Verdict]:
        """Measured effects of the proposals that it cites; without any, of the newest that changed the same knobs."""
        measured = Verdict.objects.filter(effect_bpb__isnull=False, revision__proposal__campaign=self.campaign).exclude(
            revision__proposal=self.proposal
        )
        measured = measured.select_related("revision__proposal").order_by("-pk")
        named = list(measured.filter(revision__proposal__in=self.proposal.precedents.all())[:MAX_PRECEDENTS])
        mine = set(self.revision.knobs)
        if named or not mine:
            return named
        return [v for v in measured[:60] if mine & set(v.revision.knobs)][:MAX_PRECEDENTS]

    @cached_property
    def effect_figure(self) -> figures.EffectFigure:
        sd = self.noise.sd_bpb
        others = [
            figures.Effect(
                label=f"P-{v.revision.proposal_id}",
                effect_bpb=v.effect_bpb or 0.0,
                low_bpb=v.low_bpb,
                high_bpb=v.high_bpb,
                tone=figures.tone_of(v.effect_bpb or 0.0, sd),
            )
            for v in self.precedents
        ]
        return figures.effect_figure(self.predicted, others, sd)

    # --- the change

    @cached_property
    def overrides(self) -> list[OverrideRow]:
        recipe = recipe_of(self.campaign, self.incumbent.commit)
        rows = []
        for override in self.revision.overrides:
            knob = recipe.knob(override["key"]) if recipe else None
            rows.append(
                OverrideRow(
                    key=override["key"],
                    before=knob.default if knob else None,
                    after=override["value"],
                    reason=override.get("reason", ""),
                    unit=knob.unit if knob else "",
                )
            )
        return rows

    @cached_property
    def num_knobs(self) -> int | None:
        recipe = recipe_of(self.campaign, self.incumbent.commit)
        return len(recipe.knobs) if recipe else None

    @cached_property
    def files(self) -> list[diffs.FileDiff]:
        return diffs.parse(self.revision.patch)

    @property
    def num_added(self) -> int:
        return sum(file.num_added for file in self.files)

    @property
    def num_removed(self) -> int:
        return sum(file.num_removed for file in self.files)

    # --- runs, pairs, verdict

    @cached_property
    def runs(self) -> list[Run]:
        """Its own runs, and the baselines of the same seeds."""
        mine = list(self.revision.runs.select_related("score__settled_by", "worker").order_by("seed", "purpose"))
        seeds = [run.seed for run in mine if run.purpose == "candidate"]
        signed = self.signed.of_the_incumbent().digest()
        theirs = self.incumbent.runs.filter(purpose="baseline", seed__in=seeds, digest=signed)
        theirs = theirs.select_related("score__settled_by", "worker")
        return sorted([*mine, *theirs], key=lambda run: (run.purpose == "smoke", run.seed, run.purpose))

    @property
    def sealed_rows(self) -> list[tuple[str, float, float, float]]:
        """The pair that confirmed a keep, on both splits: name, candidate, incumbent, difference."""
        numbers = self.verdict.sealed if self.verdict else None
        if not numbers:
            return []
        val = (numbers["candidate_bpb"], numbers["incumbent_bpb"])
        sealed = (numbers["candidate_sealed_bpb"], numbers["incumbent_sealed_bpb"])
        return [("val", *val, val[0] - val[1]), ("sealed", *sealed, sealed[0] - sealed[1])]

    @cached_property
    def doubts(self) -> list[Doubt]:
        """Those of its runs whose score is disputed, quarantined, failed, or was quarantined."""
        return doubts(run for run in self.runs if run.purpose != "smoke" and not run.set_aside)

    @cached_property
    def pairs(self) -> list[figures.Pair]:
        return judged.pairs(self.revision, self.verdict, self.noise, self.seeds)

    @cached_property
    def signed(self) -> contract.Approval:
        return contract.Approval.model_validate(self.revision.approval)

    @property
    def seeds(self) -> contract.SeedPolicy:
        return self.signed.seeds

    @property
    def needed(self) -> float:
        """The e-value at which the judge believes a difference."""
        return 1 / self.seeds.alpha

    @cached_property
    def pairs_figures(self) -> list[figures.PairsFigure]:
        """The figure of the pairs, for wide screens and for a phone."""
        name = f"P-{self.proposal.pk}"
        return [figures.pairs_figure(self.pairs, name, self.incumbent_name, width=w) for w in (546, 330)]

    @cached_property
    def evidence_figures(self) -> list[figures.EvidenceFigure]:
        e_values = [p.e_value for p in self.pairs if p.e_value is not None]
        most = max(self.seeds.max_pairs, len(e_values))
        return [figures.evidence_figure(e_values, max_pairs=most, needed=self.needed, width=w) for w in (546, 330)]

    @cached_property
    def outcome_figures(self) -> list[figures.OutcomeFigure]:
        return judged.outcome_figures(self.revision, self.verdict, self.noise.sd_bpb, is_claudes=self.is_claudes)

    @property
    def interval_held(self) -> bool | None:
        """Whether the stated interval contains the measured effect."""
        v = self.verdict
        if v is None or v.effect_bpb is None:
            return None
        return self.revision.low_bpb <= v.effect_bpb <= self.revision.high_bpb

    @property
    def brier(self) -> float | None:
        """Squared error of the stated chance to win; 0 is best, 0.25 a coin."""
        if self.verdict is None or self.verdict.outcome == "disputed":
            return None
        return (self.revision.chance_to_win - (self.verdict.outcome == "keep")) ** 2

    @property
    def spent_s(self) -> float | None:
        """Device time of its own runs."""
        known = [run.device_s for run in self.runs if run.device_s is not None and run.revision_id == self.revision.pk]
        return sum(known) if known else None

    @property
    def num_live(self) -> int:
        return sum(run.state in lifecycle.RUN_LIVE for run in self.runs)

    # --- history

    @cached_property
    def history(self) -> list[Moment]:
        return history.of(self.proposal, self.decisions)

    @cached_property
    def decisions(self) -> list[Decision]:
        rows = Decision.objects.filter(revision__proposal=self.proposal).select_related("by", "revision")
        return list(rows.order_by("-pk"))

    @cached_property
    def hardware(self) -> str:
        return ", ".join(sorted({run.hardware_class for run in self.runs if run.hardware_class}))

    @cached_property
    def workers(self) -> str:
        return ", ".join(sorted({run.worker.name for run in self.runs if run.worker}))
