"""What `make` installs: everything pinned, nothing twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.processes import ROOT
from webapp.house import install

PIN = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_of_every_extra_is_pinned_without_a_url_or_a_local_build() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(PIN.fullmatch(line) for line in lines)
    pinned = {plain(line.partition("==")[0]) for line in lines}
    wanted = {plain(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in install.requirements({"dev"})}
    assert wanted - pinned == set()


def test_a_second_start_installs_nothing_and_another_extra_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[set[str]] = []
    monkeypatch.delenv("COUNTERSIGN_DATABASE_URL", raising=False)
    monkeypatch.setattr(install, "make_environment", lambda folder: pretend_python(folder))
    monkeypatch.setattr(install, "pip_install", lambda folder, extras: installed.append(set(extras)))
    for extras in (set(), set(), {"test"}, set()):
        install.install(tmp_path / "venv", extras)
    assert installed == [set(), {"test"}]

    monkeypatch.setattr(install, "fingerprint", lambda: "other pins")
    install.install(tmp_path / "venv", set())
    assert installed[2:] == [set()]


def pretend_python(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)


def test_postgresql_in_the_environment_brings_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[set[str]] = []
    monkeypatch.setenv("COUNTERSIGN_DATABASE_URL", "postgresql://db/countersign")
    monkeypatch.setattr(install, "make_environment", lambda folder: pretend_python(folder))
    monkeypatch.setattr(install, "pip_install", lambda folder, extras: installed.append(set(extras)))
    install.install(tmp_path / "venv", set())
    assert installed == [{"postgres"}]


def test_an_unreachable_index_is_one_sentence(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=60)
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | nowhere
    line = [sys.executable, str(ROOT / "webapp" / "house" / "install.py"), str(tmp_path / "venv")]
    said = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
    assert said.stderr.splitlines()[-1].startswith("Countersign is not installed: pip could not install the packages")


def test_too_small_a_disk_is_said_before_anything_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"GB are needed\. Free some, or put the environment on another disk"):
        install.require_space(tmp_path / "venv", needed_bytes=10**18)


def test_make_without_a_fitting_python_says_which_one_fits(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    line = ["/usr/bin/make", "run", f"VENV={tmp_path}/venv"]
    said = subprocess.run(
        line, cwd=ROOT, env={"PATH": f"{tmp_path}:/nonexistent"}, capture_output=True, text=True, timeout=30
    )
    assert said.returncode != 0
    assert said.stderr.splitlines()[0].startswith("Countersign needs Python 3.11, 3.12 or 3.13 and found none.")
