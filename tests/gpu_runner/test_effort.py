"""Alice's model is scored by what it learned before the clock ended: one that learns on while it is scored is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpu_runner.contract import Effort, Score
from gpu_runner.harness import checkpoint
from gpu_runner.sandbox import Cell, Spent, cgroups, child_environment, tally
from gpu_runner.sandbox.account import Account
from gpu_runner.scorer import effort, identity
from gpu_runner.scorer.effort import Allowed, Efforts, Stages, Weights
from gpu_runner.scorer.model_process import ModelFailed
from tests.gpu_runner import zoo
from tests.gpu_runner.scoring import make_model, measure
from tests.sandbox import trials

NUM_STEPS = 900  # 1.3 s
SMALL = Weights(num_bytes=4 << 20, num_numbers=1 << 20, other_bytes=1_000)


def learner(folder: Path, name: str, num_steps: int = NUM_STEPS) -> Path:
    build, forward, after = zoo.trains(name, num_steps)
    made = make_model(folder, build=build, forward=forward)
    train = made / "source" / "train.py"
    train.write_text(train.read_text() + after)
    return made


def short(folder: Path, dataset: Path, **over: object) -> Score:
    return measure(folder, dataset, **({"num_challenges": 16} | over))


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning for a second is enough to be met."""
    monkeypatch.setattr(effort, "START_STARTS", 0.4)
    monkeypatch.setattr(effort, "LATER_STARTS", 0.4)


# --- training while being scored ------------------------------------------------------------------


@pytest.mark.usefixtures("tight", "warm_starts")
@pytest.mark.parametrize("name", zoo.TRAINS)
def test_a_model_that_trains_while_it_is_scored_is_disputed(dataset: Path, tmp_path: Path, name: str) -> None:
    measured = short(learner(tmp_path / "run", name), dataset)
    assert measured.outcome == "disputed", measured
    assert measured.val_bpb is not None and measured.val_bpb < 7, "what it would have gained"
    assert measured.evidence is not None and measured.evidence.num_apart == 0, "no answer gives it away"
    assert measured.effort is not None
    assert measured.effort.over == ["later" if name == "anew for every answer" else "start"]
    assert "Training ends when the clock does" in measured.reasons[0]


@pytest.mark.usefixtures("warm_starts")
def test_whoever_goes_on_learning_between_two_answers_is_disputed_by_its_answers(dataset: Path, tmp_path: Path) -> None:
    build = "Model.found = torch.zeros(256, 256)"
    made = make_model(
        tmp_path / "run",
        build=build,
        forward=zoo.body("Model.found = learn(Model.found, 5); return Model.found[tokens]"),
    )
    train = made / "source" / "train.py"
    train.write_text(train.read_text() + zoo.LEARNS.replace("{num_steps}", "5"))
    measured = measure(made, dataset)
    assert measured.outcome == "disputed"
    assert measured.evidence is not None and measured.evidence.num_apart > 100


@pytest.mark.usefixtures("warm_starts")
def test_whoever_trains_for_long_is_not_waited_for(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "START_STARTS", 0.2)
    monkeypatch.setattr(effort, "LATER_STARTS", 0.2)
    measured = short(learner(tmp_path / "run", "in its first forward", 10**6), dataset)
    assert (measured.outcome, measured.val_bpb, measured.effort) == ("failed", None, None)
    (reason,) = measured.reasons
    assert reason.startswith("The model's process was ended: it had used ")
    assert "of processor time before its first answer was out; at most" in reason


@pytest.mark.usefixtures("warm_starts")
@pytest.mark.parametrize("name", zoo.GRADIENTS)
def test_gradients_are_refused_where_a_model_only_answers_and_the_way_out_is_said(
    dataset: Path, tmp_path: Path, name: str
) -> None:
    made = make_model(tmp_path / "run", forward=zoo.body(zoo.GRADIENTS[name]))
    measured = short(made, dataset)
    assert measured.outcome == "failed"
    assert 'File "train.py"' in measured.reasons[0]
    assert "a model that is scored computes none" in measured.reasons[0]
    assert "writes its step as a formula" in measured.reasons[0]


# --- honest models ------------------------------------------------------------------------------


