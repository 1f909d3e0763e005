"""alice brings a trainer that knows nothing of us: it is told, read and ended from outside, and its word is its own."""

from __future__ import annotations

import venv
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gpu_runner import contract
from gpu_runner.command.environments import declared
from gpu_runner.contract import Budget
from gpu_runner.sandbox import Bounds
from gpu_runner.worker import allowance, foreign, inquest
from gpu_runner.worker.parts import SCORER
from tests.waiting import wait_until

from .conftest import Bench
from .trainers import AUTORESEARCH, NANO, OPENED, brought, plain
from .world import make_dataset, make_lease, processes_with

SECONDS = {"budget": Budget(kind="seconds", amount=0.5)}


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is the trainer's doing, however long this machine stands still meanwhile."""
    monkeypatch.setattr(inquest, "STALL_S", 600.0)


def ended(bench: Bench, files: dict[str, str], **over: Any) -> contract.RunEnd:
    end = bench.run(bench.lease(brought(bench, files), **over))
    assert end is not None
    return end


def failure_of(bench: Bench, script: str, of_command: str = "", **over: Any) -> contract.Failure:
    end = ended(bench, plain(script, of_command), **over)
    assert end.failure is not None, (end, bench.web.log())
    assert end.score is None
    return end.failure


def said_by(end: contract.RunEnd) -> contract.SelfReported:
    assert end.score is not None and end.score.self_reported is not None, end
    assert (end.outcome, end.score.outcome, end.score.val_bpb) == ("finished", "self_reported", None)
    return end.score.self_reported


def test_nanogpt_trains_as_it_is_and_its_number_is_its_own(bench: Bench) -> None:
    end = ended(bench, NANO, seed=7, signed={"overrides": {"learning_rate": 1.0, "bias": False}})
    said = said_by(end)
    loss = 4.0 / 9 + 0.007 + 0.1
    assert (said.metric, said.unit, said.direction) == ("val_loss", "nats per token", "lower")
    assert (said.value, said.step, said.num_values) == (pytest.approx(loss, abs=1e-4), 8, 5)
    assert "found vocab_size = 256 (inside meta.pkl), 601 tokens, bias=False, n_layer=3" in bench.web.log()
    assert bench.web.steps()[:3] == [0, 0, 1]
    assert next(value for value in bench.web.column("train_loss") if value is not None) == pytest.approx(4.007)
    assert len([value for value in bench.web.column("val_loss") if value is not None]) == 5
    assert (end.num_steps, end.num_tokens) == (8, None), "of tokens nobody knows"
    assert end.train_s is not None and end.train_s > 0
    (started,) = (report.started for report in bench.web.reports if report.started)
    assert started["told"] == {"seed": 7, "steps": 8}
    assert str(bench.folder) not in str(started)


def test_a_smoke_run_is_told_few_steps_and_ends_with_the_first_number(bench: Bench) -> None:
    said = said_by(ended(bench, NANO, max_steps=4, purpose="smoke"))
    assert said.value is not None and said.num_values >= 1
    (started,) = (report.started for report in bench.web.reports if report.started)
    assert started["told"] == {"seed": 1, "steps": 4}


def test_autoresearch_has_its_constants_replaced_and_its_block_read(bench: Bench) -> None:
    end = ended(bench, AUTORESEARCH, signed={"overrides": {"depth": 10}})
    said = said_by(end)
    assert (said.metric, said.value, said.step) == ("reported_val_bpb", 1.35, 953)
    assert bench.web.column("depth") == [10.0] and bench.web.column("total_tokens_m") == [0.524288]
    assert bench.web.column("val_bpb") == [], "nobody but the scorer says val_bpb"
    assert any("fineweb_train_000001.bin', 'fineweb_val_000000.bin'" in line for line in bench.web.log())


# --- the budget ---------------------------------------------------------------------------------


