"""The form of Claude's answer: a schema to send, and models to validate the answer with. Pure.

The API enforces the shape of the schema but neither bounds nor lengths, so all of that is checked here, one draft at a
time: a bad one is dropped with its reason and does not take the good ones with it. Whether a draft repeats an earlier
proposal is for ``research.propose.repeats``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gpu_runner.contract import Recipe, parse_recipe
from research import levels
from research.change import places
from research.change.drafts import Brief, Draft, Edit, ExpectedCost, Origin, Override, Prediction, Return
from research.change.patches import problems_with
from research.change.visible import readable

MAX_PARAGRAPH = 4_000
# A reviewer reads these: what could hide in them is made visible.
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=160), AfterValidator(readable)]
Perhaps = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_PARAGRAPH), AfterValidator(readable)]
Paragraph = Annotated[Perhaps, StringConstraints(min_length=1)]
Code = Annotated[str, StringConstraints(max_length=40_000)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SaidPrediction(_Said):
    effect_bpb: float = Field(ge=-10, le=10, description="Mean effect on bits per byte; negative is better.")
    low_bpb: float = Field(ge=-10, le=10, description=f"Lower end of the {levels.STATED_INTERVAL} of the effect.")
    high_bpb: float = Field(ge=-10, le=10, description=f"Upper end of the {levels.STATED_INTERVAL} of the effect.")
    chance_to_win: float = Field(ge=0, le=1, description="Probability of the verdict keep, 0 to 1.")


class SaidCost(_Said):
    """The smoke run measures both, and the reviewer sees them side by side."""

    time_factor: float = Field(ge=0.01, le=100, description="Seconds for the same tokens, relative to the incumbent.")
    memory_factor: float = Field(ge=0.01, le=100, description="Peak memory, relative to the incumbent.")


class SaidOverride(_Said):
    key: str = Field(max_length=40)
    value: int | float | bool | str
    reason: Paragraph


class SaidEdit(_Said):
    path: str = Field(max_length=300)
    search: Code = Field(description="Copied verbatim from the file; must occur exactly once in it.")
    replace: Code


class SaidReturn(_Said):
    proposal: int = Field(description="Number of the proposal that a person rejected.")
    difference: Paragraph = Field(description="What is different now; the reviewer reads it beside the rejection.")


class SaidDraft(_Said):
    title: Title = Field(description="What changes, in at most 80 characters.")
    hypothesis: Paragraph
    mechanism: Paragraph
    refuted_if: Paragraph = Field(description="The observation that would show the hypothesis to be wrong.")
    prediction: SaidPrediction
    risk: Literal["contained", "may_diverge", "heavier", "numerics"] = Field(
        description="What a reviewer should think of first; the rules say what each means."
    )
    cost: SaidCost
    overrides: list[SaidOverride] = Field(max_length=12)
    edits: list[SaidEdit] = Field(max_length=40)
    why_together: Perhaps = Field(
        description="Why more than one thing changes at once; empty when only one override, or one place in code, does."
    )
    what_changed: SaidReturn | None = Field(
        description="Only for an idea that a person rejected before; null for any other."
    )
    precedents: list[int] = Field(max_length=40, description="Numbers of the ledger's proposals this builds on.")


class SaidDrafts(_Said):
    design: str = Field(
        description="One paragraph: what the drafts are to find out together, and how they differ from each other."
    )
    drafts: list[SaidDraft]


@cache
def schema() -> dict[str, Any]:
    """The schema to send. Imports the SDK, which takes longer than all of Django."""
    from anthropic import transform_schema

    return transform_schema(SaidDrafts)


@dataclass(frozen=True, kw_only=True)
class Read:
    """The valid drafts, and why the others were dropped: one sentence each, "" when none was."""

    drafts: tuple[Draft, ...] = ()
    design: str = ""
    problem: str = ""


def read(text: str, brief: Brief, origin: Origin, num_wanted: int) -> Read:
    """Parse and validate an answer. Never raises; what is wrong with it is in ``problem``."""
    try:
        said = json.loads(text, strict=False)  # a raw tab in a text costs nobody the answer
    except (ValueError, RecursionError):
        return Read(problem="Claude's answer is not JSON.")
    if not _is_in_shape(said):
        sentence = "Claude's answer does not follow the schema: it should be an object with a design and a list drafts."
        return Read(problem=sentence)
    recipe = parse_recipe(brief.recipe_toml)
    drafts: list[Draft] = []
    remarks: list[str] = []
    for number, body in enumerate(said["drafts"][:num_wanted], start=1):
        draft, remark = _one(body, number, brief, recipe, origin)
        drafts += [draft] if draft is not None else []
        remarks += [remark] if remark else []
    if (num_more := len(said["drafts"]) - num_wanted) > 0:
        remarks.append(f"It held {num_more:,} more than were asked for; they were left out.")
    problem = " ".join(remarks) or ("" if drafts else "Claude proposed nothing this time.")
    return Read(drafts=tuple(drafts), design=readable(said["design"].strip())[:MAX_PARAGRAPH], problem=problem)


def _is_in_shape(said: object) -> bool:
    return (
        isinstance(said, dict)
        and set(said) == {"design", "drafts"}
        and isinstance(said["design"], str)
        and isinstance(said["drafts"], list)
    )


def _one(body: object, number: int, brief: Brief, recipe: Recipe, origin: Origin) -> tuple[Draft | None, str]:
    try:
        said = SaidDraft.model_validate_json(json.dumps(body))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        return None, f"Draft {number} was dropped: {field}: {first['msg']}."
    draft = _draft(said, brief, recipe, origin)
    name = f"Draft {number} ({draft.title!r})"
    if problems := problems_with(draft, recipe, brief.files):
        return None, f"{name} was dropped: {'; '.join(problems)}."
    things = places.changed(draft, brief.files)
    if len(things) > 1 and not draft.why_together:
        return None, (
            f"{name} was dropped: it changes {len(things)} things at once ({', '.join(things)}) and does not say why."
        )
    return draft, _remarks(said, draft, name)


def _remarks(said: SaidDraft, draft: Draft, name: str) -> str:
    """What was left out of a valid draft."""
    remarks = []
    if unknown := sorted(set(said.precedents) - set(draft.precedents)):
        remarks.append(f"{name} cites proposals that do not exist ({', '.join(map(str, unknown))}).")
    if said.what_changed is not None and draft.returns is None:
        remarks.append(f"{name} takes up proposal {said.what_changed.proposal}, which nobody rejected.")
    return " ".join(remarks)


def _draft(said: SaidDraft, brief: Brief, recipe: Recipe, origin: Origin) -> Draft:
    known = {p.number for p in brief.precedents}
    return Draft(
        title=said.title,
        hypothesis=said.hypothesis,
        mechanism=said.mechanism,
        refuted_if=said.refuted_if,
        prediction=Prediction(**said.prediction.model_dump()),
        risk=said.risk,
        cost=ExpectedCost(**said.cost.model_dump()),
        overrides=tuple(_override(o, recipe) for o in said.overrides),
        edits=tuple(Edit(path=e.path, search=e.search, replace=e.replace) for e in said.edits),
        why_together=said.why_together,
        returns=_return(said.what_changed, brief),
        precedents=tuple(dict.fromkeys(n for n in said.precedents if n in known)),
        source=origin.model,
        origin=origin,
    )


def _override(said: SaidOverride, recipe: Recipe) -> Override:
    """A whole-number knob given as 4.0 is 4: JSON has one kind of number. Bounds are checked later."""
    value = said.value
    if not recipe.problems_with({said.key: value}):
        value = recipe.effective({said.key: value})[said.key]
    return Override(key=said.key, value=value, reason=said.reason)


def _return(said: SaidReturn | None, brief: Brief) -> Return | None:
    """The Return, if it names a proposal that a person rejected; else None."""
    rejected = {p.number for p in brief.precedents if p.state == "rejected"}
    if said is None or said.proposal not in rejected:
        return None
    return Return(proposal=said.proposal, what_changed=said.difference)


def one(body: bytes, brief: Brief, source: str) -> Draft:
    """One draft from an agent, validated as Claude's are: an object, without ``drafts`` around it.

    Raises ValidationError, or ValueError with every problem in a sentence.
    """
    said = SaidDraft.model_validate_json(body)
    recipe = parse_recipe(brief.recipe_toml)
    named = Origin(model=source, prompt_sha256="", templates_sha256="")
    draft = replace(_draft(said, brief, recipe, named), origin=None)  # nobody knows what it was asked
    problems = problems_with(draft, recipe, brief.files)
    if not problems and not draft.why_together and len(things := places.changed(draft, brief.files)) > 1:
        problems.append(f"why_together: say why {', '.join(things)} change at once")
    if said.what_changed is not None and draft.returns is None:
        problems.append(f"what_changed: nobody rejected proposal {said.what_changed.proposal}")
    if unknown := sorted(set(said.precedents) - set(draft.precedents)):
        problems.append(f"precedents: this campaign has no proposal {', '.join(map(str, unknown))}")
    if any("\0" in text for text in _texts(said.model_dump())):
        problems.append("a text holds the character NUL, which no file of a recipe does")
    if problems:
        raise ValueError("; ".join(problems))
    return draft


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
