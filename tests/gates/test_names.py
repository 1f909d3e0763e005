"""What a name leads to is asked of the packages that are installed; where nobody can say, the gate says that."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_runner.names import inside, lookup
from research.gates.code import packages
from research.gates.order import context_of, looked_at
from research.gates.outcome import GateResult

RECIPE = '[recipe]\nname = "r"\nabout = ""\neditable = ["net.py"]\n'


def code_gate(text: str) -> GateResult:
    """Of an edit that makes ``text`` of net.py."""
    lines = text.splitlines()
    head = f"diff --git a/net.py b/net.py\n--- a/net.py\n+++ b/net.py\n@@ -1 +1,{len(lines)} @@\n-WIDTH = 4\n"
    patch = head + "".join(f"+{line}\n" for line in lines)
    files = {"recipe.toml": RECIPE, "net.py": "WIDTH = 4\n"}
    context = context_of(patch, {}, files, commit="c", sandbox_level="bubblewrap", is_trusted=False)
    return next(found for name, found, _ in looked_at(context) if name == "code")


def asking(monkeypatch: pytest.MonkeyPatch, *command: str) -> packages.Packages:
    """The gate asks this program from now on."""
    asked = packages.Packages([sys.executable, *command])
    monkeypatch.setattr(packages, "installed", lambda: asked)
    return asked


# --- what is found -----------------------------------------------------------------------------


def test_bob_reads_what_a_name_really_is_and_which_version_was_asked() -> None:
    found = code_gate("import triton.language.extra as more\nX = more.pkgutil.iter_modules\n")
    assert not found.passed
    assert "triton.language.extra.pkgutil is the module pkgutil" in found.sentence
    assert "import it" not in found.sentence  # nobody may
    assert "import it by its own name" in code_gate("import torch.nn.functional as F\nX = F.math.pi\n").sentence
    assert found.measured["packages"]["torch"] == packages.installed().versions()["torch"] != ""


def test_a_name_that_is_not_there_is_refused_with_the_version_that_has_it_not() -> None:
    found = code_gate("import torch\nX = torch.nn.functional.swish_and_glow\n")
    version = packages.installed().versions()["torch"]
    assert f"there is no torch.nn.functional.swish_and_glow in torch {version}" in found.sentence.lower()
    assert "use a name that it has" in found.sentence


def test_nothing_is_called_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Eager:
        @property
        def value(self) -> object:
            raise AssertionError("somebody asked")

        def __getattr__(self, name: str) -> object:
            raise AssertionError("somebody asked")

    module = types.ModuleType("eager")
    module.__dict__.update(thing=Eager(), __getattr__=lambda name: pytest.fail("somebody asked"))
    with monkeypatch.context() as installed:
        installed.setitem(sys.modules, "eager", module)
        found = {name: lookup.steps(f"eager.{name}") for name in ("thing.value", "thing.other", "nothing.more")}
    assert [step.kind for step in found["thing.value"]] == ["module", "value", "unseen"]
    assert [step.kind for step in found["thing.other"]] == ["module", "value", "unseen"]
    assert [step.kind for step in found["nothing.more"]] == ["module", "missing"]


@pytest.mark.parametrize("name", ["antigravity", "os.system", "torch.", "torch.x y", "torch." + "x" * 400])
def test_only_names_of_the_packages_are_looked_up(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name of a package that may be asked about"):
        inside.answer([name])


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no sandbox; what is asked is trusted there")
def test_the_packages_are_imported_inside_a_sandbox() -> None:
    """And by no process that holds the database: none of them is imported where the gate runs."""
    question = b'{"names": ["torch.nn.functional.os.environ"]}\n'
    command = [sys.executable, "-m", "gpu_runner.names"]
    done = subprocess.run(command, input=question, capture_output=True, timeout=120, check=True)
    assert b"names: at sandbox level bubblewrap" in done.stderr or b"names: at sandbox level landlock" in done.stderr
    assert b'"packages"' in done.stdout and b'"leads"' in done.stdout


# --- where nobody can say ----------------------------------------------------------------------


def test_where_torch_cannot_be_imported_the_gate_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; sys.modules['torch'] = None\nfrom gpu_runner.names import inside\ninside.main()"
    asked = asking(monkeypatch, "-c", program)
    found = code_gate("import torch\nX = torch.ones(1)\n")
    asked.end()
    assert not found.passed
    assert found.remarks[0]["rule"] == "unresolved"
    assert "torch cannot be imported on the machine that checks (ModuleNotFoundError" in found.sentence
    assert "Repair that on the machine of the control worker (`make` installs it), and check again." in found.sentence


BROKEN = {
    "ends at once": ("raise SystemExit('no memory')", "it ended; it said: no memory"),
    "speaks otherwise": ("print('hello')", "it did not speak as it should"),
    "says nothing": ("import time; time.sleep(60)", "no answer within 2 s"),
    "dies when asked": ("print('{\"packages\": {}}', flush=True); input()", "it ended"),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_helper_that_fails_blocks_with_a_sentence(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, said = BROKEN[way]
    monkeypatch.setattr(packages, "START_S", 2.0)
    monkeypatch.setattr(packages, "DIE_S", 0.1)
    asking(monkeypatch, "-c", program)
    found = code_gate(f"import torch\nWAY = torch.zeros({len(way)})\n")
    assert not found.passed
    assert "What names lead to could not be looked up" in found.sentence and said in found.sentence
    assert found.measured["packages"] == {}


def test_a_helper_that_is_not_there_blocks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = packages.Packages(["/no/such/program"])
    monkeypatch.setattr(packages, "installed", lambda: asked)
    found = code_gate("import torch\nX = torch.full((1,), 2.0)\n")
    assert "could not be looked up" in found.sentence and "check again" in found.sentence


# --- as long as somebody asks ------------------------------------------------------------------

ECHO = """
import json, sys
print(json.dumps({"packages": {"torch": "1"}}), flush=True)
for line in sys.stdin:
    (name,) = json.loads(line)["names"]
    steps = [["module", "torch", None], ["function", name, True]]
    print(json.dumps({"leads": {name: steps}, "absent": {}}), flush=True)
    if name.endswith("last"):
        break
"""


@pytest.fixture
def asked() -> Iterator[packages.Packages]:
    it = packages.Packages([sys.executable, "-c", ECHO])
    yield it
    it.end()


def test_one_that_ended_because_nobody_asked_is_started_again(asked: packages.Packages) -> None:
    assert asked.steps("torch.last")[1].home == "torch.last"
    assert asked.steps("torch.first")[1].home == "torch.first"


def test_what_was_said_is_forgotten_when_packages_change(
    asked: packages.Packages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "_folders", lambda: [str(tmp_path)])
    before = asked.look()
    first = asked.steps("torch.relu")
    assert asked.look() == before
    assert asked.steps("torch.relu") is first
    (tmp_path / "torch").mkdir()
    assert asked.look() != before
    assert asked.steps("torch.relu") is not first