@contextmanager
def busy(num: int) -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


@pytest.mark.usefixtures("warm_starts")
def test_on_a_busy_machine_honest_models_are_believed_all_the_same(dataset: Path, tmp_path: Path) -> None:
    """Two at once, beside processes that never rest."""
    names = ("looks two back", "imports torch's compiler")
    made = [make_model(tmp_path / name, forward=zoo.body(zoo.HONEST[name])) for name in names]
    with busy(os.cpu_count() or 1), ThreadPoolExecutor(len(made)) as at_once:
        found = list(at_once.map(lambda folder: short(folder, dataset), made))
    assert [(measured.outcome, measured.reasons) for measured in found] == [("ok", [])] * 2


def test_a_score_says_what_the_model_did_with_its_time(dataset: Path, tmp_path: Path) -> None:
    made = make_model(tmp_path / "run", build="time.sleep(1); sum(range(20_000_000))")
    told = short(made, dataset).effort
    assert told is not None
    assert (told.clock, told.num_processes, told.num_later, told.over) == ("processor", 2, 1, [])
    assert 0.05 < told.load_s < 1, "what it computed, and not what it slept"
    assert told.ready_s > 0.2, "Python and torch"
    assert told.later_s is not None and told.later_s < 0.5
    assert told.total_s > 2 * told.ready_s
    assert 0.2 < told.checkpoint_mib < 0.3
    assert told.other_mib < 0.01


# --- memory and what is stored --------------------------------------------------------------------


@pytest.mark.usefixtures("warm_starts")
def test_text_that_is_carried_along_in_a_buffer_is_no_model(dataset: Path, tmp_path: Path) -> None:
    made = make_model(tmp_path / "run")
    train = made / "source" / "train.py"
    carries = 'self.register_buffer("text", torch.zeros(2 << 20, dtype=torch.uint8))'
    train.write_text(
        train.read_text().replace("self.num_calls = self.seen = 0", carries + "\n        self.num_calls = 0")
    )
    model = torch.nn.Module()
    model.register_parameter("table", torch.nn.Parameter(torch.zeros(256, 256)))
    model.register_buffer("text", torch.zeros(2 << 20, dtype=torch.uint8))
    checkpoint.save(made / "out", model, {"seq_len": 32, "vocab_size": 256})
    measured = short(made, dataset)
    assert measured.outcome == "disputed"
    assert measured.effort is not None and measured.effort.over == ["checkpoint"]
    assert measured.reasons[0].startswith("2.0 MiB of the checkpoint are no floating-point numbers; at most 1.0 MiB")
    assert "persistent=False" in measured.reasons[0]


@pytest.mark.usefixtures("warm_starts")
def test_a_second_model_and_an_optimizer_are_more_memory_than_a_forward_pass_needs(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "SPARE_BYTES", 200 << 20)
    assert short(make_model(tmp_path / "lean"), dataset).outcome == "ok"
    measured = short(make_model(tmp_path / "run", build="torch.ones(300 << 18)"), dataset)
    assert measured.outcome == "disputed"
    assert measured.effort is not None and measured.effort.over == ["memory"]
    assert measured.effort.peak_memory_mib > 290, "of which it was found at some moment, not at its very peak"


