"""What Dana writes in SPEC.toml and on the command line: mistakes are found before anything is started."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner.data.prepare import prepare
from gpu_runner.standalone.plan import refuse_knobs
from gpu_runner.standalone.spec import EXAMPLE, BudgetTable, MachineTable, TrainSpec, as_toml, load_spec
from tests.gpu_runner.by_hand import BUDGET, Place, Refusals
from tests.gpu_runner.training import RECIPE

TORCH = "torch reads 32 bits of it: above, weights would repeat"


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("datasets")).parent


@pytest.fixture
def place(tmp_path: Path, datasets: Path) -> Place:
    return Place(tmp_path, datasets)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusals:
    return Refusals(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("threads = 1", "treads = 1", "machine.treads: no such field; did you mean threads?"),
        ("threads = 1", 'threads = "two"', "machine.threads: must be a whole number of CPU threads"),
        ("threads = 1", "processes = 0", "machine.processes: must be processes on this machine"),
        ('"cpu"', '"tpu"', "machine.device: must be auto, cpu or cuda; not 'tpu'"),
        (BUDGET, "", "budget: name exactly one of seconds, tokens and flops"),
        (BUDGET, f"{BUDGET}\nseconds = 3", "budget: name exactly one of seconds, tokens and flops"),
        (BUDGET, "steps = 7", "budget.steps: no such field; there are seconds, tokens, flops"),
        (BUDGET, "tokens = -1", "budget.tokens: must be tokens to train on, a number above 0; not -1"),
        ('dataset = "stdlib"', "", "dataset: is missing"),
        ('dataset = "stdlib"', 'dataset = "stdlyb"', "did you mean stdlib?"),
        ('recipe = "gpt"', 'recipe = "gtp"', "name a shipped recipe (gpt) or a folder"),
        ("depth = 2", "depht = 2", "overrides.depht: gpt's recipe.toml declares no such knob; did you mean depth?"),
        ("depth = 2", "depth = 99", "overrides.depth: 99 is above its upper bound 32"),
        ("depth = 2", "depth = [2]", "overrides.depth: must be a number, true, false or a text"),
        ("depth = 2", "depth = ", "is not TOML"),
        *(
            (
                '"stdlib"',
                f'"stdlib"\nseed = {seed}',
                f"seed: must be a whole number from 0 to 4294967295 ({TORCH}); not",
            )
            for seed in ("-1", "1.5", "true", '"1"', 2**32, 2**63 - 1)
        ),
    ],
)
def test_a_mistake_in_the_spec_is_one_sentence_that_names_the_field_and_the_way_out(
    place: Place,
    refused: Refusals,
    old: str,
    new: str,
    said: str,
) -> None:
    spec = place.spec()
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new))
    assert said in refused(place, "tiny.toml")
    assert not (place.folder / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "depht=2"), "did you mean depth?"),
        (("--set", "depth"), "--set: 'depth' is not of the form knob=value"),
        (("--set", "activation=tanh"), "overrides.activation: 'tanh' is not one of relu2, gelu"),
        (
            ("--seed", "-1"),
            f"--seed: must be a whole number from 0 to 4294967295 ({TORCH}); not -1",
        ),
        (("--seed", str(2**32)), "--seed: must be a whole number from 0 to 4294967295"),
        (("--seed", str(2**64)), "--seed: must be a whole number from 0 to 4294967295"),
        (("--out", "."), "holds something else than a run"),
    ],
)
def test_so_is_one_on_the_command_line(
    place: Place,
    refused: Refusals,
    words: tuple[str, ...],
    said: str,
) -> None:
    place.spec()
    assert said in refused(place, "tiny.toml", *words)
    assert not (place.folder / "runs").exists()


def test_a_spec_that_is_not_there_is_answered_with_one_to_copy(place: Place, refused: Refusals) -> None:
    assert str(EXAMPLE) in refused(place, "nowhere.toml")


def test_a_recipe_folder_that_is_somebodys_home_is_not_copied(place: Place, refused: Refusals) -> None:
    place.recipe("mine", "pass")
    with open(place.folder / "mine" / "holiday.mp4", "wb") as film:
        film.truncate(1 << 30)
    place.spec(recipe="mine")
    assert "more than 16 MiB" in refused(place, "tiny.toml")
    assert not list((place.folder / "runs").iterdir()), "nothing half-made stays behind"


# --- the example, and what is kept -------------------------------------------------------------------


def test_the_example_is_a_spec_whose_knobs_exist_and_that_names_every_field() -> None:
    spec = load_spec(EXAMPLE)
    refuse_knobs(RECIPE, spec.overrides)
    text = EXAMPLE.read_text()
    for table in (TrainSpec, BudgetTable, MachineTable):
        for name in table.model_fields:
            assert re.search(rf"^(# )?\[?{name}\b", text, re.M), name
    defaults = MachineTable().model_dump(exclude_none=True)
    assert spec.machine.model_dump(exclude_none=True) == defaults, "its comments call them defaults"


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
knob_values = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | texts


@given(recipe=texts, overrides=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), knob_values))
def test_a_kept_spec_reads_back_as_it_was(
    recipe: str, overrides: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = TrainSpec(recipe=recipe, dataset="stdlib", budget=BudgetTable(flops=1e17), overrides=overrides)
    path = tmp_path_factory.getbasetemp() / "kept.toml"
    path.write_bytes(as_toml(spec).encode())
    assert load_spec(path) == spec
