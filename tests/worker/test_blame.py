"""What ended a run, as its supervisor can tell: somebody outside, the machine, its memory, or itself."""

from __future__ import annotations

import errno
import gc
import os
import resource
import shutil
import signal
import sys
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_runner import contract, sandbox
from gpu_runner.worker import inquest, serve
from gpu_runner.worker.parts import SCORER

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
@pytest.mark.parametrize(
    "does",
    [
        "os.kill(os.getpid(), 9)",
        "draw(); finish('failed', {'kind': 'killed', 'message': 'DataLoader worker is killed'}); sys.exit(1)",
    ],
    ids=["it", "its helper"],
)
def test_a_kill_while_the_kernel_ends_processes_for_want_of_memory_is_said_to_be_that(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, held: int, outcome: str, kind: str, said: str, does: str
) -> None:
    """The counter is the whole machine's: whether it meant this run is told by what the run held."""
    counts = chain([3], repeat(4))
    monkeypatch.setattr(inquest, "out_of_memory_kills", lambda: next(counts))
    monkeypatch.setattr("gpu_runner.sandbox.Cell.peak_bytes", held)
    found = ended(bench, does)
    assert (found[0], found[1].kind) == (outcome, kind)
    assert "ended 1 process for want of memory while it trained" in found[1].message
    assert said in found[1].message


# --- a disk -----------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_gives_the_run_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquest, "MIN_FREE_BYTES", 1 << 60)
    outcome, failure = ended(bench, "time.sleep(60)")
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert "MiB are left on the disk of" in failure.message


@pytest.mark.parametrize(
    ("mebibytes", "free_files", "kind"),
    [(300, 1e6, "over_limit"), (100, 1e6, "machine_failed"), (100, 2, "over_limit")],
    ids=["with bytes", "not alone", "with files"],
)
def test_a_run_that_fills_it_alone_answers_for_that(
    tmp_path: Path, mebibytes: int, free_files: float, kind: str
) -> None:
    (tmp_path / "out").mkdir()
    with sandbox.Cell(level="none") as cell, (tmp_path / "out" / "much").open("wb") as file:
        asked = inquest.Inquest(tmp_path, cell)
        os.posix_fallocate(file.fileno(), 0, mebibytes << 20)
        asked.free_bytes, asked.free_files = 600 << 20, free_files  # as there were on its disk when it began
        failure = asked._of_a_full_disk("Nothing is left.").failure
    assert failure.kind == kind
    assert f"The run wrote {mebibytes} MiB in 1 files itself." in failure.message


def test_a_run_that_fills_it_with_files_that_it_deletes_answers_for_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds them open: no folder shows them, and the disk is full all the same."""
    repository = bench.recipe(
        "much = open(OUT + '/much', 'wb'); os.unlink(OUT + '/much')\n"
        "os.posix_fallocate(much.fileno(), 0, 300 << 20); tell('written'); time.sleep(600)\n"
    )
    lease = bench.lease(repository)
    begun = inquest.Inquest.__init__

    def on_a_small_disk(self: inquest.Inquest, folder: Path, cell: sandbox.Cell) -> None:
        begun(self, folder, cell)
        self.free_bytes = 600 << 20

    def free(_: object) -> Any:
        return SimpleNamespace(free=0 if (bench.out(lease) / "written").exists() else 1 << 40)

    monkeypatch.setattr(inquest.Inquest, "__init__", on_a_small_disk)
    monkeypatch.setattr(inquest.shutil, "disk_usage", free)
    end = bench.run(lease)
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", "over_limit")
    assert "The run wrote 300 MiB" in end.failure.message


def test_where_nothing_can_be_written_the_run_is_not_asked_for_its_word(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inquest, "disk_problem", lambda _: "its disk quota is used up")
    outcome, failure = ended(bench, "raise RuntimeError('statistics are odd')")
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert "its disk quota is used up" in failure.message


def test_a_worker_without_room_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert serve.no_room(tmp_path) is None
    assert serve.no_room(tmp_path / "not made yet") is None
    monkeypatch.setattr(serve, "MIN_FREE_BYTES", 1 << 60)
    assert "are left on the disk of" in (serve.no_room(tmp_path) or "")


def test_nor_does_one_that_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would claim one run after another, and end with each of them."""
    monkeypatch.setattr(serve, "disk_problem", lambda _: "its disk can only be read")
    assert serve.no_room(tmp_path) == f"nothing can be written to {tmp_path}: its disk can only be read"


