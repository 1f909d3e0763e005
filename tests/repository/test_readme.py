"""README is held to the code."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator

from tests.house.processes import ROOT

NAME = re.compile(r"(?:COUNTERSIGN|ANTHROPIC)_[A-Z_]+")
README = (ROOT / "README.md").read_text()


def names_in_code() -> Iterator[tuple[str, str]]:
    """Every variable that our code names as a whole string, and where."""
    for folder in ("webapp", "research", "gpu_runner"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                    yield node.value, str(path.relative_to(ROOT))


def test_every_variable_that_the_code_reads_stands_in_the_settings_table_and_none_else() -> None:
    read = dict(names_in_code())
    told = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.M))
    by_the_sdk = {"ANTHROPIC_BASE_URL"}  # anthropic.Anthropic() reads it by itself
    assert {name: path for name, path in read.items() if name not in told} == {}
    assert told - read.keys() == by_the_sdk


def test_the_port_in_the_table_is_the_port_in_the_settings() -> None:
    from django.conf import settings

    assert f"| `COUNTERSIGN_PORT` | `{settings.PORT}` |" in README


def test_every_make_target_that_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"`?make ([a-z]+)", README))
    assert {"run", "check", "test"} <= named <= targets


def test_ci_runs_the_command_that_readme_names() -> None:
    line = next(line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("command=$("))
    said = subprocess.run(
        ["bash", "-c", f"{line}; echo $command"], cwd=ROOT, capture_output=True, text=True, timeout=10
    )
    assert said.stdout == "make check\n"
