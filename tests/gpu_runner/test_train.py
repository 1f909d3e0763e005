"""Dana pretrains by hand: `python -m gpu_runner train SPEC.toml`, without dashboard, database or Redis."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpu_runner.contract import Score
from gpu_runner.data.prepare import prepare
from gpu_runner.harness.loading import load_recipe
from gpu_runner.standalone.folder import state_of
from gpu_runner.standalone.spec import load_spec
from gpu_runner.standalone.train import refuse_overrun
from gpu_runner.worker.endings import RunFailure
from tests.gpu_runner.by_hand import Place, Refusals
from tests.gpu_runner.training import PATIENCE_S, RECIPE, TINY


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("datasets")).parent


@pytest.fixture
def place(tmp_path: Path, datasets: Path) -> Place:
    return Place(tmp_path, datasets)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusals:
    return Refusals(monkeypatch, capsys)


@dataclass(frozen=True)
class Finished:
    place: Place
    ran: subprocess.CompletedProcess[str]
    folder: Path

    @property
    def ended(self) -> dict[str, Any]:
        return ended_of(self.folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, datasets: Path) -> Finished:
    """A run that nobody disturbed, scored."""
    place = Place(tmp_path_factory.mktemp("dana"), datasets)
    ran = place.train(place.spec(), "--seed", "3", "--set", "matrix_lr=0.03", "--json", "--score")
    assert ran.returncode == 0, ran.stderr
    return Finished(place, ran, place.folder / "runs" / "tiny-3")


SAME_RUN = ("--seed", "3", "--set", "matrix_lr=0.03")


def ended_of(folder: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((folder / "ended.json").read_bytes())
    return body


def points_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "points.jsonl").read_text().splitlines()]


def watch_curve(folder: Path) -> list[tuple[int, float]]:
    return [(p["step"], p["metrics"]["watch_bpb"]) for p in points_of(folder) if "watch_bpb" in p["metrics"]]


def weights(folder: Path) -> bytes:
    return (folder / "out" / "checkpoint" / "model.safetensors").read_bytes()


def until(happened: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.02)


def has_snapshot(folder: Path) -> bool:
    return any((folder / "out").glob("snapshot-*"))


def slow(place: Place, *, machine: str = "") -> Path:
    """The same run with time to be stopped in, on a fast machine too."""
    return place.spec(recipe=place.recipe("slow", "__import__('time').sleep(0.02)"), machine=machine)


def harness_processes(folder: Path) -> list[str]:
    """Processes of this machine that train in ``folder``."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"gpu_runner.harness {folder} " in line]


# --- a run that ends well ---------------------------------------------------------------------


def test_dana_trains_from_a_spec_and_finds_the_curve_the_log_the_weights_and_what_was_run(finished: Finished) -> None:
    folder = finished.folder
    assert state_of(folder) == "finished"
    assert (folder / "source" / "train.py").read_bytes() == (RECIPE / "train.py").read_bytes()
    config = json.loads((folder / "out" / "checkpoint" / "config.json").read_text())
    assert sum(p.numel() for p in load_recipe(folder / "source").build_model(config).parameters()) > 100_000
    assert [step for step, _ in watch_curve(folder)][-1] == 125
    measured = {name for point in points_of(folder) for name in point["metrics"]}
    assert measured >= {"train_loss", "watch_bpb", "grad_norm", "tokens_per_s", "step_ms_p95", "peak_memory_mib"}
    assert "step 125: " in (folder / "log.txt").read_text()
    left = {path.name for path in folder.iterdir()} | {f"out/{path.name}" for path in (folder / "out").iterdir()}
    files = {"source", "spec.toml", "spec.json", "points.jsonl", "log.txt", "ended.json", ".lock", "out"}
    assert left == files | {"out/checkpoint"}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny-3"]


def test_json_on_stdout_is_what_ended_json_holds(finished: Finished) -> None:
    assert json.loads(finished.ran.stdout) == finished.ended
    ended = finished.ended
    assert (ended["outcome"], ended["failure"], ended["seed"]) == ("ok", None, 3)
    assert ended["overrides"] == TINY | {"matrix_lr": 0.03}
    numbers = ended["numbers"]
    assert (numbers["num_steps"], numbers["num_tokens"]) == (125, 16_000)
    assert numbers["tokens_per_s"] == pytest.approx(numbers["num_tokens"] / numbers["train_s"])
    assert numbers["total_s"] > numbers["train_s"]
    assert numbers["mfu_percent"] is None, "a CPU has no peak to be a percentage of"
    assert ended["machine"]["torch"] == ended["started"]["torch"]


def test_the_trusted_scorer_measures_the_checkpoint(finished: Finished) -> None:
    measured = Score.model_validate(finished.ended["score"])
    assert measured.outcome == "ok"
    assert measured.val_bpb == finished.ended["numbers"]["val_bpb"]
    assert measured.val_bpb == pytest.approx(finished.ended["numbers"]["watch_bpb"], abs=0.5)
    assert f"{measured.val_bpb:.4f} bits per byte (ok)" in finished.ran.stderr


