"""A real house: SQLite in a folder, a private Redis, uvicorn as ``up`` starts it, and a second process that acts."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from django.conf import settings

from webapp.house import redis_server

ROOT = Path(__file__).resolve().parents[2]
SETUP = """
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from gpu_runner import contract
from research.record import campaigns
from research.record import moves
from research.record.rights import Part
from research.runs import dispatch, ending, report
from research.models import Campaign, Event, Run
from tests import builders

call_command("migrate", verbosity=0)
cookies = {}
for name, is_staff in [("alice", True), ("bob", True), ("charlie", False)]:
    client = Client()
    client.force_login(User.objects.create_user(name, is_staff=is_staff))
    cookies[name] = client.cookies[settings.SESSION_COOKIE_NAME].value

answer = cookies

def train(slug):
    "A campaign whose first baseline run is leased, with the means to report on it."
    campaign = builders.make_campaign(slug=slug)
    dispatch.advance(campaign)
    lease = builders.claim(builders.make_worker(name=slug))
    return campaign, lease

def tell(lease, seq, **over):
    run = report.leased(lease.spec.run_id, lease.token)
    fields = {"fence": lease.spec.fence, "seq": seq, "phase": "training", "points": builders.make_points(5 * seq)}
    report.accept(run, contract.Report(**(fields | over)))
"""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """The first true value of ``condition``; fails the test with ``what`` when there is none in time."""
    give_up_at = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < give_up_at, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return value


class House:
    """``say`` acts in the second process; ``serve`` and ``kill`` start and end the web server."""

    def __init__(self, home: Path, redis_url: str, **env: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.env = (
            os.environ
            | env
            | {
                "COUNTERSIGN_HOME": str(home),
                "COUNTERSIGN_REDIS_URL": redis_url,
                "COUNTERSIGN_PORT": str(self.port),
                "COUNTERSIGN_URL": f"http://127.0.0.1:{self.port}",
                "DJANGO_SETTINGS_MODULE": "webapp.settings",
            }
        )
        (home / "static").symlink_to(settings.STATIC_ROOT)  # collected once for all tests
        self._log = (home / "web.log").open("ab")
        self._hand = subprocess.Popen(
            [sys.executable, "-m", "tests.live.hand"],
            cwd=ROOT,
            env=self.env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._web: subprocess.Popen[bytes] | None = None
        self._slugs = (f"campaign-{n}" for n in itertools.count(1))
        self.cookies: dict[str, str] = self.say(SETUP)

    def say(self, code: str) -> Any:
        """Run ``code`` in the second process; the value that it gave to ``answer``."""
        assert self._hand.stdin is not None
        assert self._hand.stdout is not None
        print(json.dumps(dedent(code)), file=self._hand.stdin, flush=True)
        said = json.loads(self._hand.stdout.readline())
        assert "error" not in said, said["error"]
        return said["answer"]

    def train(self) -> tuple[str, int]:
        """A campaign's slug and its run, leased to a worker; ``tell(lease, seq)`` reports five points."""
        slug = next(self._slugs)
        self.say(f"campaign, lease = train({slug!r}); answer = lease.spec.run_id")
        return slug, self.say("answer = lease.spec.run_id")

    def browser(self, name: str | None) -> dict[str, str]:
        """What ``name``'s browser sends from one of our pages; None is somebody who never logged in."""
        origin = {"Origin": f"http://127.0.0.1:{self.port}"}
        return origin | {"Cookie": f"countersign_session={self.cookies[name]}"} if name else origin

    def address(self, path: str, scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def serve(self) -> None:
        assert self._web is None
        command = self.say("from webapp.house import processes; answer = processes.web({}).command")
        self._web = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=self._log, stderr=self._log)
        wait_for(self._listens, f"uvicorn on port {self.port}", 40)

    @property
    def web_pid(self) -> int:
        assert self._web is not None
        return self._web.pid

    def _listens(self) -> bool:
        assert self._web is not None
        assert self._web.poll() is None, Path(self._log.name).read_text()[-2_000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """kill -9: no goodbye, nothing flushed."""
        if self._web is not None:
            self._web.kill()
            self._web.wait(timeout=10)
            self._web = None

    def close(self) -> None:
        self.kill()
        assert self._hand.stdin is not None
        assert self._hand.stdout is not None
        self._hand.stdin.close()
        self._hand.wait(timeout=10)
        self._hand.stdout.close()
        self._log.close()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A private Redis, found as ``up`` finds it."""
    with redis_server.private(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"), redis_url)
    try:
        house.serve()
        yield house
    finally:
        house.close()
