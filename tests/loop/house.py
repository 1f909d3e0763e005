"""The whole house as a newcomer has it: `manage.py up` in a home of its own, with everything real."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import requests

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
Found = TypeVar("Found")


class House:
    """A running Countersign. ``ask`` reads its database, ``wait_for`` gives it time, ``end`` is Ctrl+C."""

    def __init__(self, home: Path, *, script: str = "", also: Mapping[str, str] | None = None, **campaign: Any) -> None:
        """``script`` runs in `manage.py shell` before the start; ``also`` are further environment variables."""
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "COUNTERSIGN_HOME": str(home),
            "COUNTERSIGN_PORT": str(self.port),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.environment |= also or {}
        self.manage("bootstrap")
        if script:
            self.manage("shell", "-v0", "-c", script)
        if campaign:
            fields = ", ".join(f"{name}={value!r}" for name, value in campaign.items())
            # The first proposals were drafted under the old settings.
            update = f"Proposal.objects.all().delete(); Campaign.objects.update({fields})"
            self.manage("shell", "-v0", "-c", f"from research.models import Campaign, Proposal; {update}")
        with open(home / "up.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def manage(self, *args: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, query: str, *args: Any) -> list[sqlite3.Row]:
        database = sqlite3.connect(f"file:{self.home / 'db.sqlite3'}?mode=ro", uri=True, timeout=20)
        database.row_factory = sqlite3.Row
        try:
            return database.execute(query, args).fetchall()
        finally:
            database.close()

    def wait_for(self, what: str, found: Callable[[], Found], *, seconds: float) -> Found:
        """The first true answer of ``found``; after ``seconds`` a failure that shows the logs."""
        give_up_at = time.monotonic() + seconds
        while not (answer := found()):
            assert self.process.poll() is None, f"the house fell down while we waited for {what}:\n{self.last_words()}"
            assert time.monotonic() < give_up_at, f"no {what} within {seconds:.0f} s:\n{self.last_words()}"
            time.sleep(0.1)
        return answer

    def last_words(self) -> str:
        logs = [self.home / "up.log", *sorted((self.home / "logs").glob("*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3_000:]}" for log in logs if log.exists())

    def login_link(self) -> str:
        return self.manage("loginlink").strip()

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=45)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(timeout=10)


def approve(browser: requests.Session, page: str) -> requests.Response:
    html = browser.get(page, timeout=20).text
    names = ("csrfmiddlewaretoken", "digest", "number")
    fields = {name: re.search(rf'name="{name}" value="([^"]+)"', html) for name in names}
    form = {name: found.group(1) for name, found in fields.items() if found} | {"choice": "approve"}
    assert set(form) == {*names, "choice"}
    return browser.post(f"{page}decision/", data=form, headers={"Referer": page}, timeout=20)