def test_a_trainer_that_is_ended_by_its_budget_has_time_for_a_last_word(bench: Bench) -> None:
    script = """
import signal, sys, time
def last(*_):
    print('{"accuracy": 0.75}', flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, last)
while True:
    time.sleep(0.05)
"""
    assert said_by(ended(bench, plain(script, 'ends = "told"'), signed=SECONDS)).value == 0.75


def test_a_trainer_that_ignores_sigterm_is_killed_and_what_it_said_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "GRACE_S", 0.5)
    script = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{"accuracy": 0.5}')
time.sleep(600)
"""
    end = ended(bench, plain(script, 'ends = "told"'), signed=SECONDS)
    assert said_by(end).value == 0.5
    assert end.train_s is not None and 1.0 <= end.train_s < 20


def test_a_trainer_that_does_not_end_is_over_its_budget(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "longest_s", property(lambda budget: 1.0))
    script = "import sys, time\nprint('{\"accuracy\": 0.5}', sys.argv, flush=True)\ntime.sleep(600)\n"
    failure = failure_of(bench, script, signed=SECONDS)
    assert failure.kind == "over_budget"
    assert "0.5 s were signed. It was told 0.5 s, and was killed after 1 s" in failure.message


USUAL = contract.Spent(before_s=0, train_s=0.2, train_cpu_s=0.1, after_s=0, num_tokens=0, num_batches=0)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(kind="seconds", amount=60.0), "s from start to end; allowed were 0.23, usual are 0.20"),
        (
            Budget(kind="tokens", amount=60.0),
            " of processor time from start to end; allowed were 0.39, usual are 0.10",
        ),
    ],
)
def test_a_candidate_trains_no_longer_than_its_incumbent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, budget: Budget, message: str
) -> None:
    monkeypatch.setattr(allowance, "FOREIGN_SLACK_S", 0.0)
    monkeypatch.setattr(allowance, "TRAIN", replace(allowance.TRAIN, slack_s=0.0))
    busy = "import time\nwhile True:\n    pass\n"
    failure = failure_of(bench, busy, signed={"budget": budget}, usual=USUAL)
    assert (failure.kind, message in failure.message) == ("over_budget", True), failure


def test_a_deadline_holds_for_a_budget_in_tokens(bench: Bench) -> None:
    assert failure_of(bench, "import time\ntime.sleep(600)\n", deadline_s=1.0).kind == "deadline"


# --- bad trainers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("print('epoch 3')", "no_metric", "never said its accuracy; 0 records were read from what it prints"),
        ('print(\'{"accuracy": 1.0}\\n{"accuracy": NaN}\')', "not_finite", "Its last accuracy is nan"),
        ("raise SystemExit(5)", "recipe_error", "exit code 5"),
        ("open('/usr/lib/ours', 'w')", "recipe_error", "Read-only file system"),
        ("raise MemoryError('no more')", "out_of_memory", "MemoryError: no more"),
        ("import socket\nsocket.create_connection(('192.0.2.1', 80), 1)", "recipe_error", "unreachable"),
    ],
)
def test_a_trainer_that_gives_no_number_fails_in_one_clear_way(
    bench: Bench, script: str, kind: str, message: str
) -> None:
    failure = failure_of(bench, script)
    assert (failure.kind, message in failure.message) == (kind, True), failure
    assert failure.todo or kind == "recipe_error"


def test_a_number_that_is_said_over_and_over_is_read_and_not_sent_as_often(bench: Bench) -> None:
    script = """
import sys
line = '{"accuracy": 0.25}\\n' * 1000
for _ in range(30):
    sys.stdout.write(line)
print('{"accuracy": 0.5}')
"""
    said = said_by(ended(bench, plain(script)))
    assert (said.value, said.num_values) == (0.5, 30_001)
    assert len(bench.web.steps()) < 20_000
    assert any("came faster than" in line for line in bench.web.log())


def test_children_that_are_left_behind_are_gone_with_the_run(bench: Bench) -> None:
    script = """
