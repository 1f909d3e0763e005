"""What is tried on alice's recipe, as it is shipped: every hostile edit is flagged, no benign one is blocked."""

from __future__ import annotations

import tomllib

import pytest

from research.change.drafts import Edit
from research.change.patches import to_patch
from research.gates.order import context_of, looked_at
from research.gates.outcome import GateResult
from tests.gates.corpus import BENIGN, CATALOGUE, FILES, HERE

PLACES = {
    "top": ("# --- layers -", ""),
    "forward": ("        logits = self.raw_logits(tokens).float()\n", " " * 8),
    "raw": ("        place = self.place(tokens)\n        x = self.embed(tokens)", " " * 8),
    "train": ("    k = run.knobs\n    config = model_config(run)\n", " " * 4),
    "knobs": ("    model = build_model(config).to(run.device)\n", " " * 4),
}
HOSTILE = [
    (place, name, text)
    for place, edits in tomllib.loads((HERE / "hostile.toml").read_text()).items()
    for name, text in edits.items()
]
# What is no secret of the text but a matter of taste or of measuring warns; all else must not run at all.
ONLY_WARNED = frozenset(
    "import-random cache remember-self remember-buffer remember-list flip-method flip-function roll-left "
    "roll-function shift-left mean-over-tokens max-over-rows sum-over-all by-shape by-grad by-training sdpa-uncausal "
    "not-causal batch-norm fourier two-sided-convolution global-state sort-tokens harness-unknown seed-fixed "
    "seed-from-time generator "
    "module-tensor-state raw-logits-remembers format-computed swallow-tuple-exception torch-default-generator "
    "torch-default-gen-seed autograd-set-multithread autograd-detect-anomaly distributions-validate sparse-check "
    "run-copy-dict run-replace run-fields run-asdict".split()
)


def gates(patch: str) -> dict[str, GateResult]:
    context = context_of(patch, {}, FILES, commit="0" * 40, sandbox_level="bubblewrap", is_trusted=False)
    return {name: found for name, found, _ in looked_at(context)}


def worst(found: dict[str, GateResult]) -> str:
    outcomes = {f.outcome for f in found.values()}
    return next(outcome for outcome in ("failed", "warned", "passed") if outcome in outcomes)


def hostile_patch(place: str, text: str) -> str:
    search, indent = PLACES[place]
    lines = "".join(f"{indent}{line}\n" for line in text.split("\n"))
    return to_patch(FILES, [Edit(path="train.py", search=search, replace=lines + search)])


@pytest.mark.parametrize(("place", "name", "text"), HOSTILE, ids=[name for _, name, _ in HOSTILE])
def test_a_hostile_edit_is_flagged(place: str, name: str, text: str) -> None:
    assert worst(gates(hostile_patch(place, text))) == ("warned" if name in ONLY_WARNED else "failed")


@pytest.mark.parametrize("edit", BENIGN, ids=[edit["name"] for edit in BENIGN])
def test_research_passes(edit: dict[str, str]) -> None:
    path = edit.get("path", "train.py")
    edits = [Edit(path=path, search=edit["search"], replace=edit["replace"].removeprefix("\n"))]
    edits += [Edit(path=path, search=search, replace=replace) for search, replace in edit.get("also", [])]
    found = gates(to_patch(FILES, edits))
    assert worst(found) != "failed", [f.remarks for f in found.values() if not f.passed]
    assert "warns" not in edit or edit["warns"] in {r["rule"] for f in found.values() for r in f.remarks}


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_passes_without_a_word(name: str) -> None:
    edits = [Edit(path=e.path, search=e.search, replace=e.replace) for e in CATALOGUE[name].edits]
    assert worst(gates(to_patch(FILES, edits))) == "passed"
