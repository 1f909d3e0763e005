"""An operator declares environments on a worker: each is hashed by what is installed in it."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from gpu_runner.command.environments import Environment, declared


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment without pip, and so without packages."""
    folder = tmp_path_factory.mktemp("environments") / "bare"
    venv.create(folder, symlinks=True)
    return folder / "bin" / "python"


def install(python: Path, name: str, version: str) -> None:
    place = python.parents[1] / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (place / f"{name}.dist-info").mkdir(exist_ok=True)
    (place / f"{name}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def only(found: dict[str, Environment]) -> Environment:
    (one,) = found.values()
    return one


def test_what_is_installed_is_what_is_countersigned(python: Path, tmp_path: Path) -> None:
    bare = only(declared(f"bare={python}"))
    assert (bare.name, bare.num_packages, bare.python) == ("bare", 0, python)
    assert python.parents[1] in bare.shown
    listed = tmp_path / "environments"
    listed.write_text(f"# of this machine\nbare = {python}\nother={sys.executable}\n")
    assert declared(str(listed))["bare"] == bare and declared(str(listed))["other"].num_packages > 10
    install(python, "torch", "2.6.0")
    newer = only(declared(f"bare={python}"))
    assert newer.num_packages == 1 and newer.sha256 != bare.sha256
    install(python, "torch", "2.7.0")
    assert only(declared(f"bare={python}")).sha256 not in (bare.sha256, newer.sha256)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Torch=/usr/bin/python3", "'Torch=/usr/bin/python3' is not name=/path/to/python"),
        ("torch=python3", "torch: python3 is no interpreter that can be started; give its whole path"),
        ("torch=/nowhere/python", "/nowhere/python is no interpreter"),
        ("torch=/bin/true", "/bin/true does not say what is installed"),
        ("/nowhere/list", "'/nowhere/list' is neither name=path nor a file"),
        (f"a={sys.executable},a={sys.executable}", "a is declared twice"),
        (",".join(f"e{n}=/x" for n in range(21)), "21 environments, at most 20"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="COUNTERSIGN_ENVIRONMENTS") as refused:
        declared(text)
    assert sentence in str(refused.value)


def test_none_is_declared_where_nothing_is_said() -> None:
    assert declared("") == {}
