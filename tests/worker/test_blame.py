"""What ended a run, as its supervisor can tell: somebody outside, the machine, its memory, or itself."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu_runner import contract, inquest, sandbox, worker

from .conftest import Bench
from .test_launch import GOOD
from .world import RUN_TOKEN, processes_with, scorer_that_says

FAILED = {"val_bpb": None, "outcome": "failed", "reasons": ["its disk is full"], "provenance": {}, "seconds": 0.1}


def ended(bench: Bench, train: str, **over: Any) -> tuple[str, contract.Failure]:
    end = bench.run(bench.lease(bench.recipe(train + "\n")), **over)
    assert end is not None
    assert end.failure is not None
    assert (end, end.score) == (bench.web.end(), None)
    return end.outcome, end.failure


# --- a signal ---------------------------------------------------------------------------------------


def test_a_run_that_somebody_kills_is_given_back_and_not_called_out_of_memory(bench: Bench, meanwhile: Any) -> None:
    lease = bench.lease(bench.recipe("draw()\npoint(1, train_loss=1.0)\ntime.sleep(600)\n"))

    def kill_the_trainer() -> None:
        bench.web.until(bench.web.steps)
        trainer = [p for p in processes_with(f"{bench.out(lease).parent}") if is_the_trainer(p)]
        assert trainer, "nobody trains"
        os.kill(trainer[-1], signal.SIGKILL)

    meanwhile(kill_the_trainer)
    end = bench.run(lease)
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("lost", "killed")
    assert "killed by signal 9 (SIGKILL) from outside; nothing says that memory ran out" in end.failure.message
    assert end.spent is not None
    assert end.spent.num_tokens == 100


def is_the_trainer(pid: int) -> bool:
    """And not bwrap, nor what leads into it."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"{sys.executable}\0-c\0".encode())


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGXCPU"])
def test_a_signal_that_somebody_sends_says_nothing_of_the_recipe(bench: Bench, name: str) -> None:
    default = f"import signal; signal.signal(signal.{name}, signal.SIG_DFL)\n" if name != "SIGKILL" else ""
    outcome, failure = ended(bench, f"{default}import signal; os.kill(os.getpid(), signal.{name}); time.sleep(60)")
    assert (outcome, failure.kind) == ("lost", "killed")
    assert f"({name}) from outside" in failure.message
    assert "memory" not in failure.todo


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL"])
def test_a_crash_is_the_recipes_and_says_which_signal(bench: Bench, name: str) -> None:
    words = f"import signal; sys.stderr.write('free(): invalid size\\n'); os.kill(os.getpid(), signal.{name})"
    outcome, failure = ended(bench, f"{words}; time.sleep(60)")
    assert (outcome, failure.kind) == ("failed", "recipe_error")
    assert f"({name})" in failure.message
    assert "free(): invalid size" in failure.message
    assert "memory ran out" not in failure.message


@pytest.mark.parametrize(
    ("held", "outcome", "kind", "said"),
    [(1 << 20, "lost", "machine_failed", "others used the rest"), (1 << 60, "failed", "out_of_memory", "It held 1,0")],
)
def test_a_kill_while_the_kernel_ends_processes_for_want_of_memory_is_said_to_be_that(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, held: int, outcome: str, kind: str, said: str
) -> None:
    """The counter is the whole machine's: whether it meant this run is told by what the run held."""
    counts = iter([3, 4])
    monkeypatch.setattr(inquest, "out_of_memory_kills", lambda: next(counts))
    monkeypatch.setattr("gpu_runner.sandbox.Cell.peak_bytes", held)
    found = ended(bench, "os.kill(os.getpid(), 9)")
    assert (found[0], found[1].kind) == (outcome, kind)
    assert "ended 1 process for want of memory while it trained (oom_kill in /proc/vmstat)" in found[1].message
    assert said in found[1].message


# --- a disk -----------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_gives_the_run_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquest, "MIN_FREE_BYTES", 1 << 60)
    outcome, failure = ended(bench, "time.sleep(60)")
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert "MiB are left on the disk of" in failure.message


@pytest.mark.parametrize(
    ("mebibytes", "kind", "said"),
    [(300, "over_limit", "The run wrote 300 MiB of it itself."), (100, "machine_failed", "")],
)
def test_a_run_that_fills_it_alone_answers_for_that(tmp_path: Path, mebibytes: int, kind: str, said: str) -> None:
    (tmp_path / "out").mkdir()
    with sandbox.Cell(level="none") as cell, (tmp_path / "out" / "much").open("wb") as file:
        asked = inquest.Inquest(tmp_path, cell)
        os.posix_fallocate(file.fileno(), 0, mebibytes << 20)
        asked.free_bytes = 600 << 20  # as much as there was on its disk when it began
        failure = asked._of_a_full_disk("Nothing is left.").failure
    assert (failure.kind, said in failure.message) == (kind, True)