@pytest.mark.parametrize(
    "header",
    [
        b"\xff" * 8, (1 << 40).to_bytes(8, "little"), b"\x02\0\0\0\0\0\0\0[]", b"\x04\0\0\0\0\0\0\0null",
        b"\x0a\0\0\0\0\0\0\0" + b'{"a": {}} ', b"",
        *(
            len(text).to_bytes(8, "little") + text
            for text in (
                b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1000000000]}}',
                b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 0]}}',
                b'{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, "x"]}}',
                b"[" * 100_000,
            )
        ),
    ],
)  # fmt: skip
def test_a_file_of_weights_that_makes_no_sense_is_said_to_be_one(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(header)
    with pytest.raises(ModelFailed, match=r"^model.safetensors: its header "):
        identity.weights_of(tmp_path)


def test_what_is_no_floating_point_number_is_told_apart(tmp_path: Path) -> None:
    model = torch.nn.Module()
    for name, kind in (("a", torch.float32), ("b", torch.bfloat16), ("c", torch.int64), ("d", torch.uint8)):
        model.register_buffer(name, torch.zeros(1_000, dtype=kind))
    weights = identity.weights_of(checkpoint.save(tmp_path, model, {}))
    assert weights.num_numbers == 2_000
    assert weights.num_bytes - weights.other_bytes == 6_000
    assert 9_000 < weights.other_bytes < 10_000, "with the header"


# --- what is believed ---------------------------------------------------------------------------


def spent(at: float, cpu_s: float, mib: int = 200) -> Spent:
    return Spent(at, cpu_s, mib << 20, 4)


def process(load_s: float, first_s: float, later_s: float, num_later: int = 10) -> Stages:
    """One that Python and torch took a second of, by both clocks."""
    marks = [1.0, 1.0 + load_s, 1.0 + load_s + first_s, 1.0 + load_s + first_s + later_s * num_later]
    ready, loaded, first, last = (spent(mark, mark) for mark in marks)
    return Stages(ready=ready, loaded=loaded, first=first, last=last, num_later=num_later, num_tokens=4_096)


def over(allowed: Allowed, *processes: Stages) -> list[str]:
    efforts = Efforts(allowed=allowed)
    for one in processes:
        efforts.note(one)
    assert bool(efforts.reasons()) == bool(efforts.over())
    return list(efforts.over())


def usual(**more: object) -> Effort:
    efforts = Efforts(allowed=Allowed(weights=SMALL, clock="processor"))
    efforts.note(process(0.1, 0.1, 0.02))
    told = efforts.told()
    assert told is not None
    return told.model_copy(update=more)


def test_a_dear_first_answer_is_held_against_the_later_ones() -> None:
    allowed = Allowed(weights=SMALL, clock="processor")
    assert over(allowed, process(0.2, 1.5, 0.01)) == []
    assert over(allowed, process(0.2, 2.5, 0.01)) == ["start"]
    assert over(allowed, process(0.2, 2.5, 2.4)) == [], "as dear as any: slow, and no trainer"
    assert over(allowed, process(2.5, 0.1, 0.01)) == ["start"]
    assert over(allowed, process(0.1, 0.1, 3.5)) == ["later"]
    assert over(allowed, process(0.1, 0.1, 0.1), process(2.5, 0.1, 0.1)) == ["start"], "in whatever process"
    assert over(allowed, process(0.1, 2.5, 0.0, num_later=0)) == [], "there is none to compare it with"
    assert over(allowed, process(0.1, 6.0, 0.0, num_later=0)) == ["start"]


def test_the_incumbents_own_score_says_how_much_is_usual() -> None:
    alone, beside = (Allowed(weights=SMALL, clock="processor", usual=known) for known in (None, usual()))
    twice = process(1.0, 0.8, 0.02)
    assert (over(alone, twice), over(beside, twice)) == ([], ["start"])
    assert (over(alone, process(0.1, 2.5, 2.5)), over(beside, process(0.1, 2.5, 2.5))) == ([], ["later"])
    assert over(beside, process(0.2, 0.9, 0.15)) == [], "deeper, wider, and with more to import"
    by_the_wall = Allowed(weights=SMALL, clock="processor", usual=usual(clock="wall"))
    assert over(by_the_wall, twice) == [], "seconds of another clock say nothing"
    (reason,) = _reasons(beside, twice)
    assert "(the incumbent: 0.1 s to load, 0.1 s to answer first, 0.02 s for a later answer)" in reason


def _reasons(allowed: Allowed, one: Stages) -> list[str]:
    efforts = Efforts(allowed=allowed)
    efforts.note(one)
    return efforts.reasons()


def test_where_a_gpu_is_in_reach_the_wall_clock_stands_in() -> None:
    allowed = Allowed(weights=SMALL, clock="wall")
    assert over(allowed, process(30, 40, 0.2)) == [], "kernels are compiled"
    assert over(allowed, process(30, 80, 0.2)) == ["start"]
    assert over(replace(allowed, usual=usual(clock="wall")), process(10, 20, 0.02)) == ["start"]


def test_after_a_short_training_less_time_goes_into_loading() -> None:
    compiler = process(0.1, 0.95, 0.02)
    for trained_s, known, found in (
        (None, None, []), (300.0, None, []), (60.0, None, []), (15.0, None, ["start"]), (1.0, None, ["start"]),
        (300.0, usual(), []), (60.0, usual(), []), (15.0, usual(), ["start"]),
    ):  # fmt: skip
        allowed = Allowed(weights=SMALL, clock="processor", usual=known, trained_s=trained_s)
        assert over(allowed, compiler) == found, (trained_s, known)
        assert over(allowed, process(0.15, 0.2, 0.02)) == [], "as the shipped recipe's"


def test_a_larger_model_may_take_longer_to_load_and_to_answer() -> None:
    large = replace(SMALL, num_bytes=4 << 30, num_numbers=1 << 30)
    beside = Allowed(weights=large, clock="processor", usual=usual())
    assert over(replace(beside, weights=SMALL), process(4, 4, 0.2)) == ["start"]
    assert over(beside, process(4, 4, 0.2)) == []


# --- counting ----------------------------------------------------------------------------------

BURN = "until = time.process_time() + 0.6\nwhile time.process_time() < until: pass\n"
FORKS = """import os, signal, sys, time
signal.signal(signal.SIGCHLD, {how})
if not os.fork():
    exec(sys.argv[1])
    os._exit(0)
time.sleep(60)
"""


def counted(level: str, *program: str) -> float:
    """Processor seconds of a tree, as soon as they are most of what a child in it burns: all, up to the last look."""
    with Cell(level=level) as cell:
        argv = cell.argv([sys.executable, "-c", *program])
        child = subprocess.Popen(argv, env=child_environment(), start_new_session=True)
        try:
            give_up_at = time.monotonic() + 60
            while (cpu_s := cell.spent(child.pid).cpu_s) is None or cpu_s < 0.4:
                assert time.monotonic() < give_up_at, cpu_s
                time.sleep(0.05)
            return cpu_s
        finally:
            child.kill()
            child.wait()


@pytest.mark.parametrize("level", [*trials.LEVELS, "none"])
@pytest.mark.parametrize("groups", [True, False], ids=["in a control group", "by its processes"])
@pytest.mark.parametrize("how", ["signal.SIG_DFL", "signal.SIG_IGN"], ids=["its own", "that nobody buries"])
def test_what_a_child_computes_is_counted(monkeypatch: pytest.MonkeyPatch, level: str, groups: bool, how: str) -> None:
    if not groups:
        monkeypatch.setattr(cgroups, "make", lambda **_: None)
    assert counted(level, FORKS.format(how=how), "import time\n" + BURN) < 10


SHORT_LIVED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(40):
    told, tell = os.pipe()
    if os.fork() == 0:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        os._exit(0)
    os.close(tell)
    os.read(told, 1)  # it has ended
    os.close(told)
print("all ended", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("level", trials.LEVELS)
def test_children_that_live_between_two_looks_are_counted(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    """The kernel forgets the time of children whose parent wants to hear nothing of them: no parent may want that."""
    monkeypatch.setattr(cgroups, "make", lambda **_: None)
    with Cell(level=level) as cell:
        argv = cell.argv([sys.executable, "-c", SHORT_LIVED])
        child = subprocess.Popen(argv, env=child_environment(), start_new_session=True, stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"all ended\n"
            end_at = time.monotonic() + 10
            while (cpu_s := cell.spent(child.pid).cpu_s or 0.0) < 1.5:  # of 2.0: the kernel tells hundredths
                assert time.monotonic() < end_at, cpu_s
                time.sleep(0.05)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()


def test_what_was_spent_never_becomes_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that nobody buries takes its time with it, but for what was seen of it."""
    seen = iter([{(1, "0"): (1.0, 0.0), (2, "5"): (3.0, 0.0)}, {(1, "0"): (1.5, 0.0)}, {(1, "0"): (1.5, 7.0)}])
    monkeypatch.setattr(tally, "cpu_times", lambda _: next(seen))
    account = Account()
    assert [account.look(1, None, 4096).cpu_s for _ in range(3)] == [4.0, 4.5, 8.5]
