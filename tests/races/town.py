"""A web process as `make run` starts it, on SQLite or PostgreSQL, and the people and workers who use it all at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import requests

from tests.yard.processes import wait_until

from .postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
NUM_TRIALS = int(os.environ.get("RACE_TRIALS", "8"))
NAMES = ("bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan")
PATIENCE_S = 60.0
BAD_WORDS = ("Traceback", "database is locked", "deadlock detected", "Internal Server Error")
Answer = TypeVar("Answer")


class Hand:
    """A stagehand (``stagehand.py``): one thing at a time, in its own process."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        with open(log, "ab") as words:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.races.stagehand"],
                cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True,
            )  # fmt: skip

    def do(self, verb: str, **words: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"verb": verb} | words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the stagehand died at {verb}"
        answer = json.loads(line)
        assert "broke" not in answer, answer["broke"]
        return answer["answer"]

    def end(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()


class Town:
    """One backend: its home, its web process, its stagehands. ``database`` is empty for SQLite."""

    def __init__(self, backend: str, home: Path, static: Path, database: str = "") -> None:
        self.backend = backend
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (home / "static").symlink_to(static)  # collected once for all tests
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "COUNTERSIGN_HOME": str(home),
            "COUNTERSIGN_PORT": str(self.port),
            "COUNTERSIGN_DATABASE_URL": database,
            "COUNTERSIGN_LOG_LEVEL": "WARNING",
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.manage("migrate", "-v0")
        self.log = home / "town.log"
        self.stage = Hand(self.environment, self.log)
        self.control = Hand(self.environment, self.log)
        self._open()

    def _open(self) -> None:
        with open(self.log, "ab") as log:
            self.web = subprocess.Popen(
                self.stage.do("web_command"), cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        wait_until(self._answers, "the login page", within_s=PATIENCE_S)
        links = self.stage.do("enrol_people", names=NAMES)
        self.browsers = {name: self._sign_in(token) for name, token in links.items()}
        self.tokens = self.stage.do("enrol_workers", names=["box-1", "box-2"])

    def _answers(self) -> bool:
        assert self.web.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}/login/", timeout=5).ok
        except requests.ConnectionError:
            return False

    def _sign_in(self, token: str) -> requests.Session:
        browser = requests.Session()
        assert browser.get(f"{self.url}/login/{token}/", timeout=PATIENCE_S).status_code == 200
        return browser

    def manage(self, *words: str) -> str:
        line = [sys.executable, "manage.py", *words]
        done = subprocess.run(line, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def complaints(self) -> list[str]:
        """Lines of the processes' log that tell of a crash, a lock that was not had, a deadlock."""
        return [line for line in self.log.read_text().splitlines() if any(word in line for word in BAD_WORDS)]

    def end(self) -> None:
        for browser in self.browsers.values():
            browser.close()
        self.web.terminate()
        self.web.wait(timeout=20)
        self.stage.end()
        self.control.end()


class Form:
    """A page as a person has it on the screen: what its form will send, and for which revision."""

    def __init__(self, browser: requests.Session, page: str) -> None:
        self.browser, self.page = browser, page
        answer = browser.get(page, timeout=PATIENCE_S)
        assert answer.status_code == 200, page
        self.fields = {
            name: found.group(1)
            for name in ("csrfmiddlewaretoken", "digest")
            if (found := re.search(rf'name="{name}" value="([^"]+)"', answer.text))
        }

    def send(self, there: str = "", **said: str) -> requests.Response:
        return self.browser.post(
            there or f"{self.page}decision/",
            data=self.fields | said,
            headers={"Referer": self.page},
            allow_redirects=False,
            timeout=PATIENCE_S,
        )


def at_once(acts: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """Everybody acts at the same moment; their answers, in the order of ``acts``."""
    gun = threading.Barrier(len(acts))

    def run(act: Callable[[], Answer]) -> Answer:
        gun.wait(PATIENCE_S)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))