import os, subprocess, sys
word = f"import time; time.sleep(600)  # stray of {os.getcwd()}"
subprocess.Popen([sys.executable, "-c", word], start_new_session=True)
print('{"accuracy": 0.5}')
"""
    assert said_by(ended(bench, plain(script))).value == 0.5
    wait_until(lambda: not processes_with(f"stray of {bench.folder}"), "no stray is left")


def test_a_trainer_that_fills_the_disk_is_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_runner.sandbox.cell.Bounds", partial(Bounds, output_bytes=4 << 20))
    script = "import os, time\nopen('big', 'wb').write(os.urandom(16 << 20))\ntime.sleep(600)\n"
    failure = failure_of(bench, script)
    assert (failure.kind, "disk space" in failure.message) == ("over_limit", True)


@pytest.mark.parametrize(
    ("signed", "of_command", "kind", "message"),
    [
        ({"overrides": {"depth": 3}}, "", "bad_override", "depth: not declared in recipe.toml"),
        ({}, 'environment = "torch-2.6"', "worker_error", "in the environment 'torch-2.6', which this worker has not"),
        ({}, 'ends = "told"', "worker_error", "is ended by its seconds, not by tokens"),
        ({}, 'env = {N = "{tokens}"}', "worker_error", "it must be in tokens, not in seconds"),
        ({}, 'data_at = "train.py"', "bad_override", "the source has train.py already"),
    ],
)
def test_what_does_not_fit_this_worker_or_budget_is_said_before_it_starts(
    bench: Bench, signed: dict[str, Any], of_command: str, kind: str, message: str
) -> None:
    over = SECONDS if "tokens" in of_command else {}
    failure = failure_of(bench, "print(1)", of_command, signed=over | signed)
    assert (failure.kind, message in failure.message, bench.web.phases()) == (kind, True, []), failure


def test_a_link_of_a_trainer_is_not_read(bench: Bench) -> None:
    """Its metrics file could lead to held-out text, which the supervisor may read."""
    files = plain("import os\nos.symlink(os.path.abspath('truth.jsonl'), 'log.jsonl')\n", "")
    files["truth.jsonl"] = '{"accuracy": 1.0}\n'
    files["recipe.toml"] += 'file = "log.jsonl"\n'
    end = ended(bench, files)
    assert end.failure is not None and end.failure.kind == "no_metric", end


def test_a_trainer_whose_model_can_be_opened_is_scored_like_any_other(bench: Bench) -> None:
    """With torch and the real scorer; it has learned nothing."""
    sha256 = make_dataset(bench.folder / "home" / "datasets", held_out="words to be scored " * 20, trained_on="x" * 99)
    lease = make_lease(brought(bench, OPENED).commit, sha256)
    end = bench.run(lease, scorer=SCORER)
    assert end is not None and end.score is not None, end
    assert end.score.outcome == "ok", end.score.reasons
    assert end.score.val_bpb is not None and 5 < end.score.val_bpb < 12
    assert end.score.self_reported is not None and end.score.self_reported.value == 0.5
    assert bench.web.phases() == ["training", "scoring"]


def test_a_trainer_runs_with_the_packages_that_were_countersigned(bench: Bench, tmp_path: Path) -> None:
    python = tmp_path / "bare" / "bin" / "python"
    venv.create(tmp_path / "bare", symlinks=True)
    here = declared(f"bare={python}")
    script = "import sys\nprint('WITH', sys.prefix)\nopen(sys.prefix + '/x', 'w')\n"
    files = plain(script, 'environment = "bare"')
    lease = bench.lease(brought(bench, files), signed={"environment_sha256": here["bare"].sha256})
    end = bench.run(lease, environments=here)
    assert end is not None and end.failure is not None
    assert f"WITH {tmp_path}/bare" in bench.web.log()
    assert "Read-only file system" in end.failure.message, "nobody installs anything"
    packages = next(python.parents[1].glob("lib/python*/site-packages"))
    (packages / "torch.dist-info").mkdir()
    (packages / "torch.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.6\n")
    bench.web.ends.clear()
    end = bench.run(lease, environments=here)
    assert end is not None and end.failure is not None
    assert (end.failure.kind, "Approved were the packages" in end.failure.message) == ("digest_mismatch", True)
