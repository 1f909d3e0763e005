"""What a proposal may not change: the order of the text, the budget, how a run ends and what it says."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gpu_runner.contract import Budget
from gpu_runner.data.manifest import manifest_sha256
from gpu_runner.data.order import row_starts
from gpu_runner.harness import failures
from gpu_runner.harness.batches import Batches
from gpu_runner.harness.clock import BudgetClock
from gpu_runner.harness.dataset import Dataset, open_dataset
from gpu_runner.harness.loading import load_recipe
from gpu_runner.harness.pipe import MAX_WAITING, Pipe
from gpu_runner.harness.telemetry import UpdateRatios
from gpu_runner.harness.warm_up import COMPILE_FROM_S
from gpu_runner.harness.watch import Watch
from tests.gpu_runner.training import TINY, after, listen, make_run_dir

# --- whole processes ---------------------------------------------------------------------------


def test_five_steps_under_one_seed_are_the_same_to_the_last_bit(dataset: Path, tmp_path: Path) -> None:
    first, second, other = (
        listen(make_run_dir(tmp_path / name, dataset, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert len(first.curve("train_loss")) == 5
    assert first.curve("train_loss") == second.curve("train_loss")
    assert first.curve("watch_bpb") == second.curve("watch_bpb")
    assert first.curve("train_loss")[0] != other.curve("train_loss")[0]
    started = listen(make_run_dir(tmp_path / "d", dataset, seed=1), before=["env"])
    assert (started.code, started.curve("train_loss")) == (0, first.curve("train_loss")), "not forked, but as ever"


def test_a_smoke_run_says_all_that_the_page_shows(dataset: Path, tmp_path: Path) -> None:
    heard = listen(make_run_dir(tmp_path / "run", dataset))
    assert heard.code == 0, heard.stderr
    kinds = [line["kind"] for line in heard.lines]
    assert kinds[0] == "started"
    assert kinds.count("started") == kinds.count("ended") == 1
    started = heard.of("started")[0]
    assert started["knobs"]["depth"] == 2
    assert (started["device"], started["compile"], started["threads"]) == ("cpu", False, 1)
    assert [p["step"] for p in heard.of("point")] == [1, 2, 3, 4, 5, 5]
    assert heard.of("progress")[-1] | {"eta_s": 0} == {
        "kind": "progress", "fraction": 1.0, "eta_s": 0, "step": 5, "num_steps": 5
    }  # fmt: skip
    ended = heard.ended
    assert (ended["outcome"], ended["failure"], ended["num_steps"], ended["num_tokens"]) == ("ok", None, 5, 640)
    assert ended["self_reported_bpb"] == heard.curve("watch_bpb")[-1]


def test_the_checkpoint_is_whole_and_what_was_trained(dataset: Path, tmp_path: Path) -> None:
    folder = make_run_dir(tmp_path / "run", dataset)
    assert listen(folder).code == 0
    saved = folder / "out" / "checkpoint"
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((saved / "config.json").read_text())
    model = load_recipe(folder / "source").build_model(config)
    model.load_state_dict(load_file(saved / "model.safetensors"))
    assert config["seq_len"] == TINY["seq_len"]
    assert not list((folder / "source").rglob("*.pyc"))


def test_a_token_budget_is_never_exceeded_and_the_curve_is_watched_on_the_way(dataset: Path, tmp_path: Path) -> None:
    heard = listen(make_run_dir(tmp_path / "run", dataset, max_steps=None))
    assert heard.code == 0, heard.stderr
    # 128 tokens a step: 78 steps are 9,984 of 10,000 tokens, one more would be too many.
    assert (heard.ended["num_steps"], heard.ended["num_tokens"]) == (78, 9_984)
    watched = [p["tokens"] for p in heard.of("point") if "watch_bpb" in p["metrics"]]
    assert len(watched) == 10
    assert watched == sorted(watched)
    assert watched[-1] == 9_984


@pytest.mark.parametrize(
    ("edit", "kind", "said"),
    [
        (("return nats, nats + z_loss", "return nats * float('nan'), nats + z_loss"), "not_finite", "step 1"),
        (
            ("optimizer = Optimizer(model, run, crew)", "optimizer = Optimiser(model, run, crew)"),
            "recipe_error",
            "Optimiser",
        ),
        (("run.save(model, config)", "raise SystemExit(0)"), "recipe_error", "ended the process itself"),
        (("run.save(model, config)", "return"), "recipe_error", "without run.save"),
        (("run.report(nats, lr_scale=scale", "dict(nats=nats, lr_scale=scale"), "recipe_error", "run.report"),
        (("x, y = next(batches)", "x, y = batches.dummy()"), "recipe_error", "drew no batch"),
        (("    model = build_model(", "    torch.empty(1 << 60)\n    model = build_model("), "out_of_memory", "memory"),
    ],
    ids=["nan", "typo", "exit", "unsaved", "unreported", "undrawn", "memory"],
)
def test_a_broken_proposal_ends_with_a_reason(
    dataset: Path, tmp_path: Path, edit: tuple[str, str], kind: str, said: str
) -> None:
    folder = make_run_dir(tmp_path / "run", dataset, edits=(edit,))
    heard = listen(folder)
    assert heard.code == 1
    failure = heard.ended["failure"]
    assert failure["kind"] == kind
    assert said in failure["message"]
    assert failure["todo"]
    assert heard.ended["self_reported_bpb"] is None
    assert not (folder / "out" / "checkpoint").exists()


def test_a_traceback_begins_in_the_proposed_code(dataset: Path, tmp_path: Path) -> None:
    edit = ("    optimizer = Optimizer(model, run, crew)", "    optimizer = Optimiser(model, run, crew)")
    message = listen(make_run_dir(tmp_path / "run", dataset, edits=(edit,))).ended["failure"]["message"]
    assert message.splitlines()[0].strip().startswith('File "train.py", line')
    assert message.splitlines()[-1].startswith("NameError")


@pytest.mark.parametrize(
    ("over", "kind", "said"),
    [
        ({"overrides": {"depth": 99}}, "bad_override", "depth: 99 is above its upper bound 32"),
        ({"dataset_sha256": "0" * 64}, "dataset_missing", "was approved"),
        ({"max_steps": None, "budget": {"kind": "tokens", "amount": 100}}, "bad_override", "lower batch_size"),
        ({"device": "cuda"}, "device_lost", "torch sees no GPU"),
        ({"seed": -1}, "worker_error", "seed"),
        ({"seed": 2**32}, "worker_error", "seed"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_step(
    dataset: Path, tmp_path: Path, over: dict[str, Any], kind: str, said: str
) -> None:
    if over.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    heard = listen(make_run_dir(tmp_path / "run", dataset, **over))
    assert heard.code == 1
    assert heard.ended["failure"]["kind"] == kind
    assert said in heard.ended["failure"]["message"]
    assert not heard.of("point")


def test_a_missing_shard_is_named(dataset: Path, tmp_path: Path) -> None:
    heard = listen(make_run_dir(tmp_path / "run", dataset, dataset_dir=str(tmp_path / "nowhere")))
    assert heard.ended["failure"]["kind"] == "dataset_missing"
    assert "nowhere" in heard.ended["failure"]["message"]
    assert heard.ended["num_steps"] is None


# --- the order of the text ---------------------------------------------------------------------


def open_text(dataset: Path, seed: int = 1) -> Dataset:
    return open_dataset(dataset / "train", manifest_sha256(dataset), seed=seed)


def batches_of(dataset: Path, *, seed: int, batch_size: int, seq_len: int = 64, **over: int) -> Batches:
    chosen: dict[str, Any] = {"batch_size": batch_size, "seq_len": seq_len, "device": "cpu"} | over
    batches = Batches(open_text(dataset, seed), drawn=lambda _: None, **chosen)
    batches.begin()
    return batches


def test_the_order_belongs_to_the_seed_and_not_to_the_batch_size_or_the_models_luck(dataset: Path) -> None:
    torch.manual_seed(1)
    eights = batches_of(dataset, seed=5, batch_size=8)
    rows = torch.cat([next(eights)[0] for _ in range(3)])
    torch.manual_seed(99)
    assert torch.equal(rows, next(batches_of(dataset, seed=5, batch_size=24))[0])
    assert not torch.equal(rows, next(batches_of(dataset, seed=6, batch_size=24))[0])


def test_two_processes_are_given_the_rows_of_one_between_them(dataset: Path) -> None:
    alone = next(batches_of(dataset, seed=5, batch_size=8))[0]
    shares = [next(batches_of(dataset, seed=5, batch_size=8, rank=rank, world_size=2))[0] for rank in range(2)]
    assert [len(share) for share in shares] == [4, 4]
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), alone)


def test_going_on_is_reading_on(dataset: Path) -> None:
    unbroken, later = (batches_of(dataset, seed=5, batch_size=8) for _ in range(2))
    for _ in range(3):
        next(unbroken)
    later.seek(unbroken.num_rows)
    assert later.num_rows == 24
    assert torch.equal(next(unbroken)[0], next(later)[0])


def test_targets_are_the_inputs_one_further(dataset: Path) -> None:
    x, y = next(batches_of(dataset, seed=1, batch_size=4))
    assert (x.shape, x.dtype, y.dtype) == ((4, 64), torch.int64, torch.int64)
    assert torch.equal(x[:, 1:], y[:, :-1])


def test_an_epoch_reads_every_row_once() -> None:
    starts = row_starts(num_tokens=1_000, seq_len=10, seed=3)
    epoch = [next(starts) for _ in range(98)]
    assert len({start // 10 for start in epoch}) == len(set(epoch)) == 98
    assert max(epoch) + 10 + 1 <= 1_000


# --- the clock -----------------------------------------------------------------------------------


class Hands:
    """A monotonic clock that tests turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("gpu_runner.harness.clock.time.monotonic", lambda: self.now)