def test_without_a_terminal_progress_is_plain_lines_and_the_end_a_table(finished: Finished) -> None:
    said = finished.ran.stderr  # --json: stdout is for the JSON
    assert "parameters" in said.splitlines()[1]
    assert "bits per byte, on 16,384 held-out tokens" in said
    for line in (r"steps +125", r"tokens +16,000", r"speed +[\d,]+ tokens/s", r"checkpoint +/.*/out/checkpoint"):
        assert re.search(rf"^  {line}$", said, re.M), line
    assert "\x1b" not in said


def test_a_finished_run_is_never_written_over(finished: Finished, refused: Refusals) -> None:
    before = (finished.folder / "ended.json").read_bytes()
    for flags in ((), ("--resume",)):
        said = refused(finished.place, "tiny.toml", *SAME_RUN, *flags)
        assert "finished run" in said
        assert "--out" in said
    assert (finished.folder / "ended.json").read_bytes() == before


# --- a run that is stopped or killed ------------------------------------------------------------


@pytest.mark.parametrize("sandbox", ["none", "bubblewrap"])
def test_a_stopped_run_goes_on_by_the_command_that_it_prints_to_the_very_same_weights(
    place: Place, finished: Finished, refused: Refusals, sandbox: str
) -> None:
    spec, folder = slow(place, machine=f'sandbox = "{sandbox}"'), place.folder / "runs" / "tiny-3"
    with place.training(spec, *SAME_RUN) as process:
        until(lambda: has_snapshot(folder))
        assert "trained by another process" in refused(place, spec, *SAME_RUN, "--resume")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75, said
    command = said.splitlines()[-1].strip()
    assert shlex.split(command)[:4] == ["python", "-m", "gpu_runner", "train"]
    stopped = ended_of(folder)
    assert (stopped["outcome"], stopped["can_resume"]) == ("stopped", True)
    assert f"after step {stopped['numbers']['num_steps']}" in said
    assert "add --resume" in refused(place, spec, *SAME_RUN)

    went_on = place.train(*shlex.split(command)[4:], "--quiet")
    assert went_on.returncode == 0, went_on.stderr
    assert ended_of(folder)["started"]["resumed_at_step"] == stopped["numbers"]["num_steps"]
    assert watch_curve(folder) == watch_curve(finished.folder)
    assert weights(folder) == weights(finished.folder)


def test_when_the_command_is_killed_training_ends_too_and_goes_on_from_the_last_snapshot(
    place: Place, finished: Finished
) -> None:
    spec, folder = slow(place), place.folder / "elsewhere"
    with place.training(spec, *SAME_RUN, "--out", folder) as process:
        until(lambda: has_snapshot(folder) and len(points_of(folder)) > 3)
        process.kill()
        process.wait(timeout=PATIENCE_S)
    until(lambda: not harness_processes(folder))
    assert state_of(folder) == "interrupted"
    assert not (folder / "out" / "checkpoint").exists()
    assert place.train(spec, *SAME_RUN, "--out", folder, "--resume", "--quiet").returncode == 0
    assert ended_of(folder)["started"]["resumed_at_step"] > 0
    steps = [point["step"] for point in points_of(folder)]
    assert steps == sorted(steps), "what was trained again stands once in the curve"
    assert watch_curve(folder) == watch_curve(finished.folder)
    assert weights(folder) == weights(finished.folder)


def test_a_second_ctrl_c_does_not_wait_and_a_changed_spec_cannot_go_on(place: Place, refused: Refusals) -> None:
    asleep = place.folder / "asleep"  # no point tells: twenty steps may take less than the time between two
    sleep = f"(open({str(asleep)!r}, 'w').close(), __import__('time').sleep(600))"
    recipe = place.recipe("sleepy", f"{sleep} if fraction > 0.5 else None")
    spec, folder = place.spec(recipe=recipe, budget="tokens = 5_000"), place.folder / "runs" / "tiny-1"
    with place.training(spec) as process:
        until(asleep.exists)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        until(lambda: "Once more ends it at once" in process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 75
    assert not harness_processes(folder)
    assert "overrides.depth: is not what" in refused(place, spec, "--set", "depth=3", "--resume")
    with open(place.folder / recipe / "train.py", "a") as file:
        file.write("# a second thought\n")
    said = refused(place, spec, "--resume")
    assert "recipe: is not what" in said
    assert f"train {folder}/spec.toml --out {folder} --resume` goes on as it was begun" in said


def test_a_deadline_ends_what_does_not_end(place: Place) -> None:
    ran = place.train(place.spec(budget="flops = 1e18", machine='deadline_s = 8\ncompile = "never"'), "--quiet")
    assert ran.returncode == 1
    assert "deadline: Training did not end within machine.deadline_s = 8 s" in ran.stdout
    ended = ended_of(place.folder / "runs" / "tiny-1")
    assert (ended["outcome"], ended["can_resume"]) == ("failed", True)
    assert not harness_processes(place.folder / "runs" / "tiny-1")


def test_a_budget_in_seconds_has_a_deadline_by_the_commands_own_clock(place: Place) -> None:
    spec = load_spec(place.spec(budget="seconds = 20"))
    refuse_overrun(spec, now_s=500.0, started_at_s=None)  # still compiling
    refuse_overrun(spec, now_s=99.0, started_at_s=10.0)
    with pytest.raises(RunFailure, match=r"20 s was not spent after 90 s"):
        refuse_overrun(spec, now_s=101.0, started_at_s=10.0)


# --- a run that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "kind", "said", "todo"),
    [
        ("model.embed.weight.data.fill_(float('nan'))", "not_finite", "loss became nan at step 1.", "learning rate"),
        ("torch.empty(1 << 60)", "out_of_memory", "memory", "Lower batch_size"),
    ],
    ids=["nan", "memory"],
)
def test_a_run_that_fails_says_in_one_sentence_why_and_what_to_do(
    place: Place, refused: Refusals, step: str, kind: str, said: str, todo: str
) -> None:
    ran = place.train(place.spec(recipe=place.recipe("mine", step)), "--quiet")
    assert ran.returncode == 1
    sentence, advice = ran.stdout.strip().splitlines()
    assert sentence.startswith(f"{kind}: ")
    assert said in sentence
    assert todo in advice
    folder = place.folder / "runs" / "tiny-1"
    assert ended_of(folder)["failure"]["kind"] == kind
    assert ended_of(folder)["numbers"]["watch_bpb"] is None
    assert "nothing to go on from" in refused(place, "tiny.toml", "--resume")


