"""Whatever Charlie's run leaves in its folder goes with it, and the worker goes on."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gpu_runner.worker import folders


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "run-1-fence-1" / "out"
    folder.mkdir(parents=True)
    (folder.parent / "lock").touch()
    return folder


def very_deep(out: Path, name: str, depth: int) -> None:
    """Deeper than any path goes, so step by step."""
    here = os.open(out, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(os.open("file", os.O_CREAT, dir_fd=here))
    os.close(here)


def closed(out: Path) -> None:
    (out / "a" / "b" / "c").mkdir(parents=True)
    (out / "a" / "b" / "file").touch(mode=0)
    for folder in (out / "a" / "b" / "c", out / "a" / "b", out / "a", out):
        folder.chmod(0)


def links(out: Path) -> None:
    (out / "checkpoint").symlink_to(out.parent.parent.parent / "precious")
    (out / "model").symlink_to(out.parent.parent.parent / "precious" / "file")
    (out / "round").symlink_to("round")


def special(out: Path) -> None:
    os.mkfifo(out / "fifo")
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(str(out / "s"))
    with open(out / "sparse", "wb") as file:
        file.truncate(1 << 40)


def oddly_named(out: Path) -> None:
    for name in (b"\xff\xfe", b"new\nline", b"\x1b[31m", b"-rf", b" ", b"n" * 255):
        (out / os.fsdecode(name)).mkdir()
        (out / os.fsdecode(name) / os.fsdecode(name)).touch()


LEFT: dict[str, Callable[[Path], None]] = {
    "folders deeper than recursion": lambda out: very_deep(out, "d", 1_500),
    "folders deeper than a path": lambda out: very_deep(out, "d" * 200, 60),
    "closed folders": closed,
    "links": links,
    "what is no file": special,
    "odd names": oddly_named,
}


@pytest.mark.parametrize("what", LEFT)
def test_whatever_charlies_run_left_is_removed(what: str, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = out.parent.parent
    precious = runs.parent / "precious" / "file"
    precious.parent.mkdir()
    precious.write_text("alice's")
    LEFT[what](out)
    folders.sweep(runs, num_kept=0)
    assert not list(runs.iterdir()), caplog.text
    assert precious.read_text() == "alice's"


def test_what_cannot_be_removed_is_told_and_the_worker_starts(
    out: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_path: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "unlink", refuse)
    folders.sweep(out.parent.parent, num_kept=0)
    assert "stays behind: [Errno 1] Operation not permitted" in caplog.text