def test_where_nothing_can_be_written_the_run_is_not_asked_for_its_word(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inquest, "disk_problem", lambda _: "its disk quota is used up")
    outcome, failure = ended(bench, "raise RuntimeError('statistics are odd')")
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert "its disk quota is used up" in failure.message


def test_a_worker_without_room_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker.no_room(tmp_path) is None
    assert worker.no_room(tmp_path / "not made yet") is None
    monkeypatch.setattr(worker, "MIN_FREE_BYTES", 1 << 60)
    assert "are left on the disk of" in (worker.no_room(tmp_path) or "")


# --- the run's own word -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind, fault in contract.FAULT_OF.items() if fault == "operator"])
def test_once_the_recipe_runs_it_cannot_blame_whoever_set_the_machine_up(bench: Bench, kind: str) -> None:
    said = f"draw(); finish('failed', {{'kind': {kind!r}, 'message': 'not my fault'}}); sys.exit(1)"
    outcome, failure = ended(bench, said)
    assert (outcome, failure.kind) == ("failed", "recipe_error")


def test_a_run_that_blames_the_machine_is_tried_again_and_told_what_is_seen_from_outside(bench: Bench) -> None:
    said = "{'kind': 'machine_failed', 'message': 'The machine failed: its disk is full.', 'todo': 'df'}"
    outcome, failure = ended(bench, f"draw(); finish('failed', {said}); sys.exit(1)")
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert "Seen from outside" in failure.message
    assert "a file can be written" in failure.message


@pytest.mark.parametrize(
    ("kind", "hard", "outcome", "blamed"),
    [
        ("over_limit", 1_024, "lost", "machine_failed"),
        ("over_limit", resource.RLIM_INFINITY, "failed", "over_limit"),
        ("out_of_memory", 1 << 30, "lost", "machine_failed"),
        ("out_of_memory", 1 << 60, "failed", "out_of_memory"),
        ("not_finite", 1_024, "failed", "not_finite"),
    ],
)
def test_a_limit_is_the_machines_where_the_worker_itself_was_given_less_than_a_run_may_have(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kind: str, hard: int, outcome: str, blamed: str
) -> None:
    monkeypatch.setattr(inquest.resource, "getrlimit", lambda _: (1, hard))
    found = ended(bench, f"draw(); finish('failed', {{'kind': {kind!r}, 'message': 'Too much.'}}); sys.exit(1)")
    assert (found[0], found[1].kind) == (outcome, blamed)
    assert ("This worker itself was given less" in found[1].message) == (blamed == "machine_failed")


# --- helpers ----------------------------------------------------------------------------------------

KILLED = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")


def test_a_scorer_that_somebody_kills_says_nothing_of_the_model(bench: Bench) -> None:
    outcome, failure = ended(bench, GOOD, scorer=KILLED)
    assert (outcome, failure.kind) == ("lost", "killed")
    assert "The scorer was ended by signal 9" in failure.message


@pytest.mark.parametrize(
    ("exit_code", "outcome", "kind"), [(75, "lost", "machine_failed"), (1, "failed", "scorer_failed")]
)
def test_nor_does_one_whose_machine_failed(bench: Bench, exit_code: int, outcome: str, kind: str) -> None:
    program = f"{scorer_that_says(FAILED)[2]}; import sys; sys.exit({exit_code})"
    found = ended(bench, GOOD, scorer=(sys.executable, "-c", program))
    assert (found[0], found[1].kind, found[1].message) == (outcome, kind, "its disk is full")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -9 $$", "ended by signal 9"),
        ("echo 'fatal: write error: No space left on device' >&2; exit 128", "its disk is full"),
    ],
)
@pytest.mark.parametrize("step", ["apply", "bundle", "rev-list", "checkout-index"])
def test_git_that_is_killed_or_finds_no_room_says_nothing_of_the_patch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, script: str, said: str, step: str
) -> None:
    repository = bench.recipe(GOOD)
    patch = repository.patch({"train.py": (repository.folder / "train.py").read_text() + "# a word\n"})
    lease = bench.lease(repository, patch=patch)
    broken = bench.folder / "bin" / "git"
    broken.parent.mkdir()
    broken.write_text(
        f'#!/bin/sh\nfor word; do [ "$word" = {step} ] && {{ {script}; }}; done\nexec /usr/bin/git "$@"\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    end = bench.run(lease)
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("lost", "machine_failed")
    assert said in end.failure.message


def test_a_comparison_that_is_killed_says_nothing_of_the_change(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_runner.by_heart.ask.COMMAND", KILLED)
    repository = bench.recipe(GOOD)
    end = bench.run(bench.lease(repository))
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("lost", "killed")


@pytest.mark.parametrize("name", ["ENOSPC", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EIO"])
def test_what_fails_under_the_workers_own_hands_gives_the_run_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import errno

    def fails(*_: object, **__: object) -> None:
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number), str(bench.folder))

    monkeypatch.setattr("gpu_runner.launch.write_harness_spec", fails)
    outcome, failure = ended(bench, GOOD)
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert RUN_TOKEN not in failure.message
