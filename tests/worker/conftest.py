from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpu_runner import contract
from gpu_runner.worker.client import Front
from gpu_runner.worker.launch import run_lease
from gpu_runner.worker.parts import Machine

from .web import WORKER_TOKEN, Web, playing_web
from .world import Repository, make_dataset, make_lease, make_machine


@pytest.fixture
def web() -> Iterator[Web]:
    with playing_web() as playing:
        yield playing


@dataclass
class Bench:
    """One GPU machine, one recipe, and the web side they answer to."""

    web: Web
    folder: Path
    leaving: threading.Event = field(default_factory=threading.Event)

    def recipe(self, train: str) -> Repository:
        repository = Repository(self.folder / "recipe", train)
        self.web.bundle = repository.bundle()
        return repository

    def machine(self, **over: Any) -> Machine:
        return make_machine(self.folder, **over)

    def lease(self, repository: Repository, **over: Any) -> contract.Lease:
        return make_lease(repository.commit, make_dataset(self.folder / "home" / "datasets"), **over)

    def run(self, lease: contract.Lease, **over: Any) -> contract.RunEnd | None:
        front = Front(self.web.url, WORKER_TOKEN)
        return run_lease(lease, machine=self.machine(**over), front=front, is_leaving=self.leaving.is_set)

    def out(self, lease: contract.Lease) -> Path:
        return self.folder / "home" / "runs" / f"run-{lease.spec.run_id}-fence-{lease.spec.fence}" / "out"


@pytest.fixture
def bench(web: Web, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(web, tmp_path)
    yield bench
    bench.leaving.set()


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Let a person act in a thread while the test's own thread trains; what went wrong there fails the test."""
    wrong: list[BaseException] = []
    threads: list[threading.Thread] = []

    def start(act: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001  raised again below
                wrong.append(error)

        threads.append(threading.Thread(target=guarded))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(60)
    assert not wrong, wrong
