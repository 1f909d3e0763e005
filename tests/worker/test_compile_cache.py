"""What the shipped recipe compiled serves the runs that follow; what proposed code left behind serves nobody."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gpu_runner import sandbox
from gpu_runner.machine import hardware
from gpu_runner.sandbox import cgroups
from gpu_runner.worker import compile_cache, serve
from gpu_runner.worker.compile_cache import FOLDER, CompileCache
from research.record import repository
from tests.builders import make_campaign

from .conftest import Bench
from .test_launch import GOOD
from .world import Repository, make_dataset, make_lease

COMPILE = """
found = sorted(os.listdir(OUT + "/compile-cache")) if os.path.isdir(OUT + "/compile-cache") else []
print("FOUND", *found)
os.makedirs(OUT + "/compile-cache/ab", exist_ok=True)
tell("compile-cache/ab/kernel.so", "compiled by " + WHO)
"""
OURS = "WHO = 'us'\n" + COMPILE + GOOD


@pytest.fixture
def kernels(bench: Bench) -> CompileCache:
    return CompileCache(bench.folder / "home" / "compile-cache", lock_sha256="1" * 64)


@pytest.fixture
def shipped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Alice's repository holds what this worker ships, with other numbers in recipe.toml."""
    repository = bench.recipe(OURS)
    folder = bench.folder / "shipped" / "tiny"
    folder.mkdir(parents=True)
    shutil.copy(repository.folder / "train.py", folder)
    (folder / "recipe.toml").write_text("[recipe]\n")
    monkeypatch.setattr(compile_cache, "RECIPES", folder.parent)
    return repository


def run(bench: Bench, repository: Repository, kernels: CompileCache, *, fence: int, **over: str) -> list[str]:
    """What the run found in its cache when it began."""
    sha256 = make_dataset(bench.folder / "home" / "datasets")
    lease = make_lease(repository.commit, sha256, fence=fence, next_seq=len(bench.web.reports) + 1, **over)
    end = bench.run(lease, kernels=kernels)
    assert end is not None
    assert end.outcome == "finished", end.failure
    said = [line for line in bench.web.log() if line.startswith("FOUND")]
    return said[-1].split()[1:]


def kept(kernels: CompileCache) -> dict[str, str]:
    return {
        path.relative_to(kernels.home).as_posix(): path.read_text()
        for path in kernels.home.rglob("*")
        if path.is_file()
    }


def test_the_second_run_of_the_shipped_recipe_finds_what_the_first_compiled(
    bench: Bench, shipped: Repository, kernels: CompileCache
) -> None:
    assert run(bench, shipped, kernels, fence=1) == []
    assert kept(kernels) == {"ab/kernel.so": "compiled by us"}
    assert run(bench, shipped, kernels, fence=2) == ["ab"]


def test_charlies_code_finds_a_copy_and_what_it_does_to_it_reaches_nobody(
    bench: Bench, shipped: Repository, kernels: CompileCache
) -> None:
    run(bench, shipped, kernels, fence=1)
    mine = (shipped.folder / "train.py").read_text().replace("WHO = 'us'", "WHO = 'charlie'")
    patch = shipped.patch({"train.py": mine + 'tell("compile-cache/more", "charlie\'s, too")\n'})
    assert run(bench, shipped, kernels, fence=2, patch=patch) == ["ab"]
    assert kept(kernels) == {"ab/kernel.so": "compiled by us"}


def test_a_file_beside_the_shipped_ones_makes_a_recipe_somebody_elses(
    bench: Bench, shipped: Repository, kernels: CompileCache
) -> None:
    """It could be imported under the name of one of Python's own modules."""
    run(bench, shipped, kernels, fence=1, patch=shipped.patch({"random.py": ""}))
    assert not kernels.home.exists()


def test_a_fresh_campaigns_recipe_is_the_shipped_one(db: None, tmp_path: Path) -> None:
    campaign = make_campaign()
    files = repository.files_at(campaign, campaign.incumbent.commit)
    for name, text in files.items():
        (tmp_path / "recipe" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "recipe" / name).write_text(text)
    assert compile_cache.is_shipped(tmp_path / "recipe")
    (tmp_path / "recipe" / "train.py").write_text(files["train.py"] + "\n")
    assert not compile_cache.is_shipped(tmp_path / "recipe")


def test_a_link_in_the_place_of_a_shipped_file_is_not_followed(bench: Bench, shipped: Repository) -> None:
    folder = bench.folder / "linked"
    folder.mkdir()
    (folder / "train.py").symlink_to(compile_cache.RECIPES / "tiny" / "train.py")
    assert not compile_cache.is_shipped(folder)
    assert compile_cache.is_shipped(compile_cache.RECIPES / "tiny")


def test_nothing_is_kept_of_a_run_that_failed(bench: Bench, shipped: Repository, kernels: CompileCache) -> None:
    lease = make_lease(shipped.commit, make_dataset(bench.folder / "home" / "datasets"), deadline_s=0.01)
    end = bench.run(lease, kernels=kernels)
    assert end is not None
    assert end.outcome == "timed_out"
    assert not kernels.home.exists()


def test_links_are_not_kept_and_whole_files_are_not_written_over(kernels: CompileCache, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / FOLDER).mkdir(parents=True)
    (out / FOLDER / "link").symlink_to("/etc/passwd")
    (out / FOLDER / "kernel.so").write_text("first")
    recipe = compile_cache.RECIPES / "gpt"
    kernels.keep(recipe, out)
    (out / FOLDER / "kernel.so").write_text("second")
    kernels.keep(recipe, out)
    assert kept(kernels) == {"kernel.so": "first"}


def test_another_driver_or_lock_file_finds_nothing_of_this_one(
    kernels: CompileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = hardware.facts()
    homes = {kernels.home, CompileCache(kernels.root, lock_sha256="2" * 64).home}
    for changed in ({"gpu_driver": "570.1"}, {"gpu": "NVIDIA H200"}, {"torch": "2.99"}):
        monkeypatch.setattr(hardware, "facts", lambda changed=changed: here | changed)
        homes.add(kernels.home)
    assert len(homes) == 5


def test_too_much_is_thrown_away_and_old_machines_leave(
    kernels: CompileCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (out / FOLDER).mkdir(parents=True)
    (out / FOLDER / "kernel.so").write_text("x" * 100)
    for age in range(1, 5):
        old = kernels.root / f"old-{age}"
        old.mkdir(parents=True)
        os.utime(old, (1e9 - age, 1e9 - age))
    kernels.keep(compile_cache.RECIPES / "gpt", out)
    assert {path.name for path in kernels.root.iterdir() if path.is_dir()} == {kernels.home.name, "old-1", "old-2"}
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 99)
    kernels.keep(compile_cache.RECIPES / "gpt", out)
    assert not kernels.home.exists()


@pytest.mark.parametrize(("level", "shares"), [("bubblewrap", True), ("landlock", True), ("none", False)])
def test_a_worker_without_a_boundary_shares_nothing(
    level: str, shares: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {
        "URL": "http://127.0.0.1:1",
        "WORKER_TOKEN": "t",
        "BROKER_URL": "redis://127.0.0.1:1",
        "HOME": str(tmp_path),
    }
    settings = serve.Settings.read({f"COUNTERSIGN_{name}": value for name, value in named.items()})
    monkeypatch.setattr(sandbox, "probe", lambda: level)
    monkeypatch.setattr(cgroups, "sweep", lambda: None)  # what other tests left is not ours to end
    assert (serve.this_machine(settings).kernels is not None) == shares
