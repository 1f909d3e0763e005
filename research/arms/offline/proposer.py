"""The proposer without a key: draws from a catalogue of known ablations. It reads no text and calculates nothing.

When the catalogue has nothing left for this incumbent, it takes random steps of one numeric knob, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from gpu_runner.contract import Knob, KnobValue, Recipe, parse_recipe
from research import levels
from research.arms.offline.catalogue import Entry, Prior, catalogue, rounded, values_of
from research.change.drafts import Answer, Brief, Draft, Edit, Override, Precedent, Prediction
from research.change.patches import answered_by, is_waiting, problems_with, still_stands

STEP = math.log(1.7)  # a random step multiplies or divides by at most this much ...
SMALLEST_STEP = math.log(1.15)  # ... and at least this much: less cannot be told from noise
NUM_DRAWS = 400  # random steps tried before giving up

DESIGN = (
    "No design: entries of the catalogue, drawn with their chances to win as weights, and random steps where it has"
    " nothing left. No two of them turn the same knob, so that each answers for itself."
)
NOT_CALCULATED = "(The prediction is the catalogue's prior, not a calculation for this recipe.)"
STEP_PRIOR = Prior(effect_bpb=0.005, low=-0.02, high=0.04, chance=0.08)


@dataclass(frozen=True)
class _Candidate:
    draft: Draft
    keys: frozenset[str]
    weight: float


class OfflineProposer:
    """A Proposer that answers within milliseconds, from its catalogue or at random."""

    arm = "offline"

    def draft(self, brief: Brief) -> Answer:
        """Up to ``brief.num_wanted`` drafts, no knob twice, drawn by ``brief.seed`` with the catalogue's chances."""
        recipe = parse_recipe(brief.recipe_toml)
        rng = Random(brief.seed)  # noqa: S311 - reproducible draws, not secrets
        taken = {o.key for p in brief.precedents if is_waiting(p) for o in p.overrides}
        drafts = _draw(_applicable(brief, recipe), brief.num_wanted, taken, rng)
        drafts += _random_steps(brief, recipe, brief.num_wanted - len(drafts), taken, rng)
        if not drafts:
            return Answer(problem="The offline catalogue is exhausted on this incumbent, and so are random steps.")
        return Answer(drafts=tuple(drafts), design=DESIGN)

    def revise(self, brief: Brief, previous: Draft, comment: str) -> Answer:
        """A milder variant: every number halfway back to the incumbent's. It cannot read ``comment``."""
        recipe = parse_recipe(brief.recipe_toml)
        halves = [_halfway(o, recipe) for o in previous.overrides]
        if not any(new != old.value for new, old in zip(halves, previous.overrides, strict=True)):
            return Answer(
                problem="The offline proposer cannot read comments, and this proposal has no number to soften."
            )
        milder = _milder(previous, halves)
        if problems := problems_with(milder, recipe, brief.files):
            return Answer(problem=f"The milder variant would not work: {'; '.join(problems)}.")
        if (precedent := answered_by(milder, brief.precedents, brief.files)) is not None:
            return Answer(problem=f"The milder variant is the change of proposal {precedent.number}.")
        return Answer(drafts=(milder,))


# --- the catalogue ------------------------------------------------------------------------------


def _applicable(brief: Brief, recipe: Recipe) -> list[_Candidate]:
    asked = {_slug(p.source) for p in brief.precedents if still_stands(p)}
    entries = [e for e in catalogue() if e.slug not in asked]
    candidates = [c for e in entries if (c := _candidate(e, brief, recipe)) is not None]
    return [c for c in candidates if answered_by(c.draft, brief.precedents, brief.files) is None]


def _candidate(entry: Entry, brief: Brief, recipe: Recipe) -> _Candidate | None:
    """The draft of an entry; None where it does not apply.

    So it is where its ``when`` is not met, a value is out of bounds or already there, or the code has changed.
    """
    values = values_of(entry, recipe)
    if values is None:
        return None
    draft = _draft(entry, values, brief, recipe)
    if problems_with(draft, recipe, brief.files):
        return None
    return _Candidate(draft, frozenset(values), entry.prior.chance)


def _draft(entry: Entry, values: dict[str, KnobValue], brief: Brief, recipe: Recipe) -> Draft:
    now = {k.key: k.default for k in recipe.knobs}
    first = next(iter(values), None)
    old, new = (_shown(now[first]), _shown(values[first])) if first else ("", "")

    def fill(text: str) -> str:
        return text.strip().replace("{old}", old).replace("{new}", new)

    return Draft(
        title=fill(entry.title),
        hypothesis=fill(entry.hypothesis),
        mechanism=f"{fill(entry.mechanism)} {NOT_CALCULATED}",
        refuted_if=fill(entry.refuted_if),
        prediction=_prediction(entry.prior, brief),
        overrides=tuple(
            Override(
                key=key, value=value, reason=f"{_shown(now[key])} -> {_shown(value)}. {_help(recipe, key)}".strip()
            )
            for key, value in values.items()
        ),
        edits=tuple(Edit(path=e.path, search=e.search, replace=e.replace) for e in entry.edits),
        risk=entry.risk,
        why_together=entry.why_together,
        precedents=_earlier(entry.slug, brief.precedents),
        source=f"catalogue:{entry.slug}; {entry.evidence}",
    )


