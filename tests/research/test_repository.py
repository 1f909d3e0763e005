"""The campaign's repository holds the recipe as its author saved it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from gpu_runner.worker import source
from research.change.drafts import Edit
from research.models import Campaign
from research.propose import drafting
from research.record import recipe_source, repository
from tests import builders

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def recipes(tmp_path: Path, settings: Any) -> Path:
    """A folder with one recipe, whose train.py was saved on Windows."""
    mine = tmp_path / "recipes" / "gpt"
    shutil.copytree(Path(settings.RECIPES) / "gpt", mine, ignore=shutil.ignore_patterns("__pycache__"))
    saved = (mine / "train.py").read_text().replace("\n", "\r\n")
    (mine / "train.py").write_bytes(saved.encode("utf-8-sig"))
    settings.RECIPES = mine.parent
    return mine.parent


def test_a_recipe_from_windows_keeps_its_bytes_until_it_runs(recipes: Path, alice: User, tmp_path: Path) -> None:
    alice.user_permissions.add(Permission.objects.get(codename="add_proposal"))
    campaign = builders.make_campaign()
    saved = (recipes / "gpt" / "train.py").read_bytes().decode()
    commit = campaign.incumbent.commit
    assert repository.files_at(campaign, commit)["train.py"] == saved
    edit = Edit(path="train.py", search="from __future__", replace="# alice\r\nfrom __future__")
    proposal = drafting.by_hand(campaign, builders.make_draft(overrides=(), edits=(edit,)), by=alice)
    patch = proposal.revision.patch
    kept = repository.commit_keep(campaign, commit, patch, {}, "kept")
    changed = saved.replace("from __future__", "# alice\r\nfrom __future__")
    assert repository.files_at(campaign, kept)["train.py"] == changed
    folder = tmp_path / "run"
    folder.mkdir()
    unpacked = source.check_out(repository.bundle(campaign, commit), base_commit=commit, patch=patch, folder=folder)
    assert (unpacked / "train.py").read_bytes().decode() == changed


def test_a_recipe_that_is_not_utf8_is_named(recipes: Path) -> None:
    (recipes / "gpt" / "train.py").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ValueError, match=r"recipe: train.py is not UTF-8 from byte 5 on"):
        builders.make_campaign()


def test_of_two_who_begin_a_campaign_of_one_slug_at_once_the_second_leaves_the_firsts_repository_alone(
    recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(recipes / "gpt", recipes / "other")
    (recipes / "other" / "README.md").write_text("Another recipe.\n")
    look, begun = recipe_source.shipped, list[str]()

    def meanwhile(name: str) -> Path:
        """The second one looked for the slug and found it free; now the first one begins, and ends."""
        begun.append(name)
        if len(begun) == 1:
            builders.make_campaign(recipe="gpt")
        return look(name)

    monkeypatch.setattr(recipe_source, "shipped", meanwhile)
    with pytest.raises(ValueError, match="slug: there is a campaign 'first' already"):
        builders.make_campaign(recipe="other")
    first = Campaign.objects.get()
    assert "train.py" in repository.files_at(first, first.incumbent.commit)
    assert [folder.name for folder in repository.path_of(first).parent.iterdir()] == ["first.git"]
