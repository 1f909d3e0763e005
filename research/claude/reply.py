"""What Claude may answer, as a schema to send and as a model to hold it to. Pure.

The API enforces the shape of the schema but neither bounds nor lengths, so all of that is checked here, one draft at a
time: a bad one is dropped with its reason and does not take the good ones with it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import anthropic
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gpu_runner.contract import Recipe, parse_recipe
from research.drafts import Brief, Draft, Edit, Override, Prediction
from research.patches import answered_by, problems_with

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=160)]
Paragraph = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]
Code = Annotated[str, StringConstraints(max_length=40_000)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SaidPrediction(_Said):
    effect_bpb: float = Field(ge=-10, le=10, description="Mean effect on bits per byte; negative is better.")
    low_bpb: float = Field(ge=-10, le=10, description="Lower end of the 80 % interval of the effect.")
    high_bpb: float = Field(ge=-10, le=10, description="Upper end of the 80 % interval of the effect.")
    chance_to_win: float = Field(ge=0, le=1, description="Probability of the verdict keep, 0 to 1.")


class SaidOverride(_Said):
    key: str = Field(max_length=40)
    value: int | float | bool | str
    reason: Paragraph


class SaidEdit(_Said):
    path: str = Field(max_length=300)
    search: Code = Field(description="Copied verbatim from the file; must occur exactly once in it.")
    replace: Code


class SaidDraft(_Said):
    title: Title = Field(description="What changes, in at most 80 characters.")
    hypothesis: Paragraph
    mechanism: Paragraph
    refuted_if: Paragraph = Field(description="The observation that would show the hypothesis to be wrong.")
    prediction: SaidPrediction
    overrides: list[SaidOverride] = Field(max_length=12)
    edits: list[SaidEdit] = Field(max_length=40)
    precedents: list[int] = Field(max_length=40, description="Numbers of the ledger's proposals this builds on.")


class SaidDrafts(_Said):
    drafts: list[SaidDraft]


SCHEMA: dict[str, Any] = anthropic.transform_schema(SaidDrafts)


def read(text: str, brief: Brief, source: str, num_wanted: int) -> tuple[tuple[Draft, ...], str]:
    """Drafts that can be experiments, and why the others were dropped (one sentence each, "" when none was)."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return (), "Claude's answer is not JSON."
    if not isinstance(said, dict) or set(said) != {"drafts"} or not isinstance(said["drafts"], list):
        return (), "Claude's answer does not follow the schema: it should be an object with the list drafts."
    recipe = parse_recipe(brief.recipe_toml)
    drafts: list[Draft] = []
    dropped: list[str] = []
    for number, body in enumerate(said["drafts"][:num_wanted], start=1):
        draft, why = _one(body, number, brief, recipe, source, drafts)
        if draft is not None:
            drafts.append(draft)
        if why:
            dropped.append(why)
    return tuple(drafts), " ".join(dropped) or ("" if drafts else "Claude proposed nothing this time.")


def _one(
    body: object, number: int, brief: Brief, recipe: Recipe, source: str, earlier: list[Draft]
) -> tuple[Draft | None, str]:
    try:
        said = SaidDraft.model_validate_json(json.dumps(body))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        return None, f"Draft {number} was dropped: {field}: {first['msg']}."
    draft = _draft(said, brief, recipe, source)
    name = f"Draft {number} ({draft.title!r})"
    if problems := problems_with(draft, recipe, brief.files):
        return None, f"{name} was dropped: {'; '.join(problems)}."
    if (precedent := answered_by(draft, brief.precedents, brief.files)) is not None:
        return None, f"{name} was dropped: proposal {precedent.number} made the same change."
    if any(_same(draft, other) for other in earlier):
        return None, f"{name} was dropped: it stands twice in the same answer."
    unknown = sorted(set(said.precedents) - set(draft.precedents))
    return draft, f"{name} cites proposals that do not exist ({', '.join(map(str, unknown))})." if unknown else ""


def _draft(said: SaidDraft, brief: Brief, recipe: Recipe, source: str) -> Draft:
    known = {p.number for p in brief.precedents}
    return Draft(
        title=said.title,
        hypothesis=said.hypothesis,
        mechanism=said.mechanism,
        refuted_if=said.refuted_if,
        prediction=Prediction(**said.prediction.model_dump()),
        overrides=tuple(_override(o, recipe) for o in said.overrides),
        edits=tuple(Edit(path=e.path, search=e.search, replace=e.replace) for e in said.edits),
        precedents=tuple(dict.fromkeys(n for n in said.precedents if n in known)),
        source=source,
    )


def _override(said: SaidOverride, recipe: Recipe) -> Override:
    """JSON has one kind of number: 4.0 for a whole-number knob is 4. What is out of bounds is left for the checks."""
    value = said.value
    if not recipe.problems_with({said.key: value}):
        value = recipe.effective({said.key: value})[said.key]
    return Override(key=said.key, value=value, reason=said.reason)


def _same(one: Draft, other: Draft) -> bool:
    return one.edits == other.edits and {o.key: o.value for o in one.overrides} == {
        o.key: o.value for o in other.overrides
    }
