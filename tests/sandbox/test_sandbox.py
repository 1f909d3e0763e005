"""Which level is taken, what is visible inside, and what a machine without a sandbox is told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_runner import sandbox
from gpu_runner.sandbox import bubblewrap, cgroups, landlock, seccomp, view
from tests.sandbox import trials
from tests.sandbox.trials import tried

HEADER = Path("/usr/include/asm-generic/unistd.h")  # aarch64's numbers, on every Linux machine with a compiler


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What was found out about this machine is found out again, before and after."""
    cached = (sandbox.problem_with, bubblewrap._knows, cgroups.problem)
    for found in cached:
        found.cache_clear()
    yield
    for found in cached:
        found.cache_clear()


boundaries = pytest.mark.parametrize("level", trials.LEVELS)


@boundaries
def test_only_the_output_folder_can_be_written(level: str, tmp_path: Path) -> None:
    shards, out, elsewhere = tmp_path / "shards", tmp_path / "out", tmp_path / "elsewhere"
    for folder in (shards, out, elsewhere):
        folder.mkdir()
    (shards / "train.bin").write_text("text")
    code = (elsewhere / "x", shards / "train.bin", Path("/usr/x"), Path("/x"), Path("/dev/x"), Path(view.__file__))
    for place in code:
        said = tried(f"open({str(place)!r}, 'a')", level=level, read_only=(shards,), writable=out)
        assert said.startswith("DENIED"), place
    both = f"print(open({str(shards / 'train.bin')!r}).read())\nopen({str(out / 'x')!r}, 'w').write('mine')"
    assert tried(both, level=level, read_only=(shards,), writable=out) == "text"
    assert (out / "x").read_text() == "mine"


def test_inside_bubblewrap_there_is_no_network_card_and_no_process_of_the_host() -> None:
    assert tried("import socket\nprint([name for _, name in socket.if_nameindex()])", level="bubblewrap") == "['lo']"
    see = "import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[-1] < 20)"
    assert tried(see, level="bubblewrap") == "True"
    assert tried("import os\nprint(os.uname().nodename)", level="bubblewrap") == "sandbox"


@boundaries
def test_kernel_settings_cannot_be_opened_for_writing_even_by_the_hosts_root(level: str) -> None:
    """/proc/sys/kernel/core_pattern is a way out for uid 0 without any capability."""
    for setting in ("kernel/core_pattern", "kernel/modprobe", "vm/drop_caches"):
        assert tried(f"open('/proc/sys/{setting}', 'a')", level=level).startswith("DENIED"), setting


def test_the_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("COUNTERSIGN_WORKER_TOKEN", "cs-secret")
    for level in (*trials.LEVELS, "none"):
        assert "secret" not in tried("import os\nprint(dict(os.environ))", level=level)
    assert not [name for name in sandbox.child_environment() if name.startswith(("ANTHROPIC", "COUNTERSIGN"))]


def test_nothing_is_imported_from_the_home_that_everybody_may_write() -> None:
    """HOME is /tmp, at level none the host's, and the scorer runs there: anybody could leave a package for it."""
    python = str(getattr(sys, "_base_executable", sys.executable))  # in a virtual environment it is off anyway
    asked = [python, "-c", "import site; print(site.ENABLE_USER_SITE)"]
    assert subprocess.run(asked, env=sandbox.child_environment(), capture_output=True).stdout == b"False\n"


def test_limits_hold_at_every_level() -> None:
    seen = "import resource as r\nprint(r.getrlimit(r.RLIMIT_CORE), r.getrlimit(r.RLIMIT_NOFILE)[1])"
    for level in (*trials.LEVELS, "none"):
        assert tried(seen, level=level) == "(0, 0) 4096"


@pytest.mark.parametrize("level", ["bubblewrap", "none"])
def test_the_kernel_ends_a_run_before_its_supervisor(level: str) -> None:
    assert tried("print(open('/proc/self/oom_score_adj').read().strip())", level=level) == "1000"


def test_inside_the_package_can_be_imported_and_the_working_directory_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported what the run wrote')")
    code = "import os, gpu_runner.contract, numpy\nprint(os.getcwd(), numpy.__name__)"
    for level in (*trials.LEVELS, "none"):
        assert tried(code, level=level, writable=tmp_path) == f"{tmp_path} numpy"


def test_at_level_landlock_the_projects_own_folder_cannot_be_listed() -> None:
    """The package is found through a folder that holds nothing else: homes and databases lie beside the real one."""
    assert tried(f"import os\nprint(os.listdir({str(view.PACKAGE.parent)!r}))", level="landlock").startswith("DENIED")
    listed = tried(
        "import os, sys\nprint([os.listdir(p) for p in sys.path if 'countersign-path' in p])", level="landlock"
    )
    assert listed == "[['gpu_runner']]"