# --- several processes ----------------------------------------------------------------------------


def test_two_processes_train_one_model_and_stop_and_go_on_together(place: Place) -> None:
    folder = place.folder / "runs" / "tiny-1"
    recipe = place.recipe("slow", "__import__('time').sleep(0.05)")
    spec = place.spec(recipe=recipe, budget="tokens = 4_000", machine="processes = 2")
    with place.training(spec) as process:
        until(lambda: has_snapshot(folder))
        process.terminate()
        said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 75, said
    assert "2 processes" in said
    assert "Traceback" not in said, "torchrun's report of its ended processes is left out"
    assert not harness_processes(folder)
    went_on = place.train(spec, "--resume", "--quiet")
    assert went_on.returncode == 0, went_on.stderr
    ended = ended_of(folder)
    assert (ended["started"]["world_size"], ended["numbers"]["num_steps"]) == (2, 31)
    assert ended["started"]["resumed_at_step"] > 0
    assert [path.name for path in (folder / "out").iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("torch.empty(1 << 60) if run.team.rank else None", r"out_of_memory: Process 1 failed: .*\nLower batch_size"),
        ("run.tame.rank if run.team.rank else None", r"recipe_error: Process 1 failed: AttributeError: .*\nCorrect"),
    ],
    ids=["memory", "typo"],
)
def test_when_one_of_two_processes_fails_its_reason_is_told_and_not_what_the_other_made_of_it(
    place: Place, step: str, said: str
) -> None:
    spec = place.spec(recipe=place.recipe("uneven", step), budget="tokens = 2_000", machine="processes = 2")
    ran = place.train(spec, "--quiet")
    assert ran.returncode == 1
    assert re.match(said, ran.stdout), ran.stdout
    assert not harness_processes(place.folder / "runs" / "tiny-1")


# --- a terminal -----------------------------------------------------------------------------------


def test_on_a_terminal_a_bar_moves_and_a_recipe_cannot_write_escapes_to_it(place: Place) -> None:
    recipe = place.recipe("painter", r"print('\x1b]0;owned\x07fraction', fraction)")
    place.spec(recipe=recipe, budget="tokens = 64_000")  # long enough for a bar that is drawn four times a second
    shown = on_a_terminal(place, "tiny.toml")
    assert "━" in shown
    assert re.search(r"\d+ %  step \d+ of 500", shown)
    assert "]0;owned" not in shown
    assert "fraction 0.5" in shown
    assert re.search(r"watch +\d\.\d+ bits per byte\r?\n", shown.rsplit("\x1b[2K", 1)[-1]), "the table stays"


def on_a_terminal(place: Place, *words: str) -> str:
    """All that the command writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gpu_runner", "train", *words],
        cwd=place.folder,
        env=place.environment | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65_536):
            shown += block
    except OSError:  # Linux: the other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=PATIENCE_S) == 0, shown
    return shown.decode()


# --- a kept one -----------------------------------------------------------------------------------


def test_a_recipe_is_copied_without_the_runs_that_lie_in_its_folder(finished: Finished) -> None:
    """A kept spec trains again as it stands, and what it makes inside its own folder is not copied into the next."""
    folder = finished.folder
    again = finished.place.train(folder / "spec.toml", "--out", folder / "source" / "again", "--quiet")
    assert again.returncode == 0, again.stderr
    assert weights(folder / "source" / "again") == weights(folder)
    copied = sorted(path.name for path in (folder / "source" / "again" / "source").iterdir())
    assert copied == sorted(path.name for path in RECIPE.iterdir() if path.name != "__pycache__")
