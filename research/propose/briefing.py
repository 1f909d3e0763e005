"""Builds the brief: everything that a proposer may know of a campaign."""

from __future__ import annotations

import math
import secrets

from django.db.models import F, Max

from gpu_runner import contract
from research import lifecycle
from research.change.drafts import Brief, Draft, Edit, Override, Prediction, Word
from research.models import Campaign, Incumbent, Revision
from research.propose import dynamics, histories, notes, statement
from research.record import learn, ledger, repository, self_reported

MAX_CHARS = 600_000  # of the recipe's files together: a prompt holds the ledger, too
MAX_NAMED = 200  # files that a proposer is told of by name


def brief(campaign: Campaign, num_wanted: int, revising: Revision | None = None) -> Brief:
    """The brief of ``campaign`` for a proposer."""
    incumbent = campaign.incumbent
    files = repository.files_at(campaign, incumbent.commit)
    recipe = contract.parse_recipe(files["recipe.toml"])
    told = _told(recipe, files)
    return Brief(
        campaign=campaign.name,
        goal=campaign.goal,
        program=campaign.program,
        recipe_toml=files["recipe.toml"],
        files=told,
        not_shown=_not_shown(campaign, incumbent, files, told),
        incumbent_bpb=learn.incumbent_bpb(incumbent),
        noise_sd_bpb=learn.noise(campaign).sd_bpb,
        min_effect_bpb=campaign.min_effect_bpb,
        run_budget=ledger.budget_in_words(campaign.run_budget),
        hardware=campaign.hardware_class or "not known yet",
        budget_left=ledger.left_in_words(campaign),
        precedents=learn.precedents(campaign),
        num_wanted=num_wanted,
        seed=secrets.randbits(31),
        dynamics=dynamics.of_campaign(campaign, incumbent, [revising] if revising else _open(campaign)),
        log_tails=dynamics.log_tails(campaign),
        notes=notes.notes(campaign),
        num_since_keep=learn.num_since_keep(incumbent),
        imported=histories.told(campaign),
        word=_word(campaign) if recipe.is_self_reported else None,
    )


def _word(campaign: Campaign) -> Word:
    sum_of_squares, degrees_of_freedom = self_reported.noise(campaign)
    return Word(
        metric=campaign.metric,
        unit=campaign.metric_unit,
        direction=campaign.direction,
        is_judged=campaign.judges_self_reported,
        incumbent=self_reported.mean(campaign.incumbent),
        noise_sd=math.sqrt(sum_of_squares / degrees_of_freedom) if degrees_of_freedom > 1 else None,
    )


def _told(recipe: contract.Recipe, files: dict[str, str]) -> dict[str, str]:
    """What a proposer reads of the recipe: recipe.toml, what may be edited, and what it says is shown."""
    told, room = dict[str, str](), MAX_CHARS
    for path in dict.fromkeys(("recipe.toml", *recipe.editable, *recipe.shown)):
        room -= len(files.get(path, ""))
        if path in files and room >= 0:
            told[path] = files[path]
    return told


def _not_shown(
    campaign: Campaign, incumbent: Incumbent, files: dict[str, str], told: dict[str, str]
) -> tuple[str, ...]:
    """The other files by name and size, so that a proposer knows what is there. The first ones of many."""
    unread = [(one.path, f"{one.why}, ", one.size) for one in repository.left_out_at(campaign, incumbent.commit)]
    read = [(path, "", len(text.encode())) for path, text in files.items() if path not in told]
    lines = [f"{path} ({why}{size / 1000:,.1f} kB)" for path, why, size in sorted([*unread, *read])]
    more = [f"and {len(lines) - MAX_NAMED:,} more"] if len(lines) > MAX_NAMED else []
    return (*lines[:MAX_NAMED], *more)


def _open(campaign: Campaign) -> list[Revision]:
    """The newest revisions of proposals that are not over."""
    rows = Revision.objects.filter(proposal__campaign=campaign, proposal__state__in=lifecycle.PROPOSAL_OPEN)
    return list(rows.annotate(newest=Max("proposal__revisions__number")).filter(number=F("newest")))


def draft_of(revision: Revision) -> Draft:
    """The draft that ``revision`` was written from."""
    return Draft(
        title=revision.proposal.title,
        hypothesis=revision.hypothesis,
        mechanism=revision.mechanism,
        refuted_if=revision.refuted_if,
        prediction=Prediction(
            effect_bpb=revision.effect_bpb,
            low_bpb=revision.low_bpb,
            high_bpb=revision.high_bpb,
            chance_to_win=revision.chance_to_win,
        ),
        overrides=tuple(Override(**o) for o in revision.overrides),
        edits=tuple(Edit(**e) for e in revision.edits),
        **statement.of(revision),
        source=revision.proposal.source,
    )
