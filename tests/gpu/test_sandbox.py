"""With a GPU passed in, the sandbox costs no speed, is as tight as without one, and leaves nothing on the GPU."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from gpu_runner import sandbox
from gpu_runner.worker.parts import HARNESS
from tests.benchmarks.measuring import Spread
from tests.benchmarks.record import Record
from tests.gpu import inside
from tests.gpu.machine import DEVICE, DRY, FILES, IS_DRY_RUN, gpu_memory_mib, mib, verdict
from tests.gpu.stages import steps
from tests.sandbox import trials
from tests.sandbox.test_attacks import ALL
from tests.sandbox.test_limits import until
from tests.worker.world import processes_with

pytestmark = pytest.mark.gpu

LEVELS = ("none", *trials.LEVELS)
NUM_TURNS, SECONDS = (1, 2.0) if IS_DRY_RUN else (2, 8.0)
ALLOWED = 0.98  # of the tokens/s outside; less is a miss
SLACK_MIB = 64  # a driver's own bookkeeping
HELD_MIB, SOUGHT_MIB = (128, 256) if IS_DRY_RUN else (8_192, 10**6)  # 10**6: all that is free
LEFTOVERS = Path(__file__).with_name("leftovers.py")


def test_training_is_as_fast_inside_as_outside(corpus: Path, tmp_path: Path) -> None:
    speeds: dict[str, list[float]] = defaultdict(list)
    first: Path | None = None
    with steps("sandbox", NUM_TURNS * len(LEVELS)) as bar:
        for turn in range(NUM_TURNS):
            for level in LEVELS:
                folder = inside.run_dir(tmp_path / f"{level}-{turn}", corpus, seconds=SECONDS)
                heard = inside.train_at(level, folder, corpus, kernels=first)
                speeds[level].append(inside.tokens_per_s(heard))
                first = first or folder  # what it compiled serves the others
                bar.done(f"{level} {speeds[level][-1]:,.0f} tokens/s")
    ratios = {
        level: Spread(tuple(a / b for a, b in zip(speeds[level], speeds["none"], strict=True))) for level in LEVELS
    }
    Record(
        name=f"{FILES}-sandbox-speed",
        title="The same training outside and inside",
        columns=("level", "tokens/s", "x"),
        rows=[(level, f"{Spread(tuple(speeds[level])):,.0f}", f"{ratios[level]:.3f}") for level in LEVELS],
        notes=[
            f"{NUM_TURNS} turns of {SECONDS:g} s, level by level in every turn: median (lowest to highest).{DRY}",
            *(
                f"Target: {ALLOWED} of the speed outside at level {level}: {verdict(ratios[level].median, ALLOWED)}."
                for level in trials.LEVELS
            ),
        ],
        raw={"tokens_per_s": dict(speeds), "overrides": inside.SMALL},
    ).publish()


@pytest.mark.parametrize("account", trials.ACCOUNTS)
@pytest.mark.parametrize("level", trials.LEVELS)
def test_every_attack_is_denied_with_a_gpu_inside(level: str, account: str) -> None:
    assert IS_DRY_RUN or sandbox.gpu_nodes(), "no GPU is passed in, so nothing would be proved"
    came = trials.trial(level, account)
    got = {attack: found for attack, found in came.items() if not found.startswith("denied")}
    assert set(came) == set(ALL)
    assert got == {}


def look(level: str, act: str, mark: int, mib: int) -> str:
    """What the script found, at that level."""
    with sandbox.Cell(level=level, read_only=(LEFTOVERS,)) as cell:
        done = subprocess.run(
            cell.argv([sys.executable, str(LEFTOVERS), act, str(mark), str(mib), DEVICE]),
            env=sandbox.child_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            start_new_session=True,
        )
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout.strip()


def test_what_others_left_in_the_gpus_memory_is_not_found(tmp_path: Path) -> None:
    mark = secrets.randbits(62)
    if not IS_DRY_RUN:  # a CPU's freed memory comes back from the kernel, which clears it
        assert int(look("none", "control", mark, HELD_MIB)) > 0, "the search does not find what is there"
    victim = subprocess.Popen(
        [sys.executable, str(LEFTOVERS), "hold", str(mark), str(HELD_MIB), DEVICE], stdout=subprocess.PIPE, text=True
    )
    with victim:
        try:
            assert victim.stdout is not None
            assert int(victim.stdout.readline()) > 0
            while_it_lives = {level: int(look(level, "look", mark, SOUGHT_MIB)) for level in trials.LEVELS}
        finally:
            victim.kill()
    afterwards = {level: int(look(level, "look", mark, SOUGHT_MIB)) for level in trials.LEVELS}
    assert set(while_it_lives.values()) == {0}, while_it_lives
    assert set(afterwards.values()) == {0}, afterwards


@pytest.mark.parametrize("level", trials.LEVELS)
def test_no_window_into_a_pci_devices_memory_is_open(level: str) -> None:
    """/sys is shown because the driver looks its devices up there; as root, Linux offers their memory there, too."""
    assert look(level, "bars", 1, 1) == ""


@pytest.mark.parametrize("level", trials.LEVELS)
def test_nothing_is_left_after_kill_9(level: str, corpus: Path, tmp_path: Path) -> None:
    before = gpu_memory_mib()
    folder = inside.run_dir(tmp_path / "run", corpus, seconds=600, compile="never")
    reports = folder / "out" / "reports"
    shown = [f"--read-only={path}" for path in (folder / "source", folder / "spec.json", corpus / "train")]
    command = [sys.executable, "-m", "gpu_runner.sandbox", "--level", level, *shown, f"--writable={folder / 'out'}"]
    supervisor = subprocess.Popen(
        [*command, "--", *HARNESS, str(folder), "--report-to", str(reports)],
        cwd=trials.PROJECT,
        stderr=subprocess.DEVNULL,
    )
    with supervisor:
        try:
            until(lambda: reports.exists() and '"point"' in reports.read_text(), 180)
            during = gpu_memory_mib()
            assert processes_with(str(folder))
        finally:
            supervisor.send_signal(signal.SIGKILL)
    until(lambda: not processes_with(str(folder)), 15)
    if before is not None and during is not None:
        assert during > before + SLACK_MIB, "it trained on the GPU"
        until(lambda: (gpu_memory_mib() or 0) <= before + SLACK_MIB, 15)
    after = gpu_memory_mib()
    Record(
        name=f"{FILES}-sandbox-killed-{level}",
        title=f"The supervisor killed with -9 in the middle of training, level {level}",
        columns=("when", "GPU memory in use"),
        rows=[("before", mib(before)), ("in training", mib(during)), ("after", mib(after))],
        notes=[f"No process of the run was left after 15 s at most; n = 1.{DRY}"],
        raw={"before": before, "during": during, "after": after},
    ).publish()
