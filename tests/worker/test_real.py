"""The real recipe, harness, sandbox and scorer, as a worker runs them: small, but nothing is played."""

from __future__ import annotations

import shutil
from pathlib import Path

from gpu_runner import contract
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.data.prepare import prepare
from gpu_runner.worker import parts

from .conftest import Bench
from .world import Repository, git, make_lease

RECIPE = Path(parts.__file__).parents[1] / "recipes" / "gpt"


def test_the_real_recipe_is_trained_and_scored_in_the_sandbox(bench: Bench) -> None:
    repository = Repository(bench.folder / "recipe", "")
    shutil.copytree(RECIPE, repository.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    git(repository.folder, "add", "--all")
    git(repository.folder, "commit", "--quiet", "--message=the real recipe")
    bench.web.bundle = repository.bundle()
    dataset = prepare(bench.folder / "home" / "datasets")
    lease = make_lease(
        git(repository.folder, "rev-parse", "HEAD").strip(),
        manifest_sha256(dataset),
        dataset="stdlib",
        purpose="smoke",
        max_steps=3,
        score_tokens=4096,
        splits=("val", "sealed"),
        signed={"budget": contract.Budget(kind="tokens", amount=700_000.0)},
    )
    end = bench.run(lease, harness=parts.HARNESS, scorer=parts.SCORER)
    web = bench.web
    assert end is not None
    assert (end.outcome, end.failure) == ("finished", None), web.log()
    assert end.score is not None
    assert end.score.outcome == "ok", end.score.reasons
    assert end.score.val_bpb is not None
    assert 0 < end.score.val_bpb < 9
    assert end.score.sealed_bpb is not None
    assert 0 < end.score.sealed_bpb < 9
    assert end.score.sealed_bpb != end.score.val_bpb
    assert end.score.provenance["sealed_parameters_sha256"] == end.score.provenance["parameters_sha256"]
    assert end.score.provenance["num_challenges"] == 4096 // 256, "all of its rows, by one process"
    assert end.num_steps == 3
    assert len(web.steps()) >= 3
    losses = [loss for loss in web.column("train_loss") if loss is not None]
    assert len(losses) >= 3
    assert 0 < min(losses) <= max(losses) < 9
    (started,) = [report.started for report in web.reports if report.started]
    assert started["num_params"] > 0
    assert started["knobs"]
