"""alice brings a training repository of her own: what is taken of it, and what is refused in a sentence."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_runner.worker import source as worker_source
from research.models import Campaign, Incumbent
from research.propose import briefing
from research.record import recipe_source, repository
from tests import builders

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256))
RECIPE = """\
[recipe]
name = "nano"
about = "alice's own."
editable = ["train.py"]
shown = ["model.py"]

[knobs.lr]
type = "float"
default = 0.1
low = 0.0
high = 1.0
help = "Learning rate."
"""
FILES: dict[str, bytes] = {
    "recipe.toml": RECIPE.encode(),
    "train.py": b"import model\n\n\ndef train(run):\n    pass\n",
    "model.py": b"WIDTH = 8\n",
    "README.md": b"# nano\n",
    "assets/loss.png": PNG,
    "notebooks/look.ipynb": b"{}" * 200_000,
    "run.sh": b"#!/bin/sh\n",
}


def git(at: Path, *words: str) -> str:
    alice = {"GIT_AUTHOR_NAME": "alice", "GIT_AUTHOR_EMAIL": "a@lab.example", "GIT_COMMITTER_NAME": "alice",
             "GIT_COMMITTER_EMAIL": "a@lab.example", "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull,
             "GIT_CONFIG_NOSYSTEM": "1", "GIT_ALLOW_PROTOCOL": "file"}  # fmt: skip
    return subprocess.run(["git", *words], cwd=at, env=alice, check=True, capture_output=True, text=True).stdout.strip()


def lay(at: Path, files: dict[str, bytes]) -> None:
    for name, body in files.items():
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(body)


@pytest.fixture
def hers(tmp_path: Path) -> Path:
    """A folder of alice's, without git."""
    folder = tmp_path / "nano"
    lay(folder, FILES)
    (folder / "run.sh").chmod(0o755)
    return folder


@pytest.fixture
def committed(hers: Path) -> Path:
    git(hers, "init", "-q", "-b", "main")
    git(hers, "add", "--all")
    git(hers, "commit", "-qm", "first")
    return hers


def begin(where: Path | str, at: str = "", **over: Any) -> Campaign:
    return builders.make_campaign(recipe=str(where), recipe_commit=at, **over)


def nothing_is_left(where: Path) -> None:
    assert not Campaign.objects.exists()
    assert not Incumbent.objects.exists()
    assert not where.exists() or list(where.iterdir()) == []


def test_a_repository_with_pictures_and_scripts_is_taken_at_the_commit_that_alice_names(
    committed: Path, tmp_path: Path
) -> None:
    first = git(committed, "rev-parse", "HEAD")
    lay(committed, {"train.py": b"def train(run):\n    raise SystemExit\n"})
    git(committed, "commit", "-qam", "second")
    git(committed, "branch", "older", first)
    campaign = begin(committed, "older")
    assert (campaign.recipe, campaign.origin, campaign.origin_commit) == ("nano", str(committed), first)
    base = campaign.incumbent.commit
    texts = repository.files_at(campaign, base)
    assert set(texts) == {"recipe.toml", "train.py", "model.py", "README.md", "run.sh"}
    left = {one.path: (one.size, one.why) for one in repository.left_out_at(campaign, base)}
    assert left == {
        "assets/loss.png": (len(PNG), "binary"),
        "notebooks/look.ipynb": (400_000, "too large to be shown"),
    }
    patch = "--- a/train.py\n+++ b/train.py\n@@ -4,2 +4,2 @@\n def train(run):\n-    pass\n+    return\n"
    assert repository.problem_with_patch(campaign, base, patch) is None
    kept = repository.commit_keep(campaign, base, patch, {"lr": 0.2}, "kept")
    folder = tmp_path / "run"
    folder.mkdir()
    out = worker_source.check_out(repository.bundle(campaign, kept), base_commit=kept, patch="", folder=folder)
    assert (out / "assets" / "loss.png").read_bytes() == PNG, "binary files and modes reach the worker"
    assert os.access(out / "run.sh", os.X_OK)
    assert b"return" in (out / "train.py").read_bytes()
    log = git(repository.path_of(campaign), "log", "--format=%an", kept)
    assert log == "Countersign\nCountersign", "the history before it is not taken along"
    assert not (repository.path_of(campaign) / "objects" / "info" / "alternates").exists()


