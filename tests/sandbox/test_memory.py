"""Whose memory ran out: the run's own share, or everybody's. A run is what the kernel ends first in either."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_runner.sandbox import cgroups, meter
from tests.sandbox import trials

MIB = 1 << 20
HOLD = "held = bytearray({0} << 20); held[::4096] = b'x' * len(held[::4096]); print('held', flush=True)"


@pytest.fixture
def container() -> Iterator[Path]:
    """A control group of 400 MiB for a worker and for whoever lives beside it, as a container is."""
    own = cgroups._own_groups()
    if cgroups.problem() or "memory" not in own:
        pytest.skip("needs a control group of version 1 for memory")
    folder = own["memory"] / f"test-container-{os.getpid()}"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(str(400 * MIB))
    yield folder
    folder.rmdir()


SUPERVISOR = f"""
import subprocess, sys
from gpu_runner import sandbox
def start(code, before=lambda command: command):
    process = subprocess.Popen(before([sys.executable, "-c", code + "; import time; time.sleep(60)"]),
        env=sandbox.child_environment(), stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"held\\n"
    return process
with sandbox.Cell(level="none") as cell:
    run = start({HOLD.format(80)!r}, cell.argv)
    neighbour = subprocess.Popen([sys.executable, "-c", {HOLD.format(330)!r}], stdout=subprocess.DEVNULL)
    run.wait(30)
    print(run.returncode, cell.excess(run.pid), cell.num_oom_kills, cell.bounds.memory >> 20)
    neighbour.kill()
    neighbour.wait()
print(cell.num_oom_kills)
"""


def test_a_run_that_dies_because_its_neighbour_took_the_memory_is_not_said_to_have_taken_it(container: Path) -> None:
    within = f"import os; open({str(container / 'cgroup.procs')!r}, 'w').write(str(os.getpid())); exec({SUPERVISOR!r})"
    command = [sys.executable, "-c", within]
    done = subprocess.run(
        command, cwd=trials.PROJECT, stdout=subprocess.PIPE, text=True, timeout=60, env={"PATH": os.environ["PATH"]}
    )
    assert done.stdout.splitlines() == ["-9 None 1 350", "1"], done


@pytest.mark.parametrize(
    ("limits", "granted"),
    [
        ({"a/b/memory.max": "max", "a/memory.max": str(64 * MIB)}, 64 * MIB),
        ({"a/b/memory.max": str(32 * MIB), "a/memory.max": "max"}, 32 * MIB),
        ({"a/b/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
    ids=["a container's", "its own", "none of version 1", "none"],
)
def test_a_run_may_have_seven_eighths_of_what_its_container_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], granted: int | None
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name, limit in limits.items():
        (tmp_path / name).write_text(f"{limit}\n")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    monkeypatch.setattr(cgroups, "_own_groups", lambda: {"": tmp_path / "a" / "b"})
    monkeypatch.setattr(meter.cgroups, "memory_granted", cgroups.memory_granted.__wrapped__)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert meter.Bounds().memory == (granted or machine) * 7 // 8


@pytest.mark.parametrize(
    ("told", "ran_out", "num"),
    [
        ({"memory.events": "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n"}, True, 1),
        ({"memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 2\noom_group_kill 1\n"}, False, 2),
        ({"memory.events": "low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\n"}, False, 0),
        ({"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "memory.failcnt": "7\n"}, True, 1),
        ({"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "memory.failcnt": "0\n"}, False, 1),
        ({}, False, 0),
    ],
    ids=["its own", "everybody's", "nobody was killed", "its own, version 1", "everybody's, version 1", "it is gone"],
)
def test_the_kernels_words_tell_whose_memory_it_was(
    tmp_path: Path, told: dict[str, str], ran_out: bool, num: int
) -> None:
    """``oom_kill`` counts whoever was killed in the group, ``oom`` and ``failcnt`` that it was at its own limit."""
    for name, text in told.items():
        (tmp_path / name).write_text(text)
    group = cgroups.ControlGroup(folders=(tmp_path,), memory=tmp_path)
    assert (group.ran_out_of_memory(), group.num_oom_kills) == (ran_out, num)
