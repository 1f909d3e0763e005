"""A change that learned held-out text by heart is not trained, whoever approved it, and nobody reads that text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpu_runner import contract
from tests.hiding import HIDDEN, UNREADABLE

from .conftest import Bench
from .test_launch import GOOD
from .world import Repository, git, make_dataset, make_lease

HELD_OUT = Path(__file__).with_name("world.py").read_text()[-5_000:-2_000]  # stands for what is held out
TRAINED_ON = Path(__file__).with_name("web.py").read_text()[:3_000]


@pytest.fixture
def repository(bench: Bench) -> Repository:
    return bench.recipe(GOOD)


def changed(repository: Repository, lines: str) -> str:
    """The patch that puts ``lines`` in front of the recipe."""
    return repository.patch({"train.py": lines + (repository.folder / "train.py").read_text()})


def run(bench: Bench, repository: Repository, patch: str = "", **over: Any) -> contract.RunEnd:
    sha256 = make_dataset(bench.folder / "home" / "datasets", held_out=HELD_OUT, trained_on=TRAINED_ON)
    end = bench.run(make_lease(repository.commit, sha256, patch=patch, **over))
    assert end is not None
    return end


def said_anywhere(bench: Bench, end: contract.RunEnd) -> str:
    return "\n".join([end.model_dump_json(), *bench.web.log()])


@pytest.mark.parametrize("split", ["val", "sealed", "watch"])
def test_a_text_of_any_held_out_split_in_a_docstring_is_found_and_not_quoted(
    bench: Bench, repository: Repository, split: str
) -> None:
    sha256 = make_dataset(bench.folder / "home" / "datasets", held_out=HELD_OUT, split=split)
    patch = changed(repository, HIDDEN["docstring"](HELD_OUT[500:900]))
    end = bench.run(make_lease(repository.commit, sha256, patch=patch))
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", "held_out_text")
    assert "letters and digits of held-out text: train.py:" in end.failure.message
    assert "say it in words of your own" in end.failure.todo
    assert end.device_s == 0
    assert "training" not in bench.web.phases()
    assert split not in said_anywhere(bench, end), "which split it stands in is not told either"
    said = said_anywhere(bench, end)
    assert not [start for start in range(500, 884) if HELD_OUT[start : start + 16] in said]


@pytest.mark.parametrize("way", HIDDEN)
def test_three_hundred_bytes_are_found_however_they_are_written(bench: Bench, repository: Repository, way: str) -> None:
    end = run(bench, repository, changed(repository, HIDDEN[way](HELD_OUT[1_000:1_300])))
    assert end.failure is not None, "it was trained"
    assert end.failure.kind == "held_out_text"


@pytest.mark.parametrize("way", UNREADABLE)
def test_what_nobody_can_read_is_left_to_the_gate_that_counts(bench: Bench, repository: Repository, way: str) -> None:
    """And said so in docs/security.md: when this fails, the table there has become better."""
    lines = UNREADABLE[way](HELD_OUT[1_000:1_300]).replace("x = ", "# x = ")  # what is played here runs
    assert run(bench, repository, changed(repository, lines)).outcome == "finished"


def test_a_smoke_run_finds_it_before_a_person_looks(bench: Bench, repository: Repository) -> None:
    end = run(bench, repository, changed(repository, HIDDEN["comments"](HELD_OUT[:400])), purpose="smoke", max_steps=5)
    assert end.failure is not None
    assert end.failure.kind == "held_out_text"


def test_text_that_is_trained_on_too_is_no_secret(bench: Bench, repository: Repository) -> None:
    sha256 = make_dataset(
        bench.folder / "home" / "datasets", held_out=HELD_OUT + TRAINED_ON[500:1_500], trained_on=TRAINED_ON
    )
    patch = changed(repository, HIDDEN["comments"](TRAINED_ON[600:1_200]))
    end = bench.run(make_lease(repository.commit, sha256, patch=patch))
    assert end is not None
    assert end.outcome == "finished"


def test_a_recipe_that_had_it_when_the_campaign_began_is_trained_and_warned_of(bench: Bench) -> None:
    """Whoever started the campaign chose it; a change that only moves it brings nothing."""
    repository = bench.recipe(HIDDEN["comments"](HELD_OUT[:600]) + GOOD)
    text = (repository.folder / "train.py").read_text()
    block = HIDDEN["comments"](HELD_OUT[:600])
    moved = repository.patch({"train.py": block + text.replace(block, "")})
    for patch in ("", moved):
        assert run(bench, repository, patch).outcome == "finished"
        assert any("of held-out text, 0 of them since" in line for line in bench.web.log())


def test_small_changes_that_were_kept_are_stopped_by_what_they_are_together(bench: Bench) -> None:
    repository = bench.recipe(GOOD)
    for number in range(3):
        patch = changed(repository, HIDDEN["comments"](HELD_OUT[600 * number : 600 * number + 80]))
        end = run(bench, repository, patch)
        assert end.outcome == "finished", end.failure
        keep(bench, repository, patch)
    patch = changed(repository, HIDDEN["comments"](HELD_OUT[2_400:2_480]))
    end = run(bench, repository, patch)
    assert end.failure is not None
    assert end.failure.kind == "held_out_text"
    assert "that came with changes before it" in end.failure.message
    keep(bench, repository, patch)  # as if it had been kept before anybody looked
    honest = changed(repository, "# A word of alice's.\n")
    assert run(bench, repository, honest).outcome == "finished", "it brings nothing itself"
    assert run(bench, repository).outcome == "finished", "and other numbers for its knobs are no fault of theirs"
    assert any("of held-out text" in line for line in bench.web.log())
    incumbent = run(bench, repository, purpose="baseline")
    assert incumbent.failure is not None
    assert incumbent.failure.kind == "held_out_text"
    assert "The incumbent's source has" in incumbent.failure.message
    assert "start a campaign from a commit without them" in incumbent.failure.todo


def keep(bench: Bench, repository: Repository, patch: str) -> None:
    """As the judge does: the patch becomes a commit on top."""
    (repository.folder / "kept.patch").write_text(patch)
    git(repository.folder, "apply", "--index", "kept.patch")
    git(repository.folder, "commit", "--quiet", "--message=kept")
    repository.commit = git(repository.folder, "rev-parse", "HEAD").strip()
    bench.web.bundle = repository.bundle()


def test_what_is_too_long_to_read_is_not_trained_on_trust(bench: Bench, repository: Repository) -> None:
    patch = repository.patch({"notes.txt": "all work and no play\n" * 60_000})
    end = run(bench, repository, patch)
    assert end.failure is not None
    assert end.failure.kind == "held_out_text"
    assert "too long to read, notes.txt (over 1," in end.failure.message


def test_a_text_that_unpacks_to_too_much_is_not_trained_on_trust(bench: Bench, repository: Repository) -> None:
    bombs = "".join(HIDDEN["zlib and base85"](f"{number}" * 4_000_000) for number in range(10, 14))
    end = run(bench, repository, changed(repository, bombs))
    assert end.failure is not None
    assert end.failure.kind == "held_out_text"
    assert "what is packed in it beyond 2 MiB" in end.failure.message


def test_a_comparison_that_breaks_trains_nothing(bench: Bench, repository: Repository) -> None:
    sha256 = make_dataset(bench.folder / "home" / "datasets", held_out=HELD_OUT)
    (bench.folder / "home" / "datasets" / "tiny" / "val" / "val-00000.bin").write_bytes(b"short")
    end = bench.run(make_lease(repository.commit, sha256, patch=changed(repository, "# A word.\n")))
    assert end is not None
    assert end.failure is not None
    assert end.failure.kind == "worker_error"
    assert "without an answer" in end.failure.message
    assert bench.web.phases() == []