def test_a_snapshot_does_not_cost_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands(monkeypatch)
    clock = BudgetClock(Budget(kind="seconds", amount=10), None)
    clock.plan(128, 1e6)
    clock.start()
    hands.now += 4
    with clock.stopped():
        hands.now += 1_000
    assert (clock.elapsed_s, clock.fraction, clock.allows(128)) == (4, 0.4, True)
    clock.num_steps = 8
    assert (clock.eta_s, clock.expected_steps) == (pytest.approx(6), 20)
    hands.now += 6
    assert not clock.allows(128)


def test_the_watch_curve_is_paid_from_a_budget_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands(monkeypatch)
    clock = BudgetClock(Budget(kind="seconds", amount=10), None)
    clock.plan(128, 1e6)
    clock.start()
    hands.now += 4
    with clock.looking():
        hands.now += 5
    assert (clock.elapsed_s, clock.spent_s, clock.fraction, clock.allows(128)) == (4, 9, 0.9, True)
    hands.now += 1
    assert not clock.allows(128)


def test_flops_reach_as_far_as_the_model_is_cheap() -> None:
    for flops_per_token, steps in ((1e6, 15), (2e6, 7)):
        clock = BudgetClock(Budget(kind="flops", amount=2e9), None)
        clock.plan(128, flops_per_token)
        assert clock.planned_steps == steps