def _prediction(prior: Prior, brief: Brief) -> Prediction:
    """The prior, its interval widened by the noise that three pairs leave in a measured mean."""
    blur = levels.STATED_Z * (brief.noise_sd_bpb or 0.0) / math.sqrt(3)
    return Prediction(
        effect_bpb=prior.effect_bpb,
        low_bpb=prior.effect_bpb - math.hypot(prior.effect_bpb - prior.low, blur),
        high_bpb=prior.effect_bpb + math.hypot(prior.high - prior.effect_bpb, blur),
        chance_to_win=prior.chance,
    )


def _help(recipe: Recipe, key: str) -> str:
    knob = recipe.knob(key)
    return knob.help if knob else ""


def _shown(value: KnobValue) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _slug(source: str) -> str:
    """The catalogue entry that a precedent came from; its whole source when it came from elsewhere."""
    return source.removeprefix("catalogue:").partition(";")[0]


def _earlier(slug: str, precedents: tuple[Precedent, ...]) -> tuple[int, ...]:
    """Numbers of earlier proposals from the same catalogue entry."""
    return tuple(p.number for p in precedents if p.source.startswith("catalogue:") and _slug(p.source) == slug)


def _draw(candidates: list[_Candidate], num_wanted: int, taken: set[str], rng: Random) -> list[Draft]:
    """Draw by weight, without replacement; ``taken`` grows, so that no knob is in two drafts of a wave."""
    drafts: list[Draft] = []
    while len(drafts) < num_wanted:
        candidates = [c for c in candidates if not c.keys & taken]
        if not candidates:
            break
        [chosen] = rng.choices(candidates, [c.weight for c in candidates])
        candidates.remove(chosen)
        taken |= chosen.keys
        drafts.append(chosen.draft)
    return drafts


# --- random steps ---------------------------------------------------------------------------------


def _random_steps(brief: Brief, recipe: Recipe, num_wanted: int, taken: set[str], rng: Random) -> list[Draft]:
    drafts: list[Draft] = []
    for knob, value in _steps(recipe, rng):
        if len(drafts) >= num_wanted:
            break
        draft = _step_draft(knob, value, brief)
        if knob.key in taken or problems_with(draft, recipe, brief.files):
            continue
        if answered_by(draft, brief.precedents, brief.files) is None:
            taken.add(knob.key)
            drafts.append(draft)
    return drafts


def _steps(recipe: Recipe, rng: Random) -> Iterator[tuple[Knob, KnobValue]]:
    """Log-uniform steps, up or down, of float knobs above 0; a knob at 0 is switched off and has no scale."""
    knobs = [k for k in recipe.knobs if k.type == "float" and isinstance(k.default, float) and k.default > 0]
    for _ in range(NUM_DRAWS if knobs else 0):
        knob = rng.choice(knobs)
        assert isinstance(knob.default, float)
        step = rng.uniform(SMALLEST_STEP, STEP) * rng.choice((-1, 1))
        yield knob, rounded(knob.default * math.exp(step), knob)


def _step_draft(knob: Knob, value: KnobValue, brief: Brief) -> Draft:
    old, new = _shown(knob.default), _shown(value)
    return Draft(
        title=f"Random step: {knob.key} from {old} to {new}",
        hypothesis=f"None. The catalogue has nothing left for this incumbent; this is a random step of {knob.key}.",
        mechanism=f"{knob.help} (The prediction is a prior for random steps, not a calculation.)",
        refuted_if="The verdict is not keep.",
        prediction=_prediction(STEP_PRIOR, brief),
        overrides=(Override(key=knob.key, value=value, reason=f"{old} -> {new}, drawn at random."),),
        risk="contained",
        source=f"random-step:{knob.key}",
    )


# --- milder ---------------------------------------------------------------------------------------


def _halfway(override: Override, recipe: Recipe) -> KnobValue:
    """The mean of the incumbent's value and the proposed one, geometric for positive floats. Others stay."""
    knob = recipe.knob(override.key)
    if knob is None or isinstance(override.value, bool | str) or isinstance(knob.default, bool | str):
        return override.value
    old, new = knob.default, override.value
    middle = math.sqrt(old * new) if knob.type == "float" and old > 0 and new > 0 else (old + new) / 2
    softened = rounded(middle, knob)
    return override.value if softened == knob.default else softened


def _milder(previous: Draft, values: list[KnobValue]) -> Draft:
    said = previous.prediction
    half = Prediction(
        effect_bpb=said.effect_bpb / 2,
        low_bpb=min(said.low_bpb, said.effect_bpb / 2),
        high_bpb=max(said.high_bpb, said.effect_bpb / 2),
        chance_to_win=said.chance_to_win,
    )
    overrides = tuple(
        o
        if v == o.value
        else Override(key=o.key, value=v, reason=f"Halfway: {_shown(v)} instead of {_shown(o.value)}.")
        for o, v in zip(previous.overrides, values, strict=True)
    )
    note = "This proposer cannot read the comment; it offers a milder variant, halfway back to the incumbent."
    return replace(
        previous,
        title=f"Milder: {previous.title.removeprefix('Milder: ')}",
        hypothesis=f"{note} Before: {previous.hypothesis.removeprefix(note + ' Before: ')}",
        prediction=half,
        overrides=overrides,
    )
