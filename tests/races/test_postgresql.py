"""What only PostgreSQL lets happen: two transactions really overlap. Each overlap is arranged, not hoped for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.yard.processes import wait_until

from .postgres import make_database
from .town import ROOT, Town


@pytest.fixture
def town(towns: Callable[[str], Town]) -> Iterator[Town]:
    town = towns("postgresql")
    yield town
    assert town.complaints() == ""
    assert town.stage.do("findings") == []


@contextmanager
def nobody_writes(town: Town, table: str) -> Iterator[psycopg.Connection[Any]]:
    """Whoever inserts into ``table`` waits until this ends, in the middle of its transaction."""
    with psycopg.connect(town.database) as line:
        line.execute(f"LOCK TABLE {table} IN SHARE MODE")
        yield line
        line.rollback()


def num_waiting(town: Town) -> int:
    with psycopg.connect(town.database) as line:
        (count,) = line.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() or (0,)
    return int(count)


def done_or_waits(town: Town, act: Future[Any], num_others: int) -> Callable[[], bool]:
    return lambda: act.done() or num_waiting(town) > num_others


def test_a_click_that_is_held_up_never_approves_a_revision_that_was_not_shown(town: Town) -> None:
    there = town.stage.do("make_pending")
    number, shown = there["proposals"][0], there["digests"][0]
    form = town.screen("bob", f"proposals/{number}")
    with ThreadPoolExecutor(2) as people:
        with nobody_writes(town, "research_decision"):
            click = people.submit(form.send, choice="approve")
            wait_until(lambda: num_waiting(town) == 1, "the click waits before it writes its decision")
            another = people.submit(
                town.control.do, "look_after", campaign=there["campaign"], proposal=number, budget=600_000.0
            )
            wait_until(done_or_waits(town, another, 1), "a new revision is on the table, or waits for the click")
        another.result(30)
        assert click.result(30).status_code in (302, 409)
    told = town.stage.do("told", proposal=number)
    assert told["digest"] == shown or told["state"] not in ("approved", "running"), told


def test_a_crashed_baseline_and_a_halt_do_not_wait_for_each_other_in_a_circle(town: Town) -> None:
    there, box = town.stage.do("make_queued"), town.boxes[0]
    lease = box.lease()
    page = town.screen("carol", f"campaigns/{there['slug']}")
    with ThreadPoolExecutor(2) as people:
        with nobody_writes(town, "research_ledgerentry"):
            crash = people.submit(box.crash, lease)
            wait_until(lambda: num_waiting(town) == 1, "the end waits before it charges its GPU-seconds")
            halt = people.submit(page.halt)
            wait_until(done_or_waits(town, halt, 1), "the halt waits for the end")
        assert (crash.result(30).status_code, halt.result(30).status_code) in {(200, 302), (200, 409)}
    assert town.stage.do("told_of_run", run=there["run"])["state"] == "failed"


def test_who_begins_the_record_never_waits_with_tables_in_hand_for_somebody_who_writes(town: Town) -> None:
    with psycopg.connect(town.database) as bob, ThreadPoolExecutor(1) as people:
        bob.execute("LOCK TABLE research_worker IN ROW EXCLUSIVE MODE")  # as his first write does
        beginning = people.submit(town.stage.do, "begin_anew")
        while not beginning.done():
            with bob.transaction(force_rollback=True):
                for table in ("campaign", "proposal", "revision", "decision", "run"):
                    bob.execute(f"LOCK TABLE research_{table} IN ROW EXCLUSIVE MODE")
        assert "try again" in beginning.result()
    assert town.stage.do("begin_anew") == "begun"


def test_the_rules_hold_on_it_as_they_do_on_sqlite(server: str) -> None:
    """The tests of the lifecycle and of what is held, once more: its database is made from the first migration on."""
    told = os.environ | {"TEST_DATABASE_URL": make_database(server, "rules"), "OMP_NUM_THREADS": "1"}
    which = ["tests/research/test_lifecycle.py", "tests/research/test_loop.py::test_judging_twice_writes_one_verdict"]
    which += ["tests/research/test_held.py", "tests/research/test_audit.py::test_a_changed_event_is_named"]
    which += ["tests/research/test_turns.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *which], cwd=ROOT, env=told, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