# --- the watch curve -----------------------------------------------------------------------------


def test_watching_a_model_that_knows_nothing_gives_eight_bits_a_byte(dataset: Path) -> None:
    class Ignorant(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*tokens.shape, 256)

    watch = Watch(open_text(dataset), seq_len=64, device="cpu")
    assert watch.num_tokens == 16_384
    seen = watch.look(Ignorant())
    assert (seen.bits_per_byte, seen.logit_rms) == (pytest.approx(8, abs=1e-5), 0.0)
    assert seen.nats_per_token == pytest.approx(math.log(256), abs=1e-5)


# --- the way out -----------------------------------------------------------------------------------


def test_a_reader_that_fell_behind_does_not_stop_training_and_misses_nothing() -> None:
    reading, writing = os.pipe()
    pipe = Pipe(writing)
    for step in range(5_000):  # far more than a pipe holds
        pipe.send("point", step=step, metrics={"train_loss": math.nan})
    assert pipe.waiting
    lines = b""
    while lines.count(b"\n") < 5_000:
        lines += os.read(reading, 65_536)
        pipe.send("progress", fraction=0.5)
    points = [line for line in map(json.loads, lines.splitlines()[:5_000]) if line["kind"] == "point"]
    assert [point["step"] for point in points] == list(range(5_000))
    assert points[0]["metrics"] == {"train_loss": None}
    os.close(reading)
    os.close(writing)


