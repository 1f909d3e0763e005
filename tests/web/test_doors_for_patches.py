"""The form and ``manage.py gate`` take the same patches for the same change, and refuse others in the same words."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from gpu_runner.contract import parse_recipe
from research.change.patches import to_patch
from tests.research.pasted_cases import FILES, GOOD, REFUSED, TAKEN
from webapp.pages.forms import ProposalForm

SAID = {
    "title": "t", "hypothesis": "h", "refuted_if": "r", "effect_bpb": "-0.01", "low_bpb": "-0.02", "high_bpb": "0.01",
    "chance_percent": "20",
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode())
    return folder


def by_form(patch: str) -> ProposalForm:
    """As a browser sends what was pasted."""
    sent = re.sub(r"\r\n|\r|\n", "\r\n", patch)
    form = ProposalForm(SAID | {"patch": sent}, recipe=parse_recipe(FILES["recipe.toml"]), source=FILES)
    form.is_valid()
    return form


def by_command(patch: bytes, recipe: Path, folder: Path) -> tuple[int, dict[str, Any]]:
    """(exit status, gate -> row)."""
    (folder / "change.patch").write_bytes(patch)
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("gate", str(folder / "change.patch"), "--recipe", str(recipe), "--json", stdout=out)
    assert isinstance(ended.value.code, int)
    return ended.value.code, {row["name"]: row for row in json.loads(out.getvalue())["gates"]}


@pytest.mark.parametrize("name", TAKEN)
def test_what_one_takes_the_other_takes_for_the_same_change(name: str, recipe: Path, tmp_path: Path) -> None:
    patch, _ = TAKEN[name]
    form = by_form(patch)
    assert form.errors == {}
    signed = to_patch(FILES, form.cleaned_data["patch"])
    _, rows = by_command(patch.encode(), recipe, tmp_path)
    assert "can be read" not in rows
    assert (rows["size and shape"]["outcome"], rows["patch applies"]["outcome"]) == ("passed", "passed")
    assert rows["size and shape"]["measured"]["num_bytes"] == len(signed.encode())


@pytest.mark.parametrize("name", REFUSED)
def test_what_one_refuses_the_other_refuses_in_the_same_words(name: str, recipe: Path, tmp_path: Path) -> None:
    patch, sentence = REFUSED[name]
    (said,) = by_form(patch).errors["patch"]
    status, rows = by_command(patch.encode(), recipe, tmp_path)
    assert (status, rows["can be read"]["sentence"]) == (1, f"{said}.")
    assert re.search(sentence, said)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_what_powershell_makes_of_a_diff_is_read(encoding: str, recipe: Path, tmp_path: Path) -> None:
    status, rows = by_command(GOOD.replace("\n", "\r\n").encode(encoding), recipe, tmp_path)
    assert (status, "can be read" in rows) == (0, False), rows


@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_a_diff_of_a_source_with_windows_ends_and_a_mark_passes_all_gates(ends: str, tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        mark = "\ufeff" if name == "train.py" else ""
        (folder / name).write_bytes((mark + text).replace("\n", ends).encode())
    patch = GOOD.replace(" import", " \ufeffimport")
    head, mark, lines = patch.partition("@@ -1,4 +1,4 @@\n")
    status, rows = by_command((head + mark + lines.replace("\n", ends)).encode(), folder, tmp_path)
    assert status == 0, [row for row in rows.values() if row["outcome"] == "failed"]


def test_the_change_that_carol_signs_holds_every_line_that_she_pasted() -> None:
    patch = "--- a/train.py\n+++ b/train.py\n@@ -4,1 +4,2 @@\n WARMUP = 0.05\n+A = 1\n+B = 2\n+C = 3\n"
    signed = to_patch(FILES, by_form(patch).cleaned_data["patch"])
    assert [line for line in signed.split("\n") if line.startswith("+") and line[:4] != "+++ "] == [
        "+A = 1",
        "+B = 2",
        "+C = 3",
    ]


def test_a_patch_file_that_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match=r"^PATCHFILE: .*gone.patch cannot be read: No such file.*; name a file, or -$"
    ):
        call_command("gate", str(tmp_path / "gone.patch"))


def test_what_is_wrong_with_an_override_is_said_at_no_line_of_the_patch(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "empty.patch").write_bytes(b"")
    with pytest.raises(SystemExit):
        call_command("gate", str(tmp_path / "empty.patch"), "--override", "depth=99")
    said = capsys.readouterr().out
    assert "above its upper bound" in said
    assert "line 0" not in said