def test_landlock_works_wherever_the_kernel_is_new_enough() -> None:
    """So that no machine leaves its tests out without a word."""
    release = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))
    assert (landlock.abi() >= landlock.NEEDED_ABI) == (release >= (6, 12))
    assert (sandbox.problem_with("landlock") is None) == (release >= (6, 12))


def test_the_best_level_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERSIGN_SANDBOX", raising=False)
    assert shutil.which("bwrap"), "these tests need bubblewrap: install the package"
    assert sandbox.probe() == "bubblewrap"
    for level in (*trials.LEVELS, "none"):
        monkeypatch.setenv("COUNTERSIGN_SANDBOX", level)
        assert sandbox.probe() == level
    monkeypatch.setenv("COUNTERSIGN_SANDBOX", "chroot")
    with pytest.raises(ValueError, match="'chroot' is not one of auto, bubblewrap, landlock, none"):
        sandbox.probe()


@pytest.mark.usefixtures("forgetful")
def test_without_bubblewrap_landlock_is_taken_and_without_both_an_operator_must_say_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("COUNTERSIGN_SANDBOX", raising=False)
    assert sandbox.probe() == "landlock"
    sandbox.problem_with.cache_clear()
    monkeypatch.setattr(landlock, "abi", lambda: 4)
    with pytest.raises(
        ValueError, match=r"no sandbox works here .*bwrap is not on PATH; install .*version 4.*COUNTERSIGN_SANDBOX=none"
    ):
        sandbox.probe()
    monkeypatch.setenv("COUNTERSIGN_SANDBOX", "bubblewrap")
    with pytest.raises(ValueError, match="COUNTERSIGN_SANDBOX=bubblewrap: bwrap is not on PATH"):
        sandbox.probe()
    monkeypatch.setenv("COUNTERSIGN_SANDBOX", "none")
    assert sandbox.probe() == "none", "the operator's word"


@pytest.mark.usefixtures("forgetful")
def test_a_bubblewrap_that_may_not_make_namespaces_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on Ubuntu 24.04 without an AppArmor profile."""
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    problem = sandbox.problem_with("bubblewrap")
    assert problem is not None
    assert "AppArmor profile" in problem


def test_a_gpu_goes_in_with_its_nodes_and_no_other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen as a command line only: this machine need not have a GPU."""
    nodes = [Path("/dev/nvidia0"), Path("/dev/nvidiactl"), Path("/dev/nvidia-uvm")]
    monkeypatch.setattr(view, "gpu_nodes", lambda: nodes)
    command = bubblewrap.command((), None)
    bound = {command[i + 1] for i, part in enumerate(command) if part == "--dev-bind"}
    assert bound == {str(node) for node in nodes}
    assert command.index("--dev") < command.index("--dev-bind"), "over the fresh /dev, not under it"
    assert command[command.index("/sys") - 1 : command.index("/sys") + 2] == ["--ro-bind", "/sys", "/sys"]
    with sandbox.Cell(level="landlock") as cell:
        steps = cell.argv(["true"])
    assert {f"device={node}" for node in nodes} < set(steps)
    assert not [step for step in steps if step.startswith("data=")], "CUDA reserves more than there is"


def test_the_system_calls_have_the_numbers_that_the_kernel_gives_them() -> None:
    tables = (
        seccomp.EVERYWHERE
        | seccomp.OF_THE_HOST
        | seccomp.ATTRIBUTES
        | {name: number for name, (number, _) in seccomp.OF_OTHERS.items()}
    )
    tables |= {name: number for name, (number, _) in seccomp.MODES.items()} | {"openat2": seccomp.OPENAT2}
    tables |= seccomp.STAY_IN_THE_GROUP | {"clone": seccomp.CLONE, "clone3": seccomp.CLONE3, "ioctl": seccomp.IOCTL}
    tables |= {"preadv2": seccomp.PREADV2, "fadvise64": seccomp.FADVISE64, "madvise": seccomp.MADVISE}
    tables |= {"rt_sigaction": seccomp.RT_SIGACTION}
    for column, headers in ((0, Path("/usr/include").glob("*/asm/unistd_64.h")), (1, iter([HEADER]))):
        for header in headers:
            found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
            for name, numbers in tables.items():
                if name in found:
                    assert numbers[column] == int(found[name]), (name, str(header))


@pytest.mark.parametrize("machine", seccomp.MACHINES)
@pytest.mark.parametrize("bare", [True, False])
def test_a_filter_jumps_only_forward_and_ends_in_an_answer(machine: str, bare: bool) -> None:
    body = seccomp.program(bare=bare, machine=seccomp.MACHINES[machine])
    steps = [body[i : i + 8] for i in range(0, len(body), 8)]
    assert len(body) % 8 == 0
    assert len(steps) <= 4_096
    for i, step in enumerate(steps):
        if step[0] in (seccomp.EQUAL, seccomp.AT_LEAST, seccomp.ANY_OF):
            assert i + 1 + max(step[2], step[3]) < len(steps)
    assert steps[-1][0] == seccomp.RETURN
