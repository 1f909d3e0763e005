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

from gpu_runner import contract
from tests import builders
from tests.doors import walk_in
from tests.ports import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
NUM_TRIALS = int(os.environ.get("RACE_TRIALS", "5"))
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
        self.backend, self.database = backend, database
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
        self.log, self.num_read = home / "town.log", 0
        self.stage = Hand(self.environment, self.log)
        self.control = Hand(self.environment, self.log)
        with open(self.log, "ab") as log:
            self.web = subprocess.Popen(
                self.stage.do("web_command"), cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.stage.do("manage", words=["migrate", "-v0"])  # from nothing
        self._welcome()

    def _welcome(self) -> None:
        wait_until(self._answers, "the login page", within_s=PATIENCE_S)
        links = self.stage.do("enrol_people", names=NAMES)
        self.browsers = {name: self._sign_in(token) for name, token in links.items()}
        lock = self.stage.do("lock_sha256")
        tokens = self.stage.do("enrol_workers", names=["box-1", "box-2"])
        self.boxes = [Box(self.url, token, lock) for token in tokens.values()]

    def _answers(self) -> bool:
        assert self.web.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}/login/", timeout=5).ok
        except requests.ConnectionError:
            return False

    def _sign_in(self, token: str) -> requests.Session:
        browser = requests.Session()
        assert walk_in(browser, f"{self.url}/login/{token}/").status_code == 200
        return browser

    def screen(self, name: str, path: str) -> Form:
        return Form(self.browsers[name], f"{self.url}/{path}/")

    def complaints(self) -> str:
        """What the processes have logged since the last call, if it tells of a crash, a lock not had or a deadlock."""
        words = self.log.read_text()[self.num_read :]
        self.num_read += len(words)
        return words if any(bad in words for bad in BAD_WORDS) else ""

    def end(self) -> None:
        for browser in self.browsers.values():
            browser.close()
        self.web.terminate()
        for hand in (self.stage, self.control):
            hand.end()
        self.web.wait(timeout=20)


class Form:
    """A page as a person has it on the screen: what its form will send, and for which revision."""

    def __init__(self, browser: requests.Session, page: str) -> None:
        self.browser, self.page = browser, page
        answer = browser.get(page, timeout=PATIENCE_S)
        assert answer.status_code == 200, page
        self.fields = {
            name: found.group(1)
            for name in ("csrfmiddlewaretoken", "digest", "number", "gates_sha256")
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

    def override(self, reason: str) -> requests.Response:
        """On the page of a blocked proposal."""
        return self.send(f"{self.page}override/", reason=reason)

    def stop(self) -> requests.Response:
        """On the page of a run."""
        return self.send(f"{self.page}stop/", reason="not now")

    def halt(self) -> requests.Response:
        """On the page of a campaign."""
        return self.send(f"{self.page}state/", state="halted", reason="the data is wrong")


class Box:
    """A GPU machine that speaks to the worker API."""

    def __init__(self, url: str, token: str, lock_sha256: str) -> None:
        self.url, self.token = f"{url}/api/worker/", token
        self.wanted = contract.Claim(hardware_class="cpu-x86_64", sandbox_level="bubblewrap", lock_sha256=lock_sha256)

    def say(self, what: str, said: contract.Wire, token: str) -> requests.Response:
        return requests.post(
            self.url + what,
            data=said.model_dump_json(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            timeout=PATIENCE_S,
        )

    def claim(self) -> requests.Response:
        return self.say("claim", self.wanted, self.token)

    def lease(self) -> contract.Lease:
        answer = self.claim()
        assert answer.status_code == 200, answer.text
        return contract.parse(contract.Lease, answer.content)

    def report(self, lease: contract.Lease, *, fence: int | None = None) -> requests.Response:
        spec = lease.spec
        said = contract.Report(
            fence=spec.fence if fence is None else fence,
            seq=spec.next_seq,
            phase="training",
            points=builders.make_points(),
        )
        return self.say(f"runs/{spec.run_id}/report", said, lease.token)

    def finish(self, lease: contract.Lease) -> requests.Response:
        last = contract.RunEnd(
            fence=lease.spec.fence, outcome="finished", score=builders.make_score(1.6), device_s=30.0, num_steps=5
        )
        return self.say(f"runs/{lease.spec.run_id}/end", last, lease.token)

    def crash(self, lease: contract.Lease) -> requests.Response:
        failure = contract.Failure(kind="out_of_memory", message="It ran out of memory at step 3.")
        last = contract.RunEnd(fence=lease.spec.fence, outcome="failed", failure=failure, device_s=3.0)
        return self.say(f"runs/{lease.spec.run_id}/end", last, lease.token)


def at_once(acts: Sequence[Callable[[], Answer]]) -> list[Answer]:
    """Everybody acts at the same moment; their answers, in the order of ``acts``."""
    gun = threading.Barrier(len(acts))

    def run(act: Callable[[], Answer]) -> Answer:
        gun.wait(PATIENCE_S)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))
