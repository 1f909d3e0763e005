"""Commands that cannot do what they are asked say so in a sentence, with a code that means nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.processes import ROOT, manage


@pytest.mark.parametrize(
    "line",
    [
        "propose first --dry-run",
        "verify_audit --json",
        "gate /dev/null --campaign first",
        "token scout --campaign first",
    ],
)
def test_without_a_database_alice_reads_which_one_was_looked_for(tmp_path: Path, line: str) -> None:
    said = manage(*line.split(), COUNTERSIGN_HOME=str(tmp_path))
    assert (said.returncode, said.stdout) == (2, "")  # 1 would say blocked, or that the record was changed
    assert said.stderr.startswith("The database cannot be used: no such table")
    assert "COUNTERSIGN_HOME" in said.stderr and said.stderr.count("\n") == 1


def test_a_reader_who_has_read_enough_is_no_error_of_the_command(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    line = [sys.executable, "manage.py", "gate", os.devnull, "--json"]
    with os.fdopen(writing) as nobody:
        said = subprocess.run(
            line, cwd=ROOT, env=os.environ | {"COUNTERSIGN_HOME": str(tmp_path)}, stdout=nobody,
            stderr=subprocess.PIPE, text=True, timeout=120,
        )  # fmt: skip
    assert (said.returncode, said.stderr) == (141, "")


def test_nobody_waits_for_torch_or_for_the_sdk_of_claude_who_asks_nothing_of_them(tmp_path: Path) -> None:
    """Their imports take longer than everything else of ours together."""
    program = (
        "import sys, webapp.asgi, webapp.urls, research.loop.tasks; print({'anthropic', 'torch'} & set(sys.modules))"
    )
    said = manage("shell", "-v0", "-c", program, COUNTERSIGN_HOME=str(tmp_path))
    assert (said.returncode, said.stdout) == (0, "set()\n"), said.stderr


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train.py", b"\xff", "train.py is not UTF-8 from byte 0 on"),
        ("recipe.toml", b"recipe = 3", "recipe.toml, line 1: [recipe] must be a table"),
        ("recipe.toml", b"knobs = 3", "recipe.toml, line 1: [knobs] must be a table"),
        ("recipe.toml", b"[recipe]\neditable = 3", "recipe.toml, line 2: editable in [recipe] must be a list"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / "recipe.toml").write_text("")
    (tmp_path / name).write_bytes(content)
    said = manage("gate", os.devnull, "--recipe", str(tmp_path), COUNTERSIGN_HOME=str(tmp_path / "home"))
    assert (said.returncode, sentence in said.stderr) == (2, True), said.stderr
