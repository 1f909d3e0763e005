"""What proposed code can reach: nothing but its code, its shards and one folder. At level none, it says so."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_runner import sandbox


def tried(code: str, *, level: str, read_only: tuple[Path, ...] = (), writable: Path | None = None) -> str:
    """What ``code`` prints when it runs inside; it prints DENIED and the error when it raises an OSError."""
    guarded = "\n".join(
        [
            "try:",
            *(f"    {line}" for line in code.splitlines()),
            "except OSError as error:",
            "    print('DENIED', error)",
        ]
    )
    argv = sandbox.wrap([sys.executable, "-c", guarded], level=level, read_only=read_only, writable=writable)
    done = subprocess.run(
        argv, env=sandbox.child_environment(), capture_output=True, text=True, timeout=30, start_new_session=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def listener() -> Iterator[int]:
    """A port on this machine's loopback where somebody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        yield server.getsockname()[1]
        with socket.socket() as last:  # so that accept() returns also when nobody came
            last.connect_ex(server.getsockname())


def test_charlies_code_reaches_neither_loopback_nor_host_sockets(listener: int, tmp_path: Path) -> None:
    connect = f"import socket\nsocket.create_connection(('127.0.0.1', {listener}), 2)\nprint('CONNECTED')"
    assert tried(connect, level="bubblewrap").startswith("DENIED")
    assert tried(connect, level="none") == "CONNECTED", "the control: without the sandbox it is reachable"


def test_charlies_code_sees_no_interface_but_its_own_loopback() -> None:
    assert tried("import socket\nprint([name for _, name in socket.if_nameindex()])", level="bubblewrap") == "['lo']"


def test_abstract_sockets_of_the_host_are_out_of_reach() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0countersign-test-{os.getpid()}")
        server.listen()
        connect = (
            f"import socket\nsocket.socket(socket.AF_UNIX).connect('\\0countersign-test-{os.getpid()}')\nprint('IN')"
        )
        assert tried(connect, level="bubblewrap").startswith("DENIED")
        assert tried(connect, level="none") == "IN"


def test_files_of_the_host_are_not_there(tmp_path: Path) -> None:
    secret = tmp_path / "sealed.bin"
    secret.write_text("held out")
    read = f"print(open({str(secret)!r}).read())"
    assert tried(read, level="bubblewrap").startswith("DENIED")
    assert tried(read, level="none") == "held out"
    home = f"import os\nprint(os.listdir({str(Path.home())!r}))"
    for name in os.listdir(Path.home()):
        if name.startswith(".") and not Path(sys.base_prefix).is_relative_to(Path.home() / name):
            assert name not in tried(home, level="bubblewrap")
    assert tried("import os\nprint(sorted(os.listdir('/etc')))", level="bubblewrap").count("passwd") == 0


def test_only_the_output_folder_can_be_written(tmp_path: Path) -> None:
    shards, out, elsewhere = tmp_path / "shards", tmp_path / "out", tmp_path / "elsewhere"
    for folder in (shards, out, elsewhere):
        folder.mkdir()
    (shards / "train.bin").write_text("text")
    for place in (shards / "train.bin", elsewhere / "x", Path("/usr/x"), Path("/x"), Path("/dev/x"), sandbox.LIMITS):
        said = tried(f"open({str(place)!r}, 'a')", level="bubblewrap", read_only=(shards,), writable=out)
        assert said.startswith("DENIED"), place
    both = f"print(open({str(shards / 'train.bin')!r}).read())\nopen({str(out / 'x')!r}, 'w').write('mine')"
    assert tried(both, level="bubblewrap", read_only=(shards,), writable=out) == "text"
    assert (out / "x").read_text() == "mine"


def test_kernel_settings_cannot_be_opened_for_writing_even_by_the_hosts_root() -> None:
    """/proc/sys/kernel/core_pattern is a way out for uid 0 without any capability."""
    for setting in ("kernel/core_pattern", "kernel/modprobe", "vm/drop_caches"):
        assert tried(f"open('/proc/sys/{setting}', 'a')", level="bubblewrap").startswith("DENIED"), setting


def test_the_environment_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("COUNTERSIGN_WORKER_TOKEN", "cs-secret")
    for level in sandbox.LEVELS:
        assert "secret" not in tried("import os\nprint(dict(os.environ))", level=level)
    assert not [name for name in sandbox.child_environment() if name.startswith(("ANTHROPIC", "COUNTERSIGN"))]


def test_other_processes_cannot_be_seen_or_signalled() -> None:
    see = "import os\nprint(sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[-1] < 20)"
    assert tried(see, level="bubblewrap") == "True"
    assert tried(f"import os\nos.kill({os.getpid()}, 0)", level="bubblewrap").startswith("DENIED")


def test_no_further_namespaces_and_no_capabilities() -> None:
    assert tried("import os, ctypes\nprint(ctypes.CDLL(None).unshare(0x10000000))", level="bubblewrap") == "-1"
    held = tried("print([l for l in open('/proc/self/status') if l.startswith('CapEff')])", level="bubblewrap")
    assert "0000000000000000" in held


def test_limits_hold_at_every_level(tmp_path: Path) -> None:
    seen = "import resource as r\nprint(r.getrlimit(r.RLIMIT_CORE), r.getrlimit(r.RLIMIT_NOFILE)[1])"
    oom = "print(open('/proc/self/oom_score_adj').read().strip())"
    for level in sandbox.LEVELS:
        assert tried(seen, level=level) == "(0, 0) 4096"
        assert tried(oom, level=level) == "1000"


def test_inside_the_package_can_be_imported_and_the_working_directory_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported what the run wrote')")
    code = "import os, gpu_runner.contract, numpy\nprint(os.getcwd(), numpy.__name__)"
    for level in sandbox.LEVELS:
        assert tried(code, level=level, writable=tmp_path) == f"{tmp_path} numpy"


def test_the_best_level_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COUNTERSIGN_SANDBOX", raising=False)
    assert shutil.which("bwrap"), "these tests need bubblewrap: install the package"
    assert sandbox.probe() == "bubblewrap"
    monkeypatch.setenv("COUNTERSIGN_SANDBOX", "none")
    assert sandbox.probe() == "none"
    monkeypatch.setenv("COUNTERSIGN_SANDBOX", "chroot")
    with pytest.raises(ValueError, match="'chroot' is not one of auto, bubblewrap, none"):
        sandbox.probe()


def test_a_machine_without_bubblewrap_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.problem_with.cache_clear()
    try:
        monkeypatch.setenv("COUNTERSIGN_SANDBOX", "bubblewrap")
        with pytest.raises(ValueError, match="install the package bubblewrap"):
            sandbox.probe()
        monkeypatch.setenv("COUNTERSIGN_SANDBOX", "auto")
        assert sandbox.probe() == "none"
    finally:
        sandbox.problem_with.cache_clear()


def test_a_bubblewrap_that_may_not_make_namespaces_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on Ubuntu 24.04 without an AppArmor profile."""
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for cached in (sandbox.problem_with, sandbox._knows):
        cached.cache_clear()
    try:
        problem = sandbox.problem_with("bubblewrap")
        assert problem is not None
        assert "AppArmor profile" in problem
    finally:
        for cached in (sandbox.problem_with, sandbox._knows):
            cached.cache_clear()
