"""`manage.py up` itself: the four real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.doors import walk_in
from tests.house.processes import ROOT, with_mark
from tests.ports import free_port
from tests.waiting import wait_until


class Home:
    """One home folder, and every `up` that was started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = str(free_port())
        self.log = folder / "up.log"
        self.started: list[subprocess.Popen[bytes]] = []

    def up(self) -> subprocess.Popen[bytes]:
        told = {"COUNTERSIGN_HOME": str(self.folder), "COUNTERSIGN_PORT": self.port}
        told |= {"COUNTERSIGN_SECRET_KEY": "signs sessions", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
        with open(self.log, "wb") as log:
            line = [sys.executable, "manage.py", "up"]
            process = subprocess.Popen(line, cwd=ROOT, env=os.environ | told, stdout=log, stderr=subprocess.STDOUT)
        self.started.append(process)
        wait_until(lambda: process.poll() is not None or "Sign in" in self.log.read_text(), "it is up or refused", 90)
        return process

    def link(self) -> str:
        found = re.search(r"http://\S+/login/\S+/", self.log.read_text())
        assert found, self.log.read_text()
        return found.group()

    def everybody(self) -> set[int]:
        return with_mark(str(self.folder))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    for process in home.started:
        process.kill()
        process.wait(timeout=10)
    wait_until(lambda: not home.everybody(), "every process of this home has gone", 30)


def test_alice_starts_it_signs_in_once_loses_power_and_goes_on_where_she_was(home: Home) -> None:
    first = home.up()
    link = home.link()
    assert signed_in_by(link)
    assert not signed_in_by(link)
    assert not secrets_of_the_worker(home)
    written = "".join(log.read_text() for log in (home.folder / "logs").glob("*.log"))
    assert "Gone: /login/…/" in written, "the second time"
    assert link.rstrip("/").rpartition("/")[2] not in written
    assert "Traceback" not in written

    first.kill()
    second = home.up()  # while the first one's processes are still ending

    assert second.poll() is None, home.log.read_text()
    assert "Starting a first campaign" not in home.log.read_text()
    assert signed_in_by(home.link())
    second.terminate()
    assert second.wait(timeout=40) == 0
    assert not home.everybody()


def signed_in_by(link: str) -> bool:
    """Does this link, opened in a fresh browser, let its reader see the review page?"""
    with requests.Session() as browser:
        walk_in(browser, link)
        page = browser.get(link.partition("/login/")[0] + "/review/", timeout=30)
        return page.status_code == 200 and "/login/" not in page.url


def secrets_of_the_worker(home: Home) -> list[str]:
    """What the worker's guard was told (its environment is the worker's) that a worker must not know."""
    forbidden = ("ANTHROPIC", "SECRET_KEY", "AUDIT_KEY", "DATABASE_URL", "COUNTERSIGN_REDIS_URL")
    guards = [pid for pid in home.everybody() if is_guard_of_the_worker(pid)]
    assert len(guards) == 1
    told = Path(f"/proc/{guards[0]}/environ").read_bytes().decode().split("\0")
    return [line.partition("=")[0] for line in told if any(word in line.partition("=")[0] for word in forbidden)]


def is_guard_of_the_worker(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return any(word.endswith("guard.py") for word in words) and words[-3:-1] == ["gpu_runner", "worker"]