@pytest.mark.parametrize("step", ["mkdir", "glob"], ids=["before", "after"])
def test_a_folder_that_cannot_be_made_or_cleared_away_ends_no_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    lease, real = bench.lease(bench.recipe(GOOD)), getattr(Path, step)

    def broken(path: Path, *how: Any, **more: Any) -> Any:
        if (path if step == "glob" else path.parent) == bench.folder / "home" / "runs":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, *how, **more)

    monkeypatch.setattr(Path, step, broken)
    end = bench.run(lease)
    assert end == bench.web.end()
    assert end is not None
    if step == "mkdir":
        assert end.failure is not None
        assert (end.outcome, end.failure.kind) == ("lost", "machine_failed")
    else:
        assert end.outcome == "finished", "what was measured counts"


def test_runs_that_cannot_be_started_leave_no_pipes_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def num_open() -> int:
        return len(os.listdir("/proc/self/fd"))

    lease = bench.lease(bench.recipe(GOOD))
    bench.run(lease)
    before = num_open()
    monkeypatch.setattr(sandbox.Cell, "argv", lambda *_: ["/nowhere/python"])
    for _ in range(3):
        bench.run(lease)
    monkeypatch.undo()
    for shard in (bench.folder / "home" / "datasets" / "tiny" / "train").glob("*.bin"):
        shard.unlink()
    for _ in range(3):
        assert bench.run(lease) is not None
    gc.collect()
    assert num_open() <= before


# --- a clock ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stall_s", "outcome", "kind"), [(0.0, "lost", "machine_failed"), (60.0, "timed_out", "deadline")]
)
def test_a_machine_that_stood_still_is_not_said_to_be_a_slow_recipe(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stall_s: float, outcome: str, kind: str
) -> None:
    monkeypatch.setattr(inquest, "STALL_S", stall_s)
    end = bench.run(bench.lease(bench.recipe("time.sleep(600)\n"), deadline_s=0.5))
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == (outcome, kind)
    assert ("stood still for" in end.failure.message) == (outcome == "lost")


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
    said = "it has more files open than a run may have"
    found = ended(bench, f"draw(); finish('failed', {{'kind': {kind!r}, 'message': {said!r}}}); sys.exit(1)")
    assert (found[0], found[1].kind) == (outcome, blamed)
    assert ("This worker itself was given less" in found[1].message) == (blamed == "machine_failed")


# --- helpers ----------------------------------------------------------------------------------------

KILLED = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")


def test_a_scorer_that_somebody_kills_says_nothing_of_the_model(bench: Bench) -> None:
    outcome, failure = ended(bench, GOOD, scorer=KILLED)
    assert (outcome, failure.kind) == ("lost", "killed")
    assert "The scorer was ended by signal 9" in failure.message


@pytest.mark.parametrize(
    ("exit_code", "outcome", "kind", "said"),
    [
        (75, "lost", "machine_failed", "its disk is full"),
        (1, "failed", "scorer_failed", "its disk is full"),
        (2, "failed", "worker_error", "The scorer could not begin: its disk is full"),
    ],
)
def test_nor_does_one_whose_machine_failed_or_that_could_not_begin(
    bench: Bench, exit_code: int, outcome: str, kind: str, said: str
) -> None:
    program = f"{scorer_that_says(FAILED)[2]}; import sys; sys.exit({exit_code})"
    found = ended(bench, GOOD, scorer=(sys.executable, "-c", program))
    assert (found[0], found[1].kind, found[1].message) == (outcome, kind, said)


