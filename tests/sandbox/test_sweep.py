"""What dead supervisors left behind is cleared away, and what cannot be is no reason not to start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpu_runner.sandbox import cgroups

DEAD = 2**22 + 1  # beyond the largest process id that Linux gives out


def test_a_group_inside_a_group_goes_first_and_one_that_stays_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cgroups, "problem", lambda: None)
    monkeypatch.setattr(cgroups, "_own_groups", lambda: {"pids": tmp_path / "own"})
    monkeypatch.setattr(cgroups, "EMPTY_WITHIN_S", 0.01)
    nested = tmp_path / "own" / f"countersign-{DEAD}-6" / f"countersign-{DEAD}-7"
    stuck = tmp_path / "own" / f"countersign-{DEAD}-8"
    alive = tmp_path / "own" / f"countersign-{os.getpid()}-1"
    for folder in (nested, stuck, alive):
        folder.mkdir(parents=True)
    (stuck / "held by somebody").touch()
    cgroups.sweep()
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == sorted([stuck.name, alive.name])
    assert f"stays behind: [Errno 39] Directory not empty: '{stuck}'" in caplog.text