def test_what_is_no_number_leaves_as_null_however_deep_it_stands() -> None:
    reading, writing = os.pipe()
    Pipe(writing).send("started", config={"rates": [0.1, math.nan, (math.inf,)], "seed": 2**53 + 1})
    assert json.loads(os.read(reading, 65_536))["config"] == {"rates": [0.1, None, [None]], "seed": 2**53 + 1}
    os.close(reading)
    os.close(writing)


def test_a_reader_that_never_comes_back_costs_points_and_not_memory() -> None:
    reading, writing = os.pipe()
    pipe = Pipe(writing)
    pipe.waiting = bytearray(MAX_WAITING + 1)
    before = len(pipe.waiting)
    pipe.send("point", step=1)
    assert (pipe.num_dropped, len(pipe.waiting)) == (1, before)
    pipe.log("error", "this is never dropped")
    assert len(pipe.waiting) > before - 65_536
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        pipe.log("info", "nobody listens")
    os.close(writing)


# --- compiling -------------------------------------------------------------------------------------


LONG: dict[str, Any] = {"max_steps": None, "budget": {"kind": "seconds", "amount": COMPILE_FROM_S}}


def test_where_the_compiler_fails_training_goes_on_eager_and_says_so(dataset: Path, tmp_path: Path) -> None:
    folder = make_run_dir(tmp_path / "run", dataset, **LONG)
    heard = listen(folder, ending=(after(1), signal.SIGKILL), CXX="no-such-compiler")
    (warning,) = heard.of("log")
    assert warning["level"] == "warning"
    assert "training eager" in warning["text"]
    assert heard.of("started")[0]["compile"] is False
    assert heard.of("point")


def test_where_compiling_was_asked_for_a_missing_compiler_ends_the_run(dataset: Path, tmp_path: Path) -> None:
    heard = listen(make_run_dir(tmp_path / "run", dataset, compile="always"), CXX="no-such-compiler")
    failure = heard.ended["failure"]
    assert (failure["kind"], "g++" in failure["todo"]) == ("no_compiler", True)
    assert not heard.of("point")


def test_a_run_compiles_where_that_was_asked_for_and_learns_the_same(dataset: Path, tmp_path: Path) -> None:
    # One layer without Muon: compiling costs what there is to compile.
    over = {"overrides": TINY | {"depth": 1, "matrix_optimizer": "adamw"}, "dtype": "float32"}
    eager, compiled = (
        listen(make_run_dir(tmp_path / mode, dataset, compile=mode, **over)) for mode in ("never", "always")
    )
    assert [heard.of("started")[0]["compile"] for heard in (eager, compiled)] == [False, True]
    assert compiled.curve("train_loss") == pytest.approx(eager.curve("train_loss"), abs=0.01)


@pytest.mark.parametrize(
    "over", [{"max_steps": 5}, {"compile": "never"}, {"budget": {"kind": "seconds", "amount": 60}}]
)
def test_a_short_run_on_a_cpu_does_not_even_try_to_compile(dataset: Path, tmp_path: Path, over: dict[str, Any]) -> None:
    folder = make_run_dir(tmp_path / "run", dataset, **(LONG | over))
    heard = listen(folder, ending=(after(1), signal.SIGKILL), CXX="no-such-compiler")
    assert heard.of("started")[0]["compile"] is False
    assert heard.of("log") == []


def test_a_gpu_that_is_gone_is_told_from_a_proposal_that_broke_its_kernel() -> None:
    gone = RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")
    failure = failures.from_exception(gone, Path("/source"))
    assert (failure.kind, "Xid" in failure.todo) == ("device_lost", True)
    broken = RuntimeError("CUDA error: device-side assert triggered")
    assert failures.from_exception(broken, Path("/source")).kind == "recipe_error"


def test_update_ratios_say_how_far_a_step_moved_the_weights() -> None:
    weights = [torch.full((300, 300), 2.0), torch.full((10,), 2.0)]
    ratios = UpdateRatios({"matrices": weights})
    ratios.step_begins()
    for weight in weights:
        weight.mul_(1.01)
    assert ratios.step_ended()["update_ratio/matrices"].item() == pytest.approx(0.01 / 1.01, rel=1e-3)
    ratios.step_begins()
    assert ratios.step_ended() == {}, "not again within two seconds"


def test_running_out_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(1 << 60)
    assert failures.is_out_of_memory(real.value)
    assert failures.is_out_of_memory(MemoryError())
    assert not failures.is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