def test_a_scorer_that_breaks_is_ours_to_mend(bench: Bench) -> None:
    outcome, failure = ended(bench, GOOD, scorer=(sys.executable, "-c", "raise ZeroDivisionError"))
    assert (outcome, failure.kind) == ("failed", "worker_error")


def test_held_out_text_that_is_deleted_while_a_run_trains_is_no_fault_of_its_model(
    bench: Bench, meanwhile: Any
) -> None:
    lease = bench.lease(bench.recipe("draw(3); tell('trained'); wait_for('deleted'); save(); finish()\n"))

    def delete() -> None:
        bench.web.until(lambda: (bench.out(lease) / "trained").exists())
        for shard in (bench.folder / "home" / "datasets" / "tiny").glob("*/val-*.bin"):
            shard.unlink()
        (bench.out(lease) / "deleted").touch()

    meanwhile(delete)
    end = bench.run(lease, scorer=SCORER)
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", "worker_error")
    assert "val-00000.bin: No such file or directory" in end.failure.message


@pytest.mark.parametrize(("hardware_class", "device"), [("cpu-x86_64", "cpu"), ("nvidia-h200", "cuda")])
def test_a_run_is_told_what_it_trains_and_is_scored_on(bench: Bench, hardware_class: str, device: str) -> None:
    """A GPU that is gone would else be a CPU under its name: another number, after hours."""
    good = {"val_bpb": 1.5, "outcome": "ok", "provenance": {}, "seconds": 0.1}
    words = "sys.argv[sys.argv.index('--device') + 1:][:1]"
    scorer = (sys.executable, "-c", f"import json, sys; print(json.dumps({good!r} | {{'reasons': {words}}}))")
    told = "assert json.load(open(RUN + '/spec.json'))['device'] == {device!r}; "
    lease = bench.lease(bench.recipe(told.format(device=device) + GOOD))
    end = bench.run(lease, scorer=scorer, hardware_class=hardware_class)
    assert end is not None
    assert end.score is not None, end.failure
    assert end.score.reasons == [device]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -9 $$", "ended by signal 9"),
        ("echo 'fatal: write error: No space left on device' >&2; exit 128", "No space left on device"),
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
    monkeypatch.setattr("gpu_runner.worker.leakage.COMMAND", KILLED)
    repository = bench.recipe(GOOD)
    end = bench.run(bench.lease(repository))
    assert end is not None
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("lost", "killed")


@pytest.mark.parametrize("name", ["ENOSPC", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EIO"])
def test_what_fails_under_the_workers_own_hands_gives_the_run_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number), str(bench.folder))

    monkeypatch.setattr("gpu_runner.worker.launch.write_harness_spec", fails)
    outcome, failure = ended(bench, GOOD)
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert RUN_TOKEN not in failure.message


# --- before any of the recipe runs --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("sys.exit('bwrap: Creating new namespace failed: No space left on device')", "Creating new namespace failed"),
        ("os.kill(os.getpid(), 11)", "signal 11 (SIGSEGV)"),
        ("os._exit(127)", "exit code 127"),
    ],
    ids=["bwrap", "crash", "not found"],
)
def test_what_ends_before_any_of_the_recipe_ran_is_not_the_recipes(bench: Bench, does: str, said: str) -> None:
    program = f"import os, sys; {does}"
    outcome, failure = ended(bench, GOOD, harness=(sys.executable, "-c", program))
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert said in failure.message
    assert "before any of the recipe ran" in failure.message


def test_a_bubblewrap_that_is_removed_while_the_worker_runs_is_the_machines(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: "/nowhere/bwrap" if name == "bwrap" else which(name))
    outcome, failure = ended(bench, GOOD)
    assert (outcome, failure.kind) == ("lost", "machine_failed")
    assert "/nowhere/bwrap: No such file or directory" in failure.message
