"""What crosses the border is parsed strictly, and signed over every field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_runner import contract
from tests import builders

SHIPPED = contract.parse_recipe(
    (Path(contract.__file__).parents[1] / "recipes" / "gpt" / "recipe.toml").read_text(encoding="utf-8")
)
APPROVAL: dict[str, Any] = {
    "base_commit": "a" * 40,
    "patch": "--- a/train.py\n",
    "overrides": {"depth": 4},
    "budget": {"kind": "tokens", "amount": 700_000.0},
    "seeds": {"min_pairs": 3, "max_pairs": 6, "alpha": 0.05, "min_effect_bpb": 0.005},
    "dataset_sha256": "d" * 64,
    "scorer_version": "1",
    "lock_sha256": "e" * 64,
    "sandbox_level": "bubblewrap",
    "gate_version": "1",
    "environment_sha256": "",
}
CHANGED: dict[str, Any] = {
    "base_commit": "b" * 40,
    "patch": "--- a/train.py",
    "overrides": {"depth": 5},
    "budget": {"kind": "seconds", "amount": 700_000.0},
    "seeds": {"min_pairs": 2, "max_pairs": 6, "alpha": 0.05, "min_effect_bpb": 0.005},
    "dataset_sha256": "c" * 64,
    "scorer_version": "2",
    "lock_sha256": "f" * 64,
    "sandbox_level": "none",
    "gate_version": "2",
    "environment_sha256": "a" * 64,
}
# Written down once: both sides, and every later version, have to take the same digest of the same approval.
GOLDEN = "681b0df8627f892d7b8403faf7fa24142e2a3fa4f3d4ea63619576bb2dbd5b8b"


def test_the_digest_of_an_approval_stays_what_it_is() -> None:
    assert contract.Approval.model_validate(APPROVAL).digest() == GOLDEN


@pytest.mark.parametrize("field", sorted(APPROVAL))
def test_changing_any_field_changes_what_was_signed(field: str) -> None:
    assert contract.Approval.model_validate(APPROVAL | {field: CHANGED[field]}).digest() != GOLDEN


def test_every_field_of_an_approval_is_in_the_test_above() -> None:
    assert set(contract.Approval.model_fields) == set(APPROVAL) == set(CHANGED)


KNOB_VALUES = (
    st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.text(max_size=8)
)


@given(
    st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True), KNOB_VALUES, max_size=5), st.text(max_size=200)
)
def test_the_digest_survives_the_wire(overrides: contract.Knobs, patch: str) -> None:
    signed = contract.Approval.model_validate(APPROVAL | {"overrides": overrides, "patch": patch})
    assert contract.parse(contract.Approval, signed.model_dump_json().encode()).digest() == signed.digest()


@pytest.mark.parametrize(
    ("value", "given_back"),  # by PostgreSQL's jsonb, seen
    [
        (-0.0, 0.0),
        (1e16, 10**16),
        (1e22, 10**22),
        (12345678901234567.0, 12345678901234568),
        (1e-7, 1e-7),
        (100.0, 100.0),
    ],
)
def test_what_bob_signs_is_the_same_when_a_database_gives_it_back(
    value: contract.KnobValue, given_back: contract.KnobValue
) -> None:
    signed = contract.Approval.model_validate(APPROVAL | {"overrides": {"rotary_base": value}})
    kept = contract.Approval.model_validate(APPROVAL | {"overrides": {"rotary_base": given_back}})
    assert signed.digest() == kept.digest()
    assert signed.overrides == {"rotary_base": value}


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), (2**53, 2**53 + 1), ("1", 1)])
def test_values_that_python_or_a_browser_take_for_equal_are_signed_apart(
    one: contract.KnobValue, other: contract.KnobValue
) -> None:
    digests = {contract.Approval.model_validate(APPROVAL | {"overrides": {"k": v}}).digest() for v in (one, other)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("batch_size", True), ("tied_head", 1), ("tied_head", 1.0), ("fp8", True), ("matrix_lr", True), ("depth", "4")],
)
def test_a_value_that_python_takes_for_an_allowed_one_is_still_refused(key: str, value: contract.KnobValue) -> None:
    (problem,) = SHIPPED.problems_with({key: value})
    assert problem.startswith(f"{key}: ")


REPORT = {"fence": 1, "seq": 1, "phase": "training"}


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"fence": "1"}, "fence"),
        ({"seq": 0}, "seq"),
        ({"phase": "sleeping"}, "phase"),
        ({"surprise": 1}, "surprise"),
        ({"points": {"step": [1], "tokens": [1, 2], "elapsed_s": [0.1], "metrics": {}}}, "tokens"),
        ({"points": {"step": [1], "tokens": [1], "elapsed_s": [0.1], "metrics": {"Bad Name": [1.0]}}}, "Bad Name"),
        ({"log": [{"at_s": 0.0, "level": "info", "text": "x" * 2_001}]}, "text"),
        ({"started": {"huge": "x" * 30_000}}, "started"),
    ],
)
def test_a_bad_report_is_refused_by_the_name_of_its_field(over: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        contract.parse(contract.Report, json.dumps(REPORT | over).encode())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_no_number_that_is_not_one_gets_through(number: str) -> None:
    points = f'{{"step":[1],"tokens":[1],"elapsed_s":[0.1],"metrics":{{"train_loss":[{number}]}}}}'
    with pytest.raises(ValueError, match="finite"):
        contract.parse(contract.Report, f'{{"fence":1,"seq":1,"phase":"training","points":{points}}}'.encode())


def test_a_finished_run_has_a_score_and_a_failed_one_says_why() -> None:
    with pytest.raises(ValueError, match="score: a finished run has one"):
        contract.RunEnd(fence=1, outcome="finished", device_s=1.0)
    with pytest.raises(ValueError, match="failure: a failed run says why"):
        contract.RunEnd(fence=1, outcome="failed", device_s=1.0)
    with pytest.raises(ValueError, match="val_bpb: missing"):
        builders.make_score(None)


TOML = """
[recipe]
name = "toy"
about = "For tests."
editable = ["train.py"]

