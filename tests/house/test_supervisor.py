"""The supervisor with stand-in children: real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.processes import ROOT, lives, numbers_in, with_mark
from tests.waiting import wait_until

SLEEPS = "import os, sys, time; open({pids!r}, 'a').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
SAYS_WHEN_IT_ENDS = """
import signal, sys, time
def end(*_):
    open({told!r}, "a").write({name!r} + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open({told!r} + ".ready", "a").write("1\\n")
time.sleep(600)
"""


class House:
    """Starts supervisors in one home folder, and knows every process that they brought."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *children: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "tests.house.standin", str(self.home), *children]
        environment = os.environ | {"STANDIN_HOME": str(self.home)}
        process = subprocess.Popen(
            line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.started.append(process)
        return process

    def up(self, *children: str) -> subprocess.Popen[str]:
        process = self.start(*children)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    def everybody(self) -> set[int]:
        return with_mark(f"STANDIN_HOME={self.home}")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "home")
    yield house
    for process in house.started:
        process.kill()
        process.communicate(timeout=10)
    wait_until(lambda: not house.everybody(), "every process of this test has gone")


def test_a_supervisor_killed_with_9_leaves_nobody_and_the_next_one_starts_right_away(
    house: House, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    first = house.up(*(f"{name}={SLEEPS.format(pids=str(pids))}" for name in ("redis", "web")))
    numbers_in(pids, 2)
    assert len(house.everybody()) == 5  # the supervisor, two guards, two children

    first.kill()
    second = house.start(f"web={SLEEPS.format(pids=str(pids))}")  # does not wait until they are gone: it has to

    assert second.stdout is not None
    assert second.stdout.readline() == "up\n"
    numbers_in(pids, 3)
    assert len(house.everybody()) == 3


def test_a_child_that_dies_is_started_again_and_said_so(house: House, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    supervisor = house.up(f"web=print('last words', flush=True); {SLEEPS.format(pids=str(pids))}")
    os.kill(numbers_in(pids, 1)[0], signal.SIGKILL)

    second = numbers_in(pids, 2)[1]

    assert lives(second)
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline().startswith("web was ended by SIGKILL; starts again in 1 s. The end of ")
    assert supervisor.stdout.readline() == "    last words\n"


def test_one_ctrl_c_ends_all_in_the_reverse_order(house: House, tmp_path: Path) -> None:
    told = tmp_path / "told"
    names = ("redis", "web", "control", "worker")
    supervisor = house.up(*(f"{name}={SAYS_WHEN_IT_ENDS.format(told=str(told), name=name)}" for name in names))
    numbers_in(Path(f"{told}.ready"), len(names))  # all of them listen

    supervisor.send_signal(signal.SIGINT)

    assert supervisor.wait(timeout=20) == 0
    assert told.read_text().split() == ["worker", "control", "web", "redis"]
    assert not house.everybody()


def test_a_deaf_child_does_not_keep_bob_waiting_when_he_presses_ctrl_c_again(house: House, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS.format(pids=str(pids))}"
    supervisor = house.up(f"control={deaf}")
    child = numbers_in(pids, 1)[0]

    def press_ctrl_c() -> bool:
        if not lives(child):  # nor is there a handler for it once Python itself ends
            return True
        supervisor.send_signal(signal.SIGINT)
        return False

    wait_until(press_ctrl_c, "the child has been killed", within_s=4.0)  # its own grace is 5 s
    assert supervisor.wait(timeout=10) == 0


def test_a_second_supervisor_of_the_same_home_is_refused_with_the_first_ones_number(
    house: House, tmp_path: Path
) -> None:
    first = house.up(f"web={SLEEPS.format(pids=str(tmp_path / 'pids'))}")
    second = house.start()
    _, said = second.communicate(timeout=20)
    assert second.returncode == 1
    assert said == f"Countersign already runs from {house.home} (process {first.pid}).\n"
    assert first.poll() is None


def test_a_child_that_never_answers_ends_the_start_with_its_last_words(house: House, tmp_path: Path) -> None:
    from webapp.house.supervisor import Child, Stillborn, Supervisor

    command = [sys.executable, "-c", "import sys; sys.exit('port 8321 is taken')"]
    child = Child(name="web", command=command, environment=dict(os.environ), answers=lambda: False)
    supervisor = Supervisor(children=[child], logs=tmp_path / "logs")
    with pytest.raises(Stillborn, match=r"(?s)web exited with 1\. The end of .*web\.log:\n    port 8321 is taken"):
        supervisor.start_all()
    supervisor.end_all()


def test_the_logs_of_the_last_starts_are_kept(tmp_path: Path) -> None:
    from webapp.house.supervisor import LOGS_KEPT, put_aside

    log = tmp_path / "web.log"
    for start in range(6):
        put_aside(log)
        log.write_text(str(start))
    assert [path.read_text() for path in sorted(tmp_path.iterdir())] == ["5", "4", "3", "2"]
    assert len(list(tmp_path.iterdir())) == LOGS_KEPT + 1
