"""A machine that fails is not taken for a proposal that is wrong: real full disks, real limits, and every coat."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import get_args

import pytest
from safetensors import SafetensorError

from gpu_runner.contract import FAULT_OF, FailureKind
from gpu_runner.harness import failures
from gpu_runner.machine import faults
from gpu_runner.machine.faults import are_machines, cause_in, cause_of, disk_problem, signal_of
from gpu_runner.sandbox.bubblewrap import TMPFS_BYTES
from tests.gpu_runner.training import Heard, listen, make_run_dir

SOURCE = Path("/run-1/source")


def test_of_every_kind_of_failure_it_is_said_whose_fault_it_is() -> None:
    assert set(FAULT_OF) == set(get_args(FailureKind))
    assert {each.kind for each in failures.RunFailed.__subclasses__()} <= set(FAULT_OF)


def test_the_page_that_people_read_says_the_same() -> None:
    page = (Path(faults.__file__).parents[2] / "docs" / "trainer.md").read_text()
    assert dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.M)) == FAULT_OF


# --- real ones ------------------------------------------------------------------------------------


def on_a_small_disk(num_bytes: int, place: Path) -> list[str]:
    """What stands before a command that is to find a disk of so many bytes at ``place``."""
    return ["bwrap", "--dev-bind", "/", "/", "--size", str(num_bytes), "--tmpfs", str(place)]


def train(folder: Path, before: Callable[[Path], list[str]]) -> Heard:
    return listen(folder, before=before(folder / "out"))


def test_a_disk_that_is_full_when_the_checkpoint_is_written_is_the_machines(dataset: Path, tmp_path: Path) -> None:
    heard = train(make_run_dir(tmp_path / "run", dataset), lambda out: on_a_small_disk(100_000, out))
    failure = heard.ended["failure"]
    assert failure["kind"] == "machine_failed", failure
    assert failure["message"].startswith("The machine failed: its disk is full. ")
    assert "Correct the code" not in failure["todo"]
    assert "df" in failure["todo"]


def test_so_is_one_that_is_full_when_a_snapshot_is_written(dataset: Path, tmp_path: Path) -> None:
    folder = make_run_dir(tmp_path / "run", dataset, snapshot_every_s=0.001, max_steps=None)
    failure = train(folder, lambda out: on_a_small_disk(100_000, out)).ended["failure"]
    assert (failure["kind"], "its disk is full" in failure["message"]) == ("machine_failed", True), failure


def test_a_file_larger_than_a_runs_may_be_is_the_proposals(dataset: Path, tmp_path: Path) -> None:
    limited = ["prlimit", "--fsize=100000"]
    failure = train(make_run_dir(tmp_path / "run", dataset), lambda _: limited).ended["failure"]
    assert failure["kind"] == "over_limit", failure
    assert "larger than a run's may be" in failure["message"]


def test_so_are_more_open_files_than_a_run_may_have(dataset: Path, tmp_path: Path) -> None:
    edit = ("    model = build_model(", "    kept = [open(__file__) for _ in range(5_000)]\n    model = build_model(")
    folder = make_run_dir(tmp_path / "run", dataset, edits=(edit,))
    failure = train(folder, lambda _: ["prlimit", "--nofile=512"]).ended["failure"]
    assert (failure["kind"], "more files open" in failure["message"]) == ("over_limit", True), failure


def test_what_is_raised_from_a_full_disk_is_too_however_it_is_wrapped(dataset: Path, tmp_path: Path) -> None:
    wrapped = """
    import pathlib, sys
    try:
        pathlib.Path(sys.argv[1], "out", "much").write_bytes(bytes(1 << 20))
    except Exception as error:
        raise ValueError("could not keep my statistics")
    model = build_model("""
    folder = make_run_dir(tmp_path / "run", dataset, edits=(("    model = build_model(", wrapped),))
    failure = train(folder, lambda out: on_a_small_disk(100_000, out)).ended["failure"]
    assert failure["kind"] == "machine_failed", failure
    assert "could not keep my statistics" in failure["message"]


def test_an_interrupt_from_outside_is_no_mistake_in_the_code(dataset: Path, tmp_path: Path) -> None:
    folder = make_run_dir(tmp_path / "run", dataset, max_steps=None, budget={"kind": "seconds", "amount": 60})
    heard = listen(folder, ending=(lambda line: line["kind"] == "point", signal.SIGINT))
    assert heard.ended["failure"]["kind"] == "killed"
    assert "SIGINT" in heard.ended["failure"]["message"]


def test_whether_a_disk_takes_anything_is_tried(tmp_path: Path) -> None:
    assert disk_problem(tmp_path) is None
    assert not list(tmp_path.iterdir())
    ask = "import sys; from pathlib import Path; from gpu_runner.machine.faults import disk_problem as ask\n"
    ask += "print(ask(Path(sys.argv[1])))"
    full = [*on_a_small_disk(100_000, tmp_path), sys.executable, "-c", ask, str(tmp_path)]
    shut = [
        "bwrap",
        "--dev-bind",
        "/",
        "/",
        "--ro-bind",
        str(tmp_path),
        str(tmp_path),
        sys.executable,
        "-c",
        ask,
        str(tmp_path),
    ]
    said = [subprocess.run(command, capture_output=True, text=True, timeout=60).stdout for command in (full, shut)]
    assert said == ["its disk is full\n", "its disk can only be read\n"]


# --- every coat -------------------------------------------------------------------------------------


def os_error(number: int, place: str = "/run-1/out/checkpoint.partial/x") -> OSError:
    return OSError(number, os.strerror(number), place)


def rust(number: int) -> SafetensorError:
    return SafetensorError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((os_error(number), "machine_failed") for number in faults.MACHINE),
        *((rust(number), "machine_failed") for number in faults.MACHINE if number != errno.EROFS),
        *((os_error(number), "over_limit") for number in faults.LIMITS),
        *((rust(number), "over_limit") for number in faults.LIMITS),
        (SafetensorError('Read-only file system (os error 30) at path "/run-1/out/.tmpX"'), "machine_failed"),
        (os_error(errno.EROFS, "/usr/lib/x"), "recipe_error"),  # where a recipe has no business
        (SafetensorError('I/O error: Read-only file system (os error 30) at path "/etc/x"'), "recipe_error"),
        (os_error(errno.ENOENT), "recipe_error"),
        (os_error(errno.EACCES), "recipe_error"),
        (rust(errno.ENOENT), "recipe_error"),
        (SafetensorError("Error while deserializing header: header too large"), "recipe_error"),
        (os_error(errno.ENOMEM), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."), "out_of_memory"),
        (OSError("1048576 requested and 16352 written"), "machine_failed"),  # numpy's own
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "machine_failed"),
        (RuntimeError("InductorError: OSError: [Errno 28] No space left on device: '/run-1/out/x'"), "machine_failed"),
        (RuntimeError("C++ compile error\nld: final link failed: No space left on device"), "machine_failed"),
        (RuntimeError("CppCompileError: g++: fatal error: Killed signal terminated program cc1plus"), "killed"),
        (RuntimeError("DataLoader worker (pid 71) is killed by signal: Killed. "), "killed"),
        (RuntimeError("DataLoader worker (pid(s) 71) exited unexpectedly"), "killed"),
        (RuntimeError("DataLoader worker (pid 71) is killed by signal: Segmentation fault. "), "recipe_error"),
        (BrokenProcessPool("A process in the process pool was terminated abruptly"), "killed"),
        (subprocess.CalledProcessError(-9, ["g++"]), "killed"),
        (subprocess.CalledProcessError(1, ["g++"]), "recipe_error"),
        (KeyboardInterrupt(), "killed"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "device_lost"),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), "device_lost"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "machine_failed"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "recipe_error"),
        (ValueError("all the same"), "recipe_error"),
        (SystemExit(0), "recipe_error"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{type(value).__name__}: {value}"[:60],
)  # fmt: skip
def test_each_error_is_told_apart(error: BaseException, kind: str) -> None:
    assert failures.from_exception(error, SOURCE).kind == kind


def test_a_recipes_own_memory_that_is_full_is_its_own_where_the_sandbox_gave_it_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What lies below /tmp and /dev/shm is a run's own at level bubblewrap, 2 GiB each; elsewhere the machine's."""
    errors = (
        os_error(errno.ENOSPC, "/tmp/statistics"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),  # of a write, which names no file
        RuntimeError("unable to write to file </torch_71_2_0>: No space left on device (28)"),
        RuntimeError("DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that dataloader's"
                     " workers are out of shared memory."),
    )  # fmt: skip
    theirs = {failures.from_exception(error, SOURCE).kind for error in errors}
    own = os.statvfs_result((4096, 4096, TMPFS_BYTES // 4096, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(faults.os, "statvfs", lambda _: own)
    mine = {failures.from_exception(error, SOURCE).kind for error in errors}
    assert (theirs, mine) == ({"machine_failed"}, {"over_limit"})
    below = Path("/tmp/house/run-1/source")
    assert failures.from_exception(os_error(errno.ENOSPC, "/tmp/house/run-1/out/x"), below).kind == "machine_failed"


def test_a_machine_without_shared_memory_has_none_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(place: str) -> os.statvfs_result:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)

    monkeypatch.setattr(faults.os, "statvfs", nowhere)
    error = RuntimeError("unable to write to file </torch_71_2_0>: No space left on device (28)")
    assert failures.from_exception(error, SOURCE).kind == "machine_failed"


FILLS_ITS_OWN = """
    fill = open("/dev/shm/much", "wb", buffering=0)
    for _ in range(2_100):
        fill.write(bytes(1 << 20))
    model = build_model("""


def test_a_recipe_that_fills_its_own_memory_answers_for_that(dataset: Path, tmp_path: Path) -> None:
    edit = (("    model = build_model(", FILLS_ITS_OWN),)
    folder = make_run_dir(tmp_path / "run", dataset, edits=edit)
    failure = train(folder, lambda _: on_a_small_disk(TMPFS_BYTES, Path("/dev/shm"))).ended["failure"]
    assert failure["kind"] == "over_limit", failure


def save_badly() -> None:
    try:
        raise os_error(errno.EDQUOT)
    except OSError as full:
        raise RuntimeError("could not be saved") from full


def test_an_error_that_was_handled_does_not_hide_what_it_came_from() -> None:
    with pytest.raises(RuntimeError) as raised:
        save_badly()
    assert failures.from_exception(raised.value, SOURCE).kind == "machine_failed"
    assert raised.value.__cause__ is not None
    raised.value.__cause__.__cause__ = raised.value
    assert cause_of(raised.value) is not None, "nor does a circle stop us"
    assert cause_of(ValueError("all the same")) is None


@pytest.mark.parametrize(
    ("code", "number"), [(-9, 9), (137, 9), (-15, 15), (139, 11), (0, None), (1, None), (255, None), (128, None)]
)
def test_an_exit_code_tells_the_signal_through_a_shim_as_well(code: int, number: int | None) -> None:
    assert signal_of(code) == number


@pytest.mark.parametrize(
    ("said", "is_machines"),
    [
        ("fatal: write error: No space left on device", True),
        ("error: unable to create file train.py: Read-only file system", True),
        ("fatal: Out of memory, malloc failed (tried to allocate 65536 bytes)", True),
        ("fatal: mmap failed: Cannot allocate memory", True),
        ("error: cannot fork() for index-pack: Resource temporarily unavailable", True),
        ("fatal: unable to open object pack directory: Too many open files", True),
        ("error: patch failed: train.py:3", False),
    ],
)
def test_what_git_says_of_its_machine_is_told_from_what_it_says_of_a_patch(said: str, is_machines: bool) -> None:
    assert are_machines(said) == is_machines


def test_a_model_that_writes_where_nobody_may_blames_no_machine() -> None:
    assert cause_in("OSError: [Errno 30] Read-only file system: '/usr/lib/x'") is None