[knobs.depth]  # layers
type = "int"
default = 4    # of 26
low = 1
high = 26
help = "Layers."

[knobs.activation]
type = "choice"
default = "relu2"
choices = ["relu2", "gelu"]
help = "Of the MLP."

[knobs.width]
type = "int"
default = 128
low = 32
multiple_of = 32
help = "Channels."
"""


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"depth": 27}, "depth: 27 is above its upper bound 26"),
        ({"depth": 0}, "depth: 0 is below its lower bound 1"),
        ({"depth": 2.5}, "depth: must be a whole number"),
        ({"depth": True}, "depth: must be a number"),
        ({"depth": float("nan")}, "depth: must be finite"),
        ({"depth": 10**400}, "depth: is larger than any number here"),
        ({"depth": -(10**400)}, "depth: is larger than any number here"),
        ({"activation": "silu"}, "'silu' is not one of relu2, gelu"),
        ({"width": 100}, "width: 100 is not a multiple of 32"),
        ({"heads": 4}, "heads: not declared in recipe.toml"),
    ],
)
def test_an_override_is_refused_with_its_bound_and_never_clamped(overrides: contract.Knobs, sentence: str) -> None:
    recipe = contract.parse_recipe(TOML)
    assert sentence in recipe.problems_with(overrides)[0]
    with pytest.raises(ValueError, match=overrides.__iter__().__next__()):
        recipe.effective(overrides)


@given(st.integers(1, 26), st.sampled_from(["relu2", "gelu"]))
def test_a_kept_override_becomes_the_default_and_nothing_else_changes(depth: int, activation: str) -> None:
    after = contract.with_defaults(TOML, {"depth": depth, "activation": activation})
    recipe = contract.parse_recipe(after)
    assert recipe.effective({}) == {"depth": depth, "activation": activation, "width": 128}
    assert [a for a in after.splitlines() if not a.startswith("default")] == [
        b for b in TOML.splitlines() if not b.startswith("default")
    ]


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("train.py", True),
        ("a/b.py", True),
        ("../x", False),
        ("/etc/passwd", False),
        ("a/../../x", False),
        ("", False),
        ("a\\b", False),
    ],
)
def test_a_path_stays_in_its_folder(path: str, safe: bool) -> None:
    assert contract.is_safe_path(path) is safe


PLACE = {"row": 3, "position": 9, "cut": 10, "first_nats": 0.1, "again_nats": 4.0, "nats": 3.9}
FOUND = {"num_asked": 256, "num_apart": 20, "tolerance_nats": 1e-4, "largest_nats": 3.9, "places": [PLACE] * 20}


@pytest.mark.parametrize(
    "over",
    [
        {"places": [PLACE] * 21, "num_apart": 21},
        {"places": [PLACE] * 20, "num_apart": 19},
        {"num_apart": 257},
        {"num_asked": 2**40, "num_apart": 20},
        {"places": [PLACE | {"text": "held out"}]},
        {"places": [PLACE | {"row": -1}]},
        {"places": [PLACE | {"nats": "much"}]},
        {"largest_nats": float("inf")},
    ],
)
def test_evidence_is_bounded_and_holds_numbers_only(over: dict[str, Any]) -> None:
    assert len(contract.Evidence.model_validate(FOUND).places) == 20
    with pytest.raises(ValueError, match="Evidence"):
        contract.Evidence.model_validate(FOUND | over)
