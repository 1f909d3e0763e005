"""alice has no key: the offline proposer fills her queue from a catalogue that fits the recipe as shipped."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_runner.contract import parse_recipe, with_defaults
from research.arms.offline.catalogue import Entry, Plus, Times, catalogue, values_of
from research.arms.offline.proposer import OfflineProposer
from research.change import places
from research.change.drafts import Brief, Draft, Edit, Override, Precedent, Prediction
from research.change.patches import apply_edits, problems_with, to_patch

SHIPPED = Path(__file__).parents[2] / "gpu_runner" / "recipes" / "gpt"
FILES = {name: (SHIPPED / name).read_text(encoding="utf-8") for name in ("recipe.toml", "train.py")}
RECIPE = parse_recipe(FILES["recipe.toml"])
ENTRIES = {e.slug: e for e in catalogue()}


def make_brief(files: dict[str, str] = FILES, **over: Any) -> Brief:
    base: dict[str, Any] = {
        "campaign": "first",
        "goal": "",
        "program": "",
        "recipe_toml": files["recipe.toml"],
        "files": files,
        "incumbent_bpb": 1.5,
        "noise_sd_bpb": None,
        "min_effect_bpb": 0.005,
        "run_budget": "",
        "hardware": "cpu",
        "budget_left": "",
        "precedents": (),
        "num_wanted": 3,
        "seed": 1,
    }
    return Brief(**(base | over))


def as_precedent(draft: Draft, files: dict[str, str] = FILES, **over: Any) -> Precedent:
    base: dict[str, Any] = {
        "number": 1,
        "title": draft.title,
        "state": "judged",
        "outcome": "discard",
        "reason": "",
        "effect_bpb": None,
        "low_bpb": None,
        "high_bpb": None,
        "overrides": draft.overrides,
        "patch": to_patch(files, draft.edits),
        "source": draft.source,
        "on_incumbent": True,
    }
    return Precedent(**(base | over))


def slug(draft: Draft) -> str:
    return draft.source.removeprefix("catalogue:").partition(";")[0]


def keys(draft: Draft) -> set[str]:
    return {o.key for o in draft.overrides}


def edits_of(entry: Entry) -> list[Edit]:
    return [Edit(path=e.path, search=e.search, replace=e.replace) for e in entry.edits]


# --- the catalogue against the recipe as shipped ------------------------------------------------------


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_applies_to_the_shipped_recipe(name: str) -> None:
    entry = ENTRIES[name]
    values = values_of(entry, RECIPE)
    assert values is not None, "not applicable, out of bounds, or already the default"
    assert values or entry.edits
    assert RECIPE.problems_with(values) == []
    ast.parse(apply_edits(FILES, edits_of(entry))["train.py"])


@pytest.mark.parametrize("name", [e.slug for e in catalogue() if e.edits])
def test_an_entry_that_was_kept_no_longer_applies(name: str) -> None:
    kept = apply_edits(FILES, edits_of(ENTRIES[name]))
    with pytest.raises(ValueError, match="exactly once"):
        apply_edits(kept, edits_of(ENTRIES[name]))


@pytest.mark.parametrize("entry", catalogue(), ids=lambda e: e.slug)
def test_an_entry_that_changes_more_than_one_thing_says_why(entry: Entry) -> None:
    things = [*entry.set, *places.places(edits_of(entry), FILES)]
    assert bool(entry.why_together) == (len(things) > 1), things


def test_the_catalogue_is_broad_and_names_its_sources() -> None:
    assert len(ENTRIES) >= 35
    assert sum(1 for e in ENTRIES.values() if e.edits) >= 8
    assert len({e.area for e in ENTRIES.values()}) >= 8
    assert all(len(e.evidence) > 10 and e.hypothesis != e.mechanism for e in ENTRIES.values())
    relative = [e for e in ENTRIES.values() if any(isinstance(v, Times | Plus) for v in e.set.values())]
    assert len(relative) >= 12, "a catalogue of fixed values is spent after the first keeps"


# --- what alice gets ----------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_a_wave_is_ready_to_run_on_different_knobs_and_repeats_under_its_seed(seed: int) -> None:
    answer = OfflineProposer().draft(make_brief(num_wanted=6, seed=seed))
    assert (len(answer.drafts), answer.usages, answer.problem) == (6, (), "")
    assert all(problems_with(d, RECIPE, FILES) == [] for d in answer.drafts)
    assert len({slug(d) for d in answer.drafts}) == 6
    touched = [key for d in answer.drafts for key in keys(d)]
    assert len(touched) == len(set(touched))
    assert OfflineProposer().draft(make_brief(num_wanted=6, seed=seed)) == answer


def test_different_seeds_give_different_waves() -> None:
    waves = {tuple(slug(d) for d in OfflineProposer().draft(make_brief(seed=s)).drafts) for s in range(5)}
    assert len(waves) >= 4


def test_no_braces_or_template_marks_reach_the_reviewer() -> None:
    drafts = OfflineProposer().draft(make_brief(num_wanted=len(ENTRIES))).drafts
    texts = [t for d in drafts for t in (d.title, d.hypothesis, d.mechanism, d.refuted_if)]
    assert len(drafts) > 20
    assert all(t and "{" not in t and not t.startswith((" ", "\n")) for t in texts)
    assert all("not a calculation" in d.mechanism for d in drafts)


def test_what_was_tried_on_this_incumbent_is_not_offered_again_until_nothing_is_left() -> None:
    precedents: list[Precedent] = []
    seen: set[str] = set()
    while True:
        answer = OfflineProposer().draft(make_brief(precedents=tuple(precedents), num_wanted=8, seed=len(precedents)))
        fresh = {slug(d) for d in answer.drafts if d.source.startswith("catalogue:")}
        assert not fresh & seen
        if not fresh:
            break
        seen |= fresh
        precedents += [as_precedent(d, number=len(precedents) + i) for i, d in enumerate(answer.drafts)]
    assert seen == set(ENTRIES)
    assert answer.drafts, "then come random steps"
    assert all(
        d.title.startswith("Random step: ") and "drawn at random" in d.overrides[0].reason for d in answer.drafts
    )
    assert all(problems_with(d, RECIPE, FILES) == [] for d in answer.drafts)


def test_what_bob_rejected_or_has_waiting_stays_away_though_the_incumbent_moved() -> None:
    wave = OfflineProposer().draft(make_brief(num_wanted=len(ENTRIES))).drafts
    for state in ("rejected", "pending_review"):
        told = tuple(
            as_precedent(d, number=i, state=state, outcome=None, on_incumbent=False) for i, d in enumerate(wave)
        )
        again = OfflineProposer().draft(make_brief(precedents=told, num_wanted=60)).drafts
        assert not {slug(d) for d in again if d.source.startswith("catalogue:")} & {slug(d) for d in wave}


def test_no_knob_of_a_waiting_proposal_is_turned_by_another() -> None:
    [waiting] = OfflineProposer().draft(make_brief(num_wanted=1, seed=3)).drafts
    told = (as_precedent(waiting, state="pending_review", outcome=None),)
    more = OfflineProposer().draft(make_brief(precedents=told, num_wanted=60)).drafts
    assert keys(waiting)
    assert all(not keys(d) & keys(waiting) for d in more)


def test_what_was_discarded_on_an_earlier_incumbent_may_come_back_and_cites_it() -> None:
    wave = OfflineProposer().draft(make_brief(num_wanted=12)).drafts
    told = tuple(as_precedent(d, number=100 + i, on_incumbent=False) for i, d in enumerate(wave))
    again = OfflineProposer().draft(make_brief(precedents=told, num_wanted=60)).drafts
    cited = {slug(d): d.precedents for d in again}
    assert all(cited[slug(d)] == (100 + i,) for i, d in enumerate(wave) if slug(d) in cited)
    assert any(cited.values())


def test_after_a_keep_relative_values_start_from_the_new_incumbent_and_never_leave_their_bounds() -> None:
    entry, text = ENTRIES["half-batch"], FILES["recipe.toml"]
    knob = RECIPE.knob("batch_size")
    assert knob is not None
    sizes = [knob.default]
    while (values := values_of(entry, parse_recipe(text))) is not None:
        sizes.append(values["batch_size"])
        text = with_defaults(text, values)
    assert sizes == [sizes[0] // 2**i for i in range(len(sizes))]
    assert sizes[-1] == 1


def test_the_interval_grows_with_the_measured_noise() -> None:
    quiet, noisy = (
        OfflineProposer().draft(make_brief(num_wanted=1, noise_sd_bpb=sd)).drafts[0].prediction for sd in (None, 0.1)
    )
    assert noisy.effect_bpb == quiet.effect_bpb
    assert noisy.low_bpb < quiet.low_bpb < quiet.high_bpb < noisy.high_bpb


def test_a_recipe_without_numbers_left_is_a_sentence_not_an_empty_wave() -> None:
    bare = {"recipe.toml": '[recipe]\nname = "x"\nabout = ""\neditable = ["train.py"]\n', "train.py": "pass\n"}
    answer = OfflineProposer().draft(make_brief(bare))
    assert answer.drafts == ()
    assert answer.problem == "The offline catalogue is exhausted on this incumbent, and so are random steps."


# --- bob sends one back -------------------------------------------------------------------------------


def make_draft(*overrides: Override, edits: tuple[Edit, ...] = ()) -> Draft:
    said = Prediction(effect_bpb=-0.02, low_bpb=-0.06, high_bpb=-0.015, chance_to_win=0.5)
    return Draft(
        title="T", hypothesis="H", mechanism="m", refuted_if="r", prediction=said, overrides=overrides, edits=edits
    )


def test_bob_gets_a_milder_variant_that_says_why_it_is_one() -> None:
    before = make_draft(Override(key="matrix_lr", value=0.12, reason=""), Override(key="depth", value=8, reason=""))
    [milder] = OfflineProposer().revise(make_brief(), before, "too far").drafts
    assert {o.key: o.value for o in milder.overrides} == {"matrix_lr": 0.06, "depth": 5}
    assert milder.hypothesis.startswith("This proposer cannot read the comment")
    assert problems_with(milder, RECIPE, FILES) == []
    [again] = OfflineProposer().revise(make_brief(), milder, "still too far").drafts
    assert {o.key: o.value for o in again.overrides} == {"matrix_lr": 0.0424, "depth": 4}
    assert again.title == "Milder: T"
    assert again.hypothesis.count("cannot read") == 1


@pytest.mark.parametrize(
    "before",
    [
        make_draft(Override(key="qk_norm", value=False, reason="")),
        make_draft(Override(key="activation", value="gelu", reason="")),
        make_draft(Override(key="depth", value=3, reason="")),  # nothing between 2 and 3
        make_draft(edits=(Edit(path="train.py", search="import math\n", replace="import  math\n"),)),
    ],
)
def test_bob_is_told_when_there_is_nothing_to_soften(before: Draft) -> None:
    answer = OfflineProposer().revise(make_brief(), before, "milder please")
    assert answer.drafts == ()
    assert "cannot read comments" in answer.problem


def test_bob_is_told_when_the_milder_variant_was_tried() -> None:
    tried = as_precedent(make_draft(Override(key="matrix_lr", value=0.06, reason="")), number=12)
    before = make_draft(Override(key="matrix_lr", value=0.12, reason=""))
    answer = OfflineProposer().revise(make_brief(precedents=(tried,)), before, "milder")
    assert answer.problem == "The milder variant is the change of proposal 12."
    elsewhere = dataclasses.replace(tried, on_incumbent=False)
    assert OfflineProposer().revise(make_brief(precedents=(elsewhere,)), before, "milder").drafts