def test_the_prompt_shows_what_may_be_edited_and_what_is_shown_and_says_what_is_left_out(committed: Path) -> None:
    brief = briefing.brief(begin(committed), 1)
    assert set(brief.files) == {"recipe.toml", "train.py", "model.py"}
    assert "assets/loss.png (binary, 0.3 kB)" in brief.not_shown
    assert "README.md (0.0 kB)" in brief.not_shown


def test_a_folder_a_bare_a_shallow_and_a_sub_folder_are_taken(committed: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(committed), "bare.git")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{committed}", "shallow")
    git(committed, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    lay(committed, {f"inside/{name}": body for name, body in FILES.items()})
    git(committed, "add", "--all")
    git(committed, "commit", "-qm", "a recipe in a folder")
    plain = tmp_path / "plain"
    lay(plain, FILES)
    for number, (where, at) in enumerate(
        [
            (plain, ""),
            (tmp_path / "bare.git", ""),
            (tmp_path / "shallow", ""),
            (tmp_path / "linked", ""),
            (committed / "inside", "main"),
        ]
    ):
        campaign = begin(where, at, slug=f"c{number}")
        assert repository.files_at(campaign, campaign.incumbent.commit)["model.py"] == "WIDTH = 8\n", where
        assert bool(campaign.origin_commit) == (where != plain)


def test_uncommitted_changes_are_left_out_and_named(committed: Path) -> None:
    lay(committed, {"model.py": b"WIDTH = 9\n"})
    with recipe_source.opened(str(committed)) as source:
        assert source.remarks == (
            f"What is not committed is left out: model.py. The commit {source.commit[:10]} is taken.",
        )
    campaign = begin(committed)
    assert repository.files_at(campaign, campaign.incumbent.commit)["model.py"] == "WIDTH = 8\n"
    with recipe_source.opened(str(committed), "main") as source:
        assert source.remarks == (), "whoever names a commit knows it"


def link(at: Path) -> None:
    (at / "data.bin").symlink_to("/etc/hostname")


def pipe(at: Path) -> None:
    os.mkfifo(at / "pipe")


def pointer(at: Path) -> None:
    lay(at, {"w.bin": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"})


def submodule(at: Path) -> None:
    git(at, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(at), "sub")


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda at: lay(at, {name: text.encode()})


def remove(name: str) -> Callable[[Path], None]:
    return lambda at: (at / name).unlink()


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no recipe.toml": (remove("recipe.toml"), "no recipe.toml at the top of .*`manage.py recipe new PATH` writes"),
    "no entry": (remove("train.py"), "no train.py at the top of .*kind = \"command\""),
    "an unreadable recipe.toml": (write("recipe.toml", "[recipe"), "recipe.toml: Expected"),
    "an editable file outside": (
        write("recipe.toml", RECIPE.replace('"train.py"', '"../train.py"')), "line 4.*must be a path inside"
    ),
    "an editable file that is not there": (
        write("recipe.toml", RECIPE.replace('"train.py"', '"trian.py"')), "editable names 'trian.py'.*no such file"
    ),
    "a shown file that is not there": (remove("model.py"), "shown names 'model.py'.*no such file"),
    "a default out of bounds": (write("recipe.toml", RECIPE.replace("0.1", "2.0")), "lr: 2 is above its upper bound 1"),
    "a script that is not there": (
        write("recipe.toml", '[recipe]\nkind = "command"\neditable = ["train.py"]\n[command]\n'
              'run = ["{python}", "go.py"]\n[metrics]\nreader = "json_lines"\nmetric = "loss"\n'),
        "run in .command. starts go.py, and there is no such file",
    ),
    "a link": (link, "data.bin is a link"),
    "too many bytes": (write("big.csv", "0" * 3_000_000), "larger than 2 MB together .COUNTERSIGN_RECIPE_MB"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_worker_could_run_is_refused_in_a_sentence_and_nothing_is_left_behind(
    what: str, hers: Path, tmp_path: Path, settings: Any
) -> None:
    """First from the folder, then from a commit of it."""
    settings.RECIPE_MB = 2
    spoil, sentence = REFUSED[what]
    spoil(hers)
    with pytest.raises(ValueError, match=f"recipe: .*{sentence}"):
        begin(hers)
    git(hers, "init", "-q", "-b", "main")
    git(hers, "add", "--all")
    git(hers, "commit", "-qm", "spoiled")
    with pytest.raises(ValueError, match=f"recipe: .*{sentence}"):
        begin(hers)
    nothing_is_left(Path(settings.REPOSITORIES))


def test_a_folder_that_is_no_recipe_is_not_looked_through_and_none_of_its_names_is_said(hers: Path) -> None:
    (hers / "recipe.toml").unlink()
    link(hers)
    with pytest.raises(ValueError, match=r"recipe: there is no recipe.toml at the top of") as refused:
        begin(hers)
    assert "data.bin" not in str(refused.value)


def test_what_only_a_folder_or_only_a_commit_can_hold_is_refused_too(hers: Path, tmp_path: Path, settings: Any) -> None:
    pipe(hers)
    with pytest.raises(ValueError, match=r"recipe: pipe is a special file"):
        begin(hers)
    (hers / "pipe").unlink()
    with pytest.raises(ValueError, match=r"recipe: .*is not a git repository.*leave the commit empty"):
        begin(hers, "main")
    git(hers, "init", "-q", "-b", "main")
    with pytest.raises(ValueError, match=r"recipe: .* has no commit yet; commit there first"):
        begin(hers)
    git(hers, "add", "--all")
    git(hers, "commit", "-qm", "first")
    with pytest.raises(ValueError, match=r"recipe_commit: .* has no commit or branch 'elsewhere'"):
        begin(hers, "elsewhere")
    for word, said in (("--upload-pack=x", "must not begin with a dash"), ("a\nb", "printable")):
        with pytest.raises(ValueError, match=f"recipe_commit: .*{said}"):
            begin(hers, word)
    pointer(hers)
    git(hers, "add", "--all")
    git(hers, "commit", "-qm", "a pointer")
    with pytest.raises(ValueError, match=r"recipe: w.bin is a Git LFS pointer.*git lfs pull"):
        begin(hers)
    git(hers, "rm", "-q", "w.bin")
    submodule(hers)
    git(hers, "commit", "-qam", "a submodule")
    with pytest.raises(ValueError, match=r"recipe: sub is a submodule"):
        begin(hers)
    partial = tmp_path / "partial"
    git(hers, "config", "uploadpack.allowFilter", "true")
    git(hers, "reset", "-q", "--hard", "HEAD~2")
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{hers}", str(partial))
    with pytest.raises(ValueError, match=r"recipe: .*partial clone"):
        begin(partial)
    nothing_is_left(Path(settings.REPOSITORIES))


def test_a_url_is_fetched_only_where_the_operator_allows_it(committed: Path, settings: Any) -> None:
    for url in ("https://git.lab.example/nano", "ssh://git@lab.example/nano", "git@lab.example:nano", "ext::sh -c id"):
        with pytest.raises(ValueError, match=r"recipe: "):
            begin(url)
    settings.RECIPE_URLS = ("file://",)
    with pytest.raises(ValueError, match=r"recipe: git could not fetch it: .*not allowed"):
        begin(f"file://{committed}")
    for url in ("https://lab.example/team/../other", "https://lab.example/team/%2E%2e/other"):
        settings.RECIPE_URLS = ("https://lab.example/team/",)
        with pytest.raises(ValueError, match=r"recipe: this address is not among those"):
            begin(url)
    settings.RECIPE_URLS = ("http://127.0.0.1:9/",)
    with pytest.raises(ValueError, match=r"recipe: git could not fetch it"):
        begin("http://127.0.0.1:9/nano")
    nothing_is_left(Path(settings.REPOSITORIES))


def test_nothing_of_a_source_is_run(committed: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    script = committed / ".git" / "spoil"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    lay(committed, {".gitattributes": b"* filter=spoil\n", "model.py": b"WIDTH = 9\n"})
    for key in ("core.fsmonitor", "filter.spoil.clean", "filter.spoil.smudge", "core.sshCommand", "core.pager",
                "uploadpack.packObjectsHook", "diff.external"):  # fmt: skip
        git(committed, "config", key, str(script))
    begin(committed)
    assert not ran.exists()
